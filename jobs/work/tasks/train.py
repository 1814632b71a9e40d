"""Trains a run: goes on from its newest checkpoint, and records what it measures."""

import logging
import time

from jobs.errors import PASSING_FAULTS, JobCancelled, JobError
from jobs.store.rows import CheckpointEntry, MetricPoint
from jobs.store.states import StopIntent
from jobs.version_files import corpus_to_train_on
from jobs.work.context import JobContext
from retro.checkpoints import CheckpointRecord, list_checkpoints
from retro.config.checks import config_to_dict
from retro.errors import RetroError
from retro.model.costs import num_parameters
from retro.model.language_model import LanguageModel
from retro.run import CONFIG_NAME, create_run, open_run
from retro.run_samples import SampleWriter
from retro.training.alerts import Alert
from retro.training.trainer import train

logger = logging.getLogger(__name__)

WRITE_EVERY_S = 1.0


def run(context: JobContext) -> str:
    """Train the run of the job to its last step.

    Returns:
        What came of it, for people.

    Raises:
        JobCancelled: The job should stop; a checkpoint of the last step is written.
        RetroError: The settings do not fit the corpus, or the training cannot go on.
    """
    run_id, corpus_id = context.job.run_id, context.job.corpus_id
    if run_id is None or corpus_id is None:
        raise JobError(f"A train job must name a run and a corpus, job {context.job.id} does not.")
    run_dir, corpus_dir = context.home.run_dir(run_id), context.home.corpus_dir(corpus_id)
    if not (run_dir / CONFIG_NAME).exists():
        settings = context.job.settings
        create_run(
            run_dir,
            corpus_dir,
            preset=settings["preset"],
            model=settings.get("model"),
            training=settings.get("training"),
        )
    corpus_dir = corpus_to_train_on(run_dir, corpus_dir)
    recorder = RunRecorder(context, run_id, SampleWriter(run_dir, corpus_dir))
    try:
        result = train(
            run_dir,
            corpus_dir=corpus_dir,
            max_steps=context.job.settings.get("max_steps"),
            listener=recorder,
            should_stop=context.should_stop,
            on_progress=recorder.on_progress,
        )
    except RetroError:
        recorder.flush()
        raise
    recorder.flush()
    if result.state == "stopped":
        word = "Paused" if context.intent is StopIntent.PAUSE else "Stopped"
        raise JobCancelled(f"{word} after step {result.step:,}; a checkpoint is kept.")
    loss = "" if result.val_loss_on is None else f" Validation loss {result.val_loss_on:.3f}."
    return f"Trained {result.step:,} steps.{loss}"


class RunRecorder:
    """Writes what the trainer reports into the database, in batches.

    Args:
        context: The job.
        run_id: Its run.
        samples: Writes its sample texts.
        write_every_s: Shortest time between two writes of measured values, seconds.
    """

    def __init__(
        self,
        context: JobContext,
        run_id: str,
        samples: SampleWriter,
        *,
        write_every_s: float = WRITE_EVERY_S,
    ) -> None:
        self._context = context
        self._run_id = run_id
        self._samples = samples
        self._write_every_s = write_every_s
        self._points: list[MetricPoint] = []
        self._step = 0
        self._written_step = 0
        self._written_at = time.monotonic()

    def on_resume(self, step: int) -> None:
        """Make the rows agree with the checkpoint the training goes on from."""
        store, token = self._context.store, self._context.token
        run_dir = self._context.home.run_dir(self._run_id)
        self._step = self._written_step = step
        self._samples.forget_after(step)
        # What was measured after this step will be measured again.
        store.forget_metrics_after(self._run_id, step, token)
        store.forget_alerts_after(self._run_id, step, token)
        store.replace_checkpoints(
            self._run_id, [checkpoint_entry(item) for item in list_checkpoints(run_dir)], token
        )
        resolved = open_run(run_dir)
        assert resolved.model is not None
        assert resolved.training is not None
        store.set_run_facts(
            self._run_id,
            token,
            settings={
                "preset": resolved.preset,
                "model": resolved.model_choices,
                "training": resolved.training_choices,
                "parameters": num_parameters(resolved.model),
                "resolved": {
                    "model": config_to_dict(resolved.model),
                    "training": config_to_dict(resolved.training),
                },
            },
            total_steps=resolved.training.max_steps,
        )
        store.set_run_version(self._run_id, token, resolved.corpus_fingerprint)
        if step:
            logger.info("going on after step %d", step)

    def on_metrics(self, step: int, values: dict[str, float]) -> None:
        """Keep measured values for the next write."""
        self._points += [
            MetricPoint(name=name, step=step, value=value) for name, value in values.items()
        ]
        self._step = max(self._step, step)
        listed = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        logger.info("step %d: %s", step, listed)

    def on_validated(self, step: int, model: LanguageModel) -> None:
        """Write a sample text."""
        self._samples.write(step, model)

    def on_saving(self, _step: int) -> None:
        """Write everything measured until now: after the checkpoint it is not measured again.

        A database that does not answer must not keep the checkpoint from being written.
        """
        self._flush_if_possible()

    def on_checkpoint(self, record: CheckpointRecord) -> None:
        """Record a finished checkpoint, after everything measured until then."""
        self.flush()
        entry = checkpoint_entry(record)
        self._context.store.add_checkpoint(self._run_id, entry, self._context.token)
        logger.info("checkpoint of step %d, %d bytes", entry.step, entry.bytes)

    def on_checkpoint_deleted(self, step: int) -> None:
        """Remove the row of a checkpoint whose files are gone."""
        self._context.store.remove_checkpoint(self._run_id, step, self._context.token)

    def on_alert(self, alert: Alert) -> None:
        """Record what a person should know, after everything measured until then."""
        self.flush()
        self._context.store.add_alert(
            self._run_id,
            kind=alert.kind,
            step=alert.step,
            message=alert.message,
            token=self._context.token,
        )
        logger.warning("step %d: %s", alert.step, alert.message)

    def on_progress(self, stage: str, done: int, total: int) -> None:
        """Report progress, and write what has been measured if that is due."""
        self._context.report(stage, done, total)
        self._step = done
        if time.monotonic() - self._written_at >= self._write_every_s:
            self._flush_if_possible()

    def _flush_if_possible(self) -> None:
        try:
            self.flush()
        except PASSING_FAULTS as error:
            self._written_at = time.monotonic()
            logger.warning("measured values are kept for the next write: %s", error)

    def flush(self) -> None:
        """Write what has been measured."""
        if not self._points and self._step == self._written_step:
            return
        self._context.store.add_points(
            self._run_id, self._points, self._context.token, step=self._step
        )
        self._points = []
        self._written_step = self._step
        self._written_at = time.monotonic()


def checkpoint_entry(record: CheckpointRecord) -> CheckpointEntry:
    """Return a checkpoint as the database keeps it."""
    return CheckpointEntry(
        step=record.step,
        val_loss_on=record.val_loss_on,
        val_loss_off=record.val_loss_off,
        bytes=record.size_bytes,
        is_best=record.is_best,
        is_pinned=record.is_pinned,
    )
