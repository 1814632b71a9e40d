"""Callbacks of a training run."""

from typing import Protocol

from retro.checkpoints import CheckpointRecord
from retro.model.language_model import LanguageModel
from retro.training.alerts import Alert


class TrainingListener(Protocol):
    """What a caller of ``train`` may want to know; any method may raise to stop the work."""

    def on_metrics(self, step: int, values: dict[str, float]) -> None:
        """Take note of measurements.

        Args:
            step: Optimizer step, counted from 1.
            values: ``train_loss``, ``val_loss_on``, ``val_loss_off``, ``val_loss_shuffled``,
                of a pretrained model ``val_loss_base``, that without retrieval before the first
                step (nats per token), ``learning_rate``, ``gradient_norm``, ``tokens_per_second``.
        """

    def on_validated(self, step: int, model: LanguageModel) -> None:
        """Use the model, which is in evaluation mode, after its losses were measured.

        Called only where the run writes sample texts. Random states must stay as they are.
        """

    def on_saving(self, step: int) -> None:
        """Store what was measured up to ``step``: a checkpoint of it is written next.

        Training may go on from that checkpoint at once, also when the process ends right after
        it was written, and does not measure those steps again.
        """

    def on_checkpoint(self, record: CheckpointRecord) -> None:
        """Take note of a finished checkpoint; older ones are deleted only afterwards."""

    def on_checkpoint_deleted(self, step: int) -> None:
        """Take note that an old checkpoint is gone."""

    def on_resume(self, step: int) -> None:
        """Take note that training goes on after ``step``; 0 is a new run."""

    def on_alert(self, alert: Alert) -> None:
        """Take note of something a person should hear; ``damaged`` may come before ``on_resume``.

        A run that was killed reports again what came after the checkpoint it goes on from.
        """


class SilentListener:
    """Ignores everything; a base class for listeners that want only a part."""

    def on_metrics(self, step: int, values: dict[str, float]) -> None:
        """Ignore measurements."""

    def on_validated(self, step: int, model: LanguageModel) -> None:
        """Write nothing."""

    def on_saving(self, step: int) -> None:
        """Keep nothing."""

    def on_checkpoint(self, record: CheckpointRecord) -> None:
        """Ignore checkpoints."""

    def on_checkpoint_deleted(self, step: int) -> None:
        """Ignore deletions."""

    def on_resume(self, step: int) -> None:
        """Ignore the start."""

    def on_alert(self, alert: Alert) -> None:
        """Ignore alerts."""
