"""What a person should hear of while a run trains.

Whether an alert is due follows from ``TrainerState`` alone, which every checkpoint holds, so a
resumed run gives the same alerts as one that was never stopped.
"""

from dataclasses import dataclass
from typing import Literal

from retro.training.state import TrainerState

SMALLEST_IMPROVEMENT = 1e-3
"""Share by which a validation loss must be lower than the best one to count as better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """Something about a training run that a person should know."""

    kind: Literal["nan", "plateau", "rising", "damaged"]
    """``nan``: a loss or the weights are not finite, and the run ends. ``plateau``: the
    validation loss no longer falls. ``rising``: it rises. ``damaged``: a checkpoint was set
    aside, because its files are not what was written."""
    step: int
    """Optimizer step, counted from 1."""
    message: str
    """The rule, the value found and what to do."""


def note_validation(state: TrainerState, loss: float, patience: int) -> Alert | None:
    """Take note of a validation loss, and return the alert that it causes, if any.

    There is at most one alert of each kind until the loss is better again. A loss that has
    risen all the time since the best one is reported as rising, not as a plateau as well.

    Args:
        state: Of the run; its counts are brought up to date, its newest loss must still be
            that of the validation before.
        loss: Validation loss with retrieval in nats per token, a finite number.
        patience: Validations without a better loss that give an alert; 0 is never.
    """
    is_higher = state.val_loss_on is not None and loss > state.val_loss_on
    state.evaluations_rising = state.evaluations_rising + 1 if is_higher else 0
    best = state.best_val_loss
    if best is None or loss < best * (1 - SMALLEST_IMPROVEMENT):
        state.best_val_loss, state.best_step = loss, state.step
        state.evaluations_since_best = 0
        state.is_rise_told = False
        return None
    state.evaluations_since_best += 1
    if patience and state.evaluations_rising >= patience and not state.is_rise_told:
        state.is_rise_told = True
        return _rising(state, loss, patience)
    if patience and state.evaluations_since_best == patience:
        return _plateau(state, loss, patience)
    return None


def _rising(state: TrainerState, loss: float, patience: int) -> Alert:
    return Alert(
        kind="rising",
        step=state.step,
        message=(
            f"The validation loss should not rise {patience} times in a row, got {loss:.4g} in "
            f"step {state.step} after {state.best_val_loss:.4g} in step {state.best_step}: the "
            f"model learns its text by heart. Stop the run and write with its best checkpoint, "
            f"or train on more text."
        ),
    )


def _plateau(state: TrainerState, loss: float, patience: int) -> Alert:
    return Alert(
        kind="plateau",
        step=state.step,
        message=(
            f"The validation loss should fall by {SMALLEST_IMPROVEMENT:.1%} within {patience} "
            f"validations, got {loss:.4g} in step {state.step} after {state.best_val_loss:.4g} in "
            f"step {state.best_step}. Stop the run and write with its best checkpoint, or go on "
            f"if the learning rate still has to fall."
        ),
    )


def not_finite(loss: float, gradient_norm: float, step: int, learning_rate: float) -> Alert:
    """Return the alert of a training step whose loss or gradient is not a finite number.

    Args:
        loss: Training loss of the step.
        gradient_norm: Norm of all gradients together.
        step: The step that was not taken, counted from 1.
        learning_rate: Peak learning rate of the run.
    """
    return Alert(
        kind="nan",
        step=step,
        message=(
            f"The loss must stay a finite number, got {loss:g} with gradient norm "
            f"{gradient_norm:g} in step {step}. {_lower_rate(learning_rate)}"
        ),
    )


def not_finite_after(what: str, value: float, step: int, learning_rate: float) -> Alert:
    """Return the alert of a step after which something is not a finite number.

    Args:
        what: ``validation loss`` or ``largest weight``.
        value: What it is.
        step: The newest step, counted from 1; it must not be saved.
        learning_rate: Peak learning rate of the run.
    """
    return Alert(
        kind="nan",
        step=step,
        message=(
            f"The {what} must stay a finite number, got {value:g} after step {step}. "
            f"{_lower_rate(learning_rate)}"
        ),
    )


def _lower_rate(learning_rate: float) -> str:
    return (
        f"The last checkpoint is kept; start a new run with a learning rate below "
        f"{learning_rate:g}."
    )
