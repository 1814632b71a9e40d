"""What people may expect of a model, and how it reads neighbors, in a line or two."""

from app.services.pretrained import is_pretrained, pretrained_models
from app.services.services import Services
from app.services.views.runs import Checkpoint, WritableRun
from jobs.errors import NotFoundError
from retro.model.choices import BASE

LOSSES = (
    (2.5, "whole sentences; facts are often wrong"),
    (3.5, "sentences that hold for a line or two"),
    (4.5, "words and phrases of your text, little sense"),
)
"""Validation loss in nats per token below which a small model writes this."""
FRAGMENTS = "fragments only"
SHARED = (
    "Reads the neighbors with its own attention: each token attends to the text so far and to "
    "the neighbors of the chunk before, at once."
)
CROSS = (
    "Reads the neighbors through an encoder of its own, with chunked cross-attention, as in the "
    "RETRO paper."
)
SMALL = (
    "Of 135 M parameters expect fluent sentences that follow what the neighbors say, repetition, "
    "and wrong facts."
)
OTHER = "It writes what a model of its size writes."


def about_model(services: Services, chosen: str) -> str:
    """Return how a model reads, and what to expect of it.

    Args:
        services: What knows.
        chosen: A run or a pretrained model, with the step of a checkpoint behind a colon.
    """
    name, _, step = chosen.partition(":")
    if is_pretrained(name):
        known = name in [model.name for model in pretrained_models()]
        return f"{SHARED} {SMALL if known else OTHER}"
    for run in services.runs.list_writable():
        if run.id == name:
            reads = SHARED if (run.settings.get("model") or {}).get(BASE) else CROSS
            found = [item for item in run.checkpoints if str(item.step) == step]
            return f"{reads} {_expected(run, (found or run.checkpoints)[-1])}"
    return ""


def starts_trained(services: Services, chosen: str) -> bool:
    """Return whether the chosen model is pretrained, or was trained from one that is."""
    try:
        return services.generations.models.starts_trained(chosen.partition(":")[0])
    except NotFoundError:
        return False


def _expected(run: WritableRun, checkpoint: Checkpoint) -> str:
    at = f"Step {checkpoint.step:,} of {run.total_steps:,}"
    loss = checkpoint.val_loss_on
    if loss is None:
        return f"{at}."
    words = next((words for limit, words in LOSSES if loss < limit), FRAGMENTS)
    return f"{at}, loss {loss:.1f}: expect {words}."
