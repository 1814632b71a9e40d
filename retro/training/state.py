"""Where a run stands, besides its weights, its optimizer and its random generators."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class TrainerState:
    """Everything that a resumed run must know; every checkpoint holds it.

    Every field has a default, so that checkpoints of earlier versions, which lack some, can be
    read. The learning rate is no part of it: it follows from the step and the settings.
    """

    step: int = 0
    """Optimizer steps taken."""
    sequences_seen: int = 0
    """Place in the order of sequences; epoch and batch follow from it."""
    tokens_seen: int = 0
    """Labels that counted in the loss."""
    val_step: int | None = None
    """Step of the newest validation."""
    val_loss_on: float | None = None
    """Newest validation loss with retrieval, in nats per token."""
    val_loss_off: float | None = None
    """Newest validation loss with retrieval off."""
    val_loss_base: float | None = None
    """Validation loss with retrieval off before the first step, where the model was pretrained."""
    best_val_loss: float | None = None
    """Validation loss with retrieval that later ones must improve on, in nats per token."""
    best_step: int | None = None
    """Step of ``best_val_loss``."""
    evaluations_since_best: int = 0
    """Validations after ``best_step``."""
    evaluations_rising: int = 0
    """Newest validations in a row whose loss was higher than the one before."""
    is_rise_told: bool = False
    """Whether a rising loss was reported since ``best_step``."""
