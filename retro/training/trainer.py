"""Trains a run: resumable at every checkpoint, measured with retrieval on and off."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn

import torch

from retro.config.corpus import Exclusion
from retro.config.training import FIRST_CHECKPOINT, TrainingConfig
from retro.corpus.corpus import Corpus
from retro.data.dataset import SequenceDataset, SequenceOrder
from retro.data.tokenizer import open_tokenizer
from retro.device import autocast_dtype, default_device, keep_freed_memory
from retro.errors import (
    ArtifactMismatchError,
    ArtifactMissingError,
    ConfigError,
    TrainingError,
)
from retro.model.language_model import LanguageModel
from retro.model.open import new_model, settle_settings
from retro.progress import Progress, no_progress
from retro.run import CorpusFacts, Run, open_run, resolved_run, write_resolved
from retro.run_space import require_room
from retro.training.alerts import Alert, not_finite, not_finite_after, note_validation
from retro.training.batches import DeviceBatch, load_batches
from retro.training.checkpoint import (
    delete_old_checkpoints,
    restore_newest,
    save_checkpoint,
    seed_random_states,
)
from retro.training.compilation import compile_network
from retro.training.listener import SilentListener, TrainingListener
from retro.training.lock import only_trainer
from retro.training.optimizer import learning_rate, make_optimizer
from retro.training.state import TrainerState
from retro.training.validation import validation_losses
from retro.training.window import ReportWindow, StepReport
from retro.whole_files import remove_staging

__all__ = [
    "SilentListener",
    "TrainResult",
    "Trainer",
    "TrainingListener",
    "corpus_facts",
    "train",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """How a call of ``train`` ended."""

    state: Literal["finished", "stopped"]
    step: int
    val_loss_on: float | None
    val_loss_off: float | None


def corpus_facts(corpus: Corpus, corpus_dir: Path) -> CorpusFacts:
    """Return what a run must know of an opened corpus."""
    return CorpusFacts(
        path=corpus_dir,
        fingerprint=corpus.fingerprint,
        tokenizer_dir=corpus_dir / "tokenizer",
        tokenizer_fingerprint=corpus.tokenizer.fingerprint,
        num_tokens=corpus.tokenizer.vocab_size,
        chunk_size=corpus.database.chunk_size,
        num_neighbors=corpus.neighbors_CK.shape[1],
        exclusion_window=(
            corpus.config.exclusion_window if corpus.exclusion is Exclusion.WINDOW else None
        ),
        summary=corpus.summary().to_dict(),
    )


def train(
    run_dir: Path,
    *,
    corpus_dir: Path | None = None,
    max_steps: int | None = None,
    device: torch.device | None = None,
    listener: TrainingListener | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Progress = no_progress,
) -> TrainResult:
    """Train a run from its newest checkpoint, or from the start, to its last step.

    A longer ``max_steps`` extends a run, finished or not. The learning rate then follows the
    cosine of the new length from the next step on, so that of a finished run rises at once
    (``retro.training.optimizer.extension_note`` says how far) and falls again to the new end.

    Args:
        run_dir: Folder that ``create_run`` made.
        corpus_dir: Folder of the corpus; None is where it was when the run was made.
        max_steps: New length of the run, in optimizer steps, at least those it has taken; None
            keeps it. It is written down only if the run can start.
        device: Where to train; None is a GPU where there is one.
        listener: Hears of metrics, checkpoints and alerts.
        should_stop: Asked after every step; True writes a checkpoint and ends.
        on_progress: Called with stage ``train`` and optimizer steps.

    Returns:
        Whether all steps are done, and the newest losses.

    Raises:
        ArtifactMissingError: The neighbors of the corpus are still being found.
        ArtifactMismatchError: The corpus is not the one the run was started with, or every
            checkpoint is damaged.
        ConfigError: A setting does not fit the corpus, or the run is longer already.
        TrainingError: The loss is no longer a number, or another process trains the run.
        DiskFullError: There is no room for the checkpoints to come, or no longer; earlier ones
            are kept.
    """
    open_run(run_dir)
    listener = listener or SilentListener()
    with only_trainer(run_dir):
        run = open_run(run_dir)
        for folder in (run.path, run.checkpoints_dir):
            remove_staging(folder)
        corpus_dir = run.corpus_path if corpus_dir is None else corpus_dir
        corpus = Corpus.open(corpus_dir)
        if not corpus.has_neighbors:
            raise ArtifactMissingError(
                f"Training needs the neighbors of all chunks, and those of {corpus_dir.name} are "
                f"still being found. Wait until its build has ended."
            )
        facts = corpus_facts(corpus, corpus_dir)
        run = resolved_run(run, facts, max_steps=max_steps)
        assert run.model is not None
        run = replace(run, model=settle_settings(run.kind, run.model))
        require_room(run)
        trainer = Trainer(run, corpus, device or default_device(), on_alert=listener.on_alert)
        write_resolved(run, facts)
        return trainer.train(listener, should_stop, on_progress)


class Trainer:
    """Model, optimizer, data and place of one run."""

    def __init__(
        self,
        run: Run,
        corpus: Corpus,
        device: torch.device,
        *,
        on_alert: Callable[[Alert], None] = lambda _alert: None,
    ) -> None:
        assert run.model is not None
        assert run.training is not None
        self.run = run
        self.config: TrainingConfig = run.training
        self.device = device
        self.dtype = autocast_dtype(device, self.config.precision)
        seed_random_states(self.config.seed)
        if device.type == "cpu":
            keep_freed_memory()
        self.model: LanguageModel = new_model(run.kind, run.model, device)
        self._check_fit(corpus)
        self.model.gradient_checkpointing = self.config.gradient_checkpointing
        self.network = self.model.network
        if self.config.compile:
            compile_network(self.network)
        self.optimizer = make_optimizer(self.network, self.config)
        self.dataset = self._dataset(corpus, "train")
        self.validation = self._dataset(corpus, "validation")
        self.order = SequenceOrder(self.dataset, self.config.batch_size, self.config.seed)
        self.resumed = restore_newest(run, self.model, self.optimizer, on_alert)
        self.state = self.resumed or TrainerState()

    def _check_fit(self, corpus: Corpus) -> None:
        """Refuse what a model that was trained before cannot learn from."""
        length, window = self.config.sequence_length, self.model.window
        if length > window:
            raise ConfigError(
                f"sequence_length must be at most the model's window of {window} tokens, got "
                f"{length}. Shorten it."
            )
        folder = self.model.tokenizer_dir
        if folder is None or open_tokenizer(folder).fingerprint == corpus.tokenizer.fingerprint:
            return
        raise ArtifactMismatchError(
            f"A pretrained model learns from a corpus that its own tokenizer has cut, and "
            f"{self.run.corpus_path.name} was cut by another one. Build the corpus with "
            f"--tokenizer {folder.name}."
        )

    def _dataset(self, corpus: Corpus, split: Literal["train", "validation"]) -> SequenceDataset:
        return SequenceDataset(
            corpus.database,
            corpus.neighbors_CK,
            split=split,
            sequence_length=self.config.sequence_length,
            num_neighbors=self.config.num_neighbors,
            packing=self.config.packing,
        )

    def train(
        self, listener: TrainingListener, should_stop: Callable[[], bool], on_progress: Progress
    ) -> TrainResult:
        """Run the remaining steps; see the function ``train``."""
        config, state = self.config, self.state
        listener.on_resume(state.step)
        # A process that was killed between writing and deleting has left more than are kept.
        self._delete_old(listener)
        on_progress("train", state.step, config.max_steps)
        saved = state.step if self.resumed is not None else -1
        batches = self._batches()
        window = ReportWindow()
        stopped = should_stop()
        if self.model.starts_trained and state.val_loss_base is None and not stopped:
            self._validate(listener)
        while state.step < config.max_steps and not stopped:
            window.add(self._step(batches, listener))
            is_last = state.step == config.max_steps
            if state.step % config.log_every == 0 or is_last:
                listener.on_metrics(state.step, window.close())
            if state.step % config.eval_every == 0 or is_last:
                with window.paused():
                    self._validate(listener)
            on_progress("train", state.step, config.max_steps)
            stopped = should_stop()
            every = config.checkpoint_every
            is_due = state.step % every == 0 or state.step == FIRST_CHECKPOINT < every
            if is_due or is_last or stopped:
                with window.paused():
                    self._save(listener)
                saved = state.step
        if stopped and saved != state.step:
            self._save(listener)
        return TrainResult(
            state="finished" if state.step >= config.max_steps else "stopped",
            step=state.step,
            val_loss_on=state.val_loss_on,
            val_loss_off=state.val_loss_off,
        )

    def _validate(self, listener: TrainingListener) -> None:
        """Measure the validation losses, and report what follows from them."""
        state, config = self.state, self.config
        self.network.eval()
        with self._autocast():
            losses = validation_losses(self.model, self.validation, config)
        if self.model.starts_trained:
            if state.step == 0:
                state.val_loss_base = losses["val_loss_off"]
            if state.val_loss_base is not None:
                losses["val_loss_base"] = state.val_loss_base
        listener.on_metrics(state.step, losses)
        loss = losses["val_loss_on"]
        if not math.isfinite(loss):
            alert = not_finite_after("validation loss", loss, state.step, config.learning_rate)
            _fail(alert, listener)
        told = note_validation(state, loss, config.plateau_evaluations)
        state.val_loss_on, state.val_loss_off = loss, losses["val_loss_off"]
        state.val_step = state.step
        if told is not None:
            listener.on_alert(told)
        if config.sample_tokens:
            listener.on_validated(state.step, self.model)

    def _save(self, listener: TrainingListener) -> None:
        # A last step with finite loss and gradients can still have made weights infinite.
        largest = max(
            weights.detach().abs().max().item()
            for weights in self.network.parameters()
            if weights.requires_grad
        )
        if not math.isfinite(largest):
            rate = self.config.learning_rate
            _fail(not_finite_after("largest weight", largest, self.state.step, rate), listener)
        listener.on_saving(self.state.step)
        listener.on_checkpoint(save_checkpoint(self.run, self.model, self.optimizer, self.state))
        self._delete_old(listener)

    def _delete_old(self, listener: TrainingListener) -> None:
        for step in delete_old_checkpoints(self.run, self.config.keep_checkpoints):
            listener.on_checkpoint_deleted(step)

    def _batches(self) -> Iterator[DeviceBatch]:
        """Return an endless iterator of batches from the present place in the order on."""
        config = self.config
        places = itertools.count(self.state.sequences_seen, config.batch_size)
        rows = (self.order.take(place, config.batch_size) for place in places)
        for batch in load_batches(self.dataset, rows, config.num_workers):
            yield DeviceBatch.move(batch, self.device)

    def _step(self, batches: Iterator[DeviceBatch], listener: TrainingListener) -> StepReport:
        """Take one optimizer step."""
        config, state = self.config, self.state
        self.network.train()
        rate = learning_rate(state.step + 1, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        chosen = list(itertools.islice(batches, config.accumulation))
        num_labels = sum(batch.num_labels for batch in chosen)
        total = 0.0
        for batch in chosen:
            with self._autocast():
                mean = self.model.mean_loss(batch.rows, batch.retrieved)
            # Every label of the step weighs the same, in whichever batch it is.
            loss = mean * (batch.num_labels / max(1, num_labels))
            loss.backward()  # type: ignore[no-untyped-call]  # torch
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(
            self.network.parameters(), config.gradient_clip
        ).item()
        if not math.isfinite(total) or not math.isfinite(norm):
            _fail(not_finite(total, norm, state.step + 1, config.learning_rate), listener)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        state.sequences_seen += config.accumulation * config.batch_size
        state.tokens_seen += num_labels
        return StepReport(total, norm, rate, num_labels)

    def _autocast(self) -> contextlib.AbstractContextManager[None]:
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)


def _fail(alert: Alert, listener: TrainingListener) -> NoReturn:
    listener.on_alert(alert)
    raise TrainingError(alert.message)
