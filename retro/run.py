"""A training run's folder: what was asked for, what came of it, and its checkpoints.

    config.json                               preset, choices, corpus; resolved at first start
    tokenizer/                                the corpus's tokenizer, so a model is usable alone
    checkpoints/step-00001000/                model.safetensors, trainer.pt, manifest.json

Importing this module does not import torch.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retro.artifacts import (
    Manifest,
    read_json,
    read_manifest,
    staged_folder,
    verify_files,
    write_json,
)
from retro.config import ModelConfig, TrainingConfig, config_from_dict, config_to_dict
from retro.errors import ArtifactError, ArtifactMismatchError, ArtifactMissingError, ConfigError
from retro.model.presets import get_preset, resolve_preset

CONFIG_NAME = "config.json"
CHECKPOINT_KIND = "checkpoint"
DAMAGED_SUFFIX = ".damaged"
FROM_CORPUS = ("num_tokens", "chunk_size")
"""Fields of ``ModelConfig`` that a run takes from its corpus."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointRecord:
    """One checkpoint on disk."""

    step: int
    path: Path
    size_bytes: int
    val_loss_on: float | None
    """Validation loss with retrieval in nats per token; None where it was not measured."""
    val_loss_off: float | None
    """The same with retrieval off."""
    is_best: bool
    """Whether no other checkpoint of the run has a lower ``val_loss_on``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusFacts:
    """What a run must know of its corpus."""

    path: Path
    fingerprint: str
    tokenizer_dir: Path
    tokenizer_fingerprint: str
    num_tokens: int
    chunk_size: int
    num_neighbors: int
    exclusion_window: int | None
    """Tokens on either side that neighbors exclude; None where whole documents are excluded."""
    summary: dict[str, Any]
    """What the corpus holds and the name of its encoder, for people who read about the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A run's folder, opened."""

    path: Path
    preset: str
    model_choices: dict[str, Any]
    training_choices: dict[str, Any]
    corpus_path: Path
    model: ModelConfig | None
    """None until the run has started for the first time."""
    training: TrainingConfig | None
    """None until the run has started for the first time."""
    corpus_fingerprint: str | None
    tokenizer_fingerprint: str | None
    corpus_summary: dict[str, Any] | None
    """What the corpus held at the newest start; None in runs of earlier versions."""

    @property
    def checkpoints_dir(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def tokenizer_dir(self) -> Path:
        """Folder of the run's own copy of the tokenizer."""
        return self.path / "tokenizer"


def create_run(
    run_dir: Path,
    corpus_dir: Path,
    *,
    preset: str = "tiny",
    model: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> Run:
    """Write down what a new run shall be; the corpus need not be built yet.

    Args:
        run_dir: Folder of the run; it must not hold a run.
        corpus_dir: Folder of the corpus.
        preset: Name of a preset.
        model: Fields of ``ModelConfig`` that override the preset.
        training: Fields of ``TrainingConfig`` that override the preset.

    Raises:
        ConfigError: A setting is unknown or outside its range, or there is a run already.
    """
    if (run_dir / CONFIG_NAME).exists():
        raise ConfigError(f"{run_dir.name} already holds a run. Choose another folder.")
    model, training = dict(model or {}), dict(training or {})
    check_choices(preset, model, training)
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(
        run_dir / CONFIG_NAME,
        {
            "preset": preset,
            "model_choices": model,
            "training_choices": training,
            "corpus": str(corpus_dir.resolve()),
        },
    )
    return open_run(run_dir)


def check_choices(preset: str, model: Mapping[str, Any], training: Mapping[str, Any]) -> None:
    """Check a run's settings as far as that is possible before its corpus is known.

    Raises:
        ConfigError: A name is unknown, or a value is outside its range.
    """
    chosen = get_preset(preset)
    config_from_dict(TrainingConfig, {**chosen.training, **training})
    for name in FROM_CORPUS:
        if name in model:
            raise ConfigError(
                f"{name} follows from the corpus, got {model[name]!r}. Leave it out of the run."
            )
    length = model.get("max_seq_len", ModelConfig().max_seq_len)
    config_from_dict(ModelConfig, {**chosen.model, **model, "chunk_size": _divisor(length)})


def _divisor(length: object) -> int:
    """Return a chunk size that fits, so that everything else about the model is checked."""
    if isinstance(length, int) and length > 0 and length % 64 == 0:
        return 64
    return length if isinstance(length, int) and 2 <= length <= 4096 else 64


def open_run(run_dir: Path) -> Run:
    """Open a run's folder.

    Raises:
        ArtifactMissingError: There is no run here.
        ArtifactMismatchError: Its ``config.json`` is damaged.
    """
    if not (run_dir / CONFIG_NAME).exists():
        raise ArtifactMissingError(
            f"{run_dir.name} holds no training run. Start one with `python -m retro train`."
        )
    values = read_json(run_dir / CONFIG_NAME)
    try:
        model = values.get("model")
        training = values.get("training")
        return Run(
            path=run_dir,
            preset=values["preset"],
            model_choices=values["model_choices"],
            training_choices=values["training_choices"],
            corpus_path=Path(values["corpus"]),
            model=None if model is None else config_from_dict(ModelConfig, model),
            training=None if training is None else config_from_dict(TrainingConfig, training),
            corpus_fingerprint=values.get("corpus_fingerprint"),
            tokenizer_fingerprint=values.get("tokenizer_fingerprint"),
            corpus_summary=values.get("corpus_summary"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactMismatchError(
            f"{run_dir.name}/{CONFIG_NAME} is damaged ({error}). Start a new run."
        ) from error


def resolve_run(
    run: Run, corpus: CorpusFacts, *, max_steps: int | None = None
) -> tuple[ModelConfig, TrainingConfig]:
    """Fix a run's settings at its first start; check the corpus at every later one.

    Args:
        run: The run.
        corpus: Facts of its corpus.
        max_steps: New length of the run, in optimizer steps; None keeps it.

    Returns:
        Settings of the model and of its training.

    Raises:
        ConfigError: A setting does not fit the corpus.
        ArtifactMismatchError: The corpus is not the one the run was started with.
    """
    if run.corpus_fingerprint is not None and run.corpus_fingerprint != corpus.fingerprint:
        raise ArtifactMismatchError(
            f"Run {run.path.name} was trained on corpus version {run.corpus_fingerprint[:12]}, "
            f"but {corpus.path.name} is now version {corpus.fingerprint[:12]}. "
            f"Restore the corpus, or start a new run on the changed one."
        )
    choices = dict(run.training_choices)
    if max_steps is not None:
        choices["max_steps"] = max_steps
    model, training = resolve_preset(
        run.preset,
        model=run.model_choices,
        training=choices,
        num_tokens=corpus.num_tokens,
        chunk_size=corpus.chunk_size,
        num_neighbors=corpus.num_neighbors,
    )
    window = corpus.exclusion_window
    if window is not None and training.sequence_length > window:
        raise ConfigError(
            f"sequence_length must be at most {window}, the tokens of the same document that the "
            f"neighbors of {corpus.path.name} exclude, got {training.sequence_length}. Shorten it, "
            f"or rebuild the corpus with a larger exclusion_window."
        )
    if not run.tokenizer_dir.exists():
        with staged_folder(run.tokenizer_dir) as staging:
            shutil.copytree(corpus.tokenizer_dir, staging, dirs_exist_ok=True)
    write_json(
        run.path / CONFIG_NAME,
        {
            "preset": run.preset,
            "model_choices": run.model_choices,
            "training_choices": choices,
            "corpus": str(corpus.path.resolve()),
            "model": config_to_dict(model),
            "training": config_to_dict(training),
            "corpus_fingerprint": corpus.fingerprint,
            "tokenizer_fingerprint": corpus.tokenizer_fingerprint,
            "corpus_summary": corpus.summary,
        },
    )
    return model, training


def checkpoint_name(step: int) -> str:
    """Return the folder name of a step's checkpoint."""
    return f"step-{step:08d}"


def list_checkpoints(run_dir: Path) -> list[CheckpointRecord]:
    """Return the finished checkpoints of a run, oldest first.

    A folder whose manifest does not fit its files is left out; nothing is read whole.
    """
    found: list[tuple[Path, Manifest]] = []
    for path in sorted((run_dir / "checkpoints").glob("step-*")):
        if path.suffix == DAMAGED_SUFFIX:
            continue
        try:
            found.append((path, read_manifest(path, CHECKPOINT_KIND)))
        except ArtifactError:
            continue
    losses = [manifest.settings.get("val_loss_on") for _, manifest in found]
    best = min((loss for loss in losses if loss is not None), default=None)
    return [
        CheckpointRecord(
            step=int(manifest.settings["step"]),
            path=path,
            size_bytes=sum(entry["bytes"] for entry in manifest.files.values()),
            val_loss_on=manifest.settings.get("val_loss_on"),
            val_loss_off=manifest.settings.get("val_loss_off"),
            is_best=best is not None and manifest.settings.get("val_loss_on") == best,
        )
        for path, manifest in found
    ]


def find_checkpoint(run_dir: Path, step: int | None = None) -> CheckpointRecord:
    """Return a checkpoint whose files are verified to be whole.

    Args:
        run_dir: Folder of the run.
        step: Which one; None is the newest.

    Raises:
        ArtifactMissingError: There is none, or none of this step.
        ArtifactMismatchError: The checkpoint of this step is damaged.
    """
    records = list_checkpoints(run_dir)
    if step is None:
        for record in reversed(records):
            try:
                verify_files(record.path, read_manifest(record.path, CHECKPOINT_KIND))
            except ArtifactError:
                continue
            return record
        raise ArtifactMissingError(
            f"Run {run_dir.name} has no checkpoint yet. Wait for the first one, or train it."
        )
    for record in records:
        if record.step == step:
            verify_files(record.path, read_manifest(record.path, CHECKPOINT_KIND))
            return record
    steps = ", ".join(str(record.step) for record in records) or "none"
    raise ArtifactMissingError(
        f"Run {run_dir.name} has no checkpoint of step {step}; it has {steps}. Choose one of these."
    )
