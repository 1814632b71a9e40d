"""Checkpoints of a training run: written whole or not at all, verified before use."""

import errno
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from retro.artifacts import (
    fingerprint,
    read_manifest,
    remove_staging,
    staged_folder,
    verify_files,
    write_manifest,
)
from retro.errors import ArtifactError, ArtifactMismatchError
from retro.model.retro import RETRO
from retro.model.weights import load_model, save_weights
from retro.run import (
    CHECKPOINT_KIND,
    DAMAGED_SUFFIX,
    CheckpointRecord,
    Run,
    checkpoint_name,
    list_checkpoints,
)

logger = logging.getLogger(__name__)

WEIGHTS_NAME = "model.safetensors"
TRAINER_NAME = "trainer.pt"


@dataclass(kw_only=True)
class TrainerState:
    """Where a run stands, besides its weights."""

    step: int = 0
    """Optimizer steps taken."""
    sequences_seen: int = 0
    """Place in the order of sequences."""
    tokens_seen: int = 0
    """Labels that counted in the loss."""
    val_step: int | None = None
    """Step of the newest validation."""
    val_loss_on: float | None = None
    """Newest validation loss with retrieval, in nats per token."""
    val_loss_off: float | None = None
    """Newest validation loss with retrieval off."""


def random_states() -> dict[str, Any]:
    """Return the states of every random generator that training draws from."""
    states: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore_random_states(states: dict[str, Any]) -> None:
    """Set the random generators as ``random_states`` found them."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])


def save_checkpoint(
    run: Run, model: RETRO, optimizer: torch.optim.Optimizer, state: TrainerState
) -> CheckpointRecord:
    """Write a checkpoint of the present step.

    Returns:
        The checkpoint as a reader finds it.

    Raises:
        DiskFullError: There is no room; earlier checkpoints are untouched.
    """
    final = run.checkpoints_dir / checkpoint_name(state.step)
    with staged_folder(final) as staging:
        save_weights(model, staging / WEIGHTS_NAME)
        values = {
            "optimizer": optimizer.state_dict(),
            "state": vars(state),
            "random": random_states(),
            "num_threads": torch.get_num_threads(),
        }
        save_values(values, staging / TRAINER_NAME)
        measured = state.val_step == state.step
        settings = {
            "step": state.step,
            "tokens_seen": state.tokens_seen,
            "val_loss_on": state.val_loss_on if measured else None,
            "val_loss_off": state.val_loss_off if measured else None,
            "corpus": run.corpus_fingerprint,
        }
        write_manifest(staging, CHECKPOINT_KIND, content=fingerprint(settings), settings=settings)
    return next(r for r in list_checkpoints(run.path) if r.step == state.step)


def save_values(values: dict[str, Any], path: Path) -> None:
    """Write what ``torch.load`` reads with ``weights_only``.

    Raises:
        OSError: The file could not be written whole.
    """
    try:
        torch.save(values, path)
    except RuntimeError as error:
        # torch does not tell the system's reason; a short write is a full disk or quota.
        if "unexpected pos" not in str(error) and "write failed" not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def restore_newest(run: Run, model: RETRO, optimizer: torch.optim.Optimizer) -> TrainerState | None:
    """Load the newest checkpoint that is whole.

    A damaged one is renamed, so that it is not tried again and can be looked at.

    Returns:
        Where the run stands, or None when it has no usable checkpoint.
    """
    if not run.checkpoints_dir.exists():
        return None
    remove_staging(run.checkpoints_dir)
    for path in sorted(run.checkpoints_dir.glob("step-*"), reverse=True):
        if path.suffix == DAMAGED_SUFFIX:
            continue
        try:
            verify_files(path, read_manifest(path, CHECKPOINT_KIND))
            return _restore(path, run, model, optimizer)
        except ArtifactError as error:
            logger.warning("%s is damaged and set aside: %s", path.name, error)
            damaged = path.with_name(path.name + DAMAGED_SUFFIX)
            if damaged.exists():
                shutil.rmtree(damaged)
            path.rename(damaged)
    return None


def _restore(path: Path, run: Run, model: RETRO, optimizer: torch.optim.Optimizer) -> TrainerState:
    assert run.model is not None
    device = model.token_embedding.weight.device
    model.load_state_dict(load_model(path / WEIGHTS_NAME, run.model, device).state_dict())
    try:
        values = torch.load(path / TRAINER_NAME, map_location="cpu", weights_only=True)
        optimizer.load_state_dict(values["optimizer"])
        state = TrainerState(**values["state"])
    except (RuntimeError, ValueError, KeyError, TypeError, EOFError) as error:
        raise ArtifactMismatchError(
            f"{path.name}/{TRAINER_NAME} cannot be read ({error}). An earlier checkpoint is used."
        ) from error
    if values["num_threads"] != torch.get_num_threads():
        logger.warning(
            "%s was trained with %d threads and goes on with %d: the result may differ in the "
            "last digits from a run that was never stopped",
            run.path.name,
            values["num_threads"],
            torch.get_num_threads(),
        )
    restore_random_states(values["random"])
    return state


def delete_old_checkpoints(run: Run, keep: int) -> list[int]:
    """Delete all but the newest ``keep`` checkpoints and the best one.

    Returns:
        The steps whose checkpoints are gone.
    """
    records = list_checkpoints(run.path)
    old = [record for record in records[:-keep] if not record.is_best]
    for record in old:
        shutil.rmtree(record.path)
    return [record.step for record in old]
