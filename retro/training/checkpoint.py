"""Checkpoints of a training run: written whole or not at all, verified before use.

A checkpoint holds weights, optimizer, counts and place in the data (``TrainerState``), the states
of all random generators, the number of threads and of processes, and in its manifest all
settings and the fingerprint of the corpus. The learning-rate schedule needs no state: it is a
function of step and settings (``retro.training.optimizer.learning_rate``).
"""

import errno
import logging
import os
import pickle
import random
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retro.artifacts import Manifest, fingerprint, write_manifest
from retro.checkpoints import (
    CHECKPOINT_KIND,
    DAMAGED_SUFFIX,
    PINNED_NAME,
    CheckpointRecord,
    checkpoint_name,
    checkpoint_paths,
    checkpoints_lock,
    list_checkpoints,
    refuse_all_damaged,
    verify_checkpoint,
)
from retro.config.checks import config_to_dict
from retro.errors import ArtifactError, ArtifactMismatchError
from retro.model.kinds import settings_from_dict
from retro.model.language_model import LanguageModel
from retro.run import Run
from retro.training.alerts import Alert
from retro.training.state import TrainerState
from retro.whole_files import (
    STAGING_PREFIX,
    disk_errors,
    remove_staging,
    staged_folder,
    sync_folder,
)

logger = logging.getLogger(__name__)

TRAINER_NAME = "trainer.pt"
PROBE_BYTES = 2**16
SIGNS_OF_SHORT_WRITE = (
    "unexpected pos",
    "write failed",
    "iostream error",
    os.strerror(errno.ENOSPC),
    os.strerror(errno.EDQUOT),
)


def random_states() -> dict[str, Any]:
    """Return the states of all random generators, of types ``torch.load`` takes as safe."""
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    states: dict[str, Any] = {
        "cpu": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": {
            **numpy_state,
            "state": {
                "key": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
                "pos": int(numpy_state["state"]["pos"]),
            },
        },
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def seed_random_states(seed: int) -> None:
    """Seed all random generators; that of numpy takes 32 bits only."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def restore_random_states(states: dict[str, Any]) -> None:
    """Set the random generators as ``random_states`` found them.

    Checkpoints of earlier versions have only those of torch; the others are left as they are.
    """
    torch.set_rng_state(states["cpu"])
    if "python" in states:
        random.setstate(states["python"])
    if "numpy" in states:
        key = states["numpy"]["state"]["key"].numpy().astype(np.uint32)
        inner = {**states["numpy"]["state"], "key": key}
        np.random.set_state({**states["numpy"], "state": inner})
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])


def save_checkpoint(
    run: Run, model: LanguageModel, optimizer: torch.optim.Optimizer, state: TrainerState
) -> CheckpointRecord:
    """Write a checkpoint of the present step.

    Returns:
        The checkpoint as a reader finds it.

    Raises:
        DiskFullError: There is no room; earlier checkpoints are untouched.
    """
    assert run.model is not None
    assert run.training is not None
    final = run.checkpoints_dir / checkpoint_name(state.step)
    with staged_folder(final) as staging:
        model.save_weights(staging)
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
            "model": config_to_dict(run.model),
            "training": config_to_dict(run.training),
            "num_threads": values["num_threads"],
        }
        if state.val_loss_base is not None:
            settings["val_loss_base"] = state.val_loss_base
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
        # torch does not give the system's reason.
        if not any(sign in str(error) for sign in SIGNS_OF_SHORT_WRITE):
            raise
        number = _reason_of_short_write(path)
        raise OSError(number, os.strerror(number), str(path)) from error


def _reason_of_short_write(path: Path) -> int:
    """Return the system's error for one more write to a file, that of a full disk if it works."""
    try:
        with path.open("ab", buffering=0) as file:
            file.write(bytes(PROBE_BYTES))
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno or errno.ENOSPC
    return errno.ENOSPC


def restore_newest(
    run: Run,
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    on_alert: Callable[[Alert], None] = lambda _alert: None,
) -> TrainerState | None:
    """Load the newest checkpoint that is whole.

    A damaged one is renamed, so that it is not tried again and can be looked at.

    Args:
        run: The run, with its settings fixed.
        model: Gets the weights.
        optimizer: Gets its moments.
        on_alert: Hears of every checkpoint that is set aside.

    Returns:
        Where the run stands, or None when it has no checkpoint.

    Raises:
        ArtifactMismatchError: All checkpoints are damaged, or they belong to other settings.
    """
    remove_staging(run.checkpoints_dir)
    for path in reversed(checkpoint_paths(run.path)):
        try:
            manifest = verify_checkpoint(path)
        except ArtifactError as error:
            _set_aside(path, error, on_alert)
            continue
        _refuse_other_settings(run, path, manifest)
        try:
            return _restore(path, run, model, optimizer)
        except ArtifactError as error:
            _set_aside(path, error, on_alert)
    refuse_all_damaged(run.path)
    return None


def _set_aside(path: Path, error: ArtifactError, on_alert: Callable[[Alert], None]) -> None:
    message = f"A checkpoint must be what was written, and {path.name} was set aside: {error}"
    logger.warning("%s", message)
    damaged = path.with_name(path.name + DAMAGED_SUFFIX)
    if damaged.exists():
        shutil.rmtree(damaged)
    path.rename(damaged)
    on_alert(Alert(kind="damaged", step=_step_of(path), message=message))


def _step_of(path: Path) -> int:
    digits = path.name.removeprefix("step-")
    return int(digits) if digits.isdecimal() else 0


def _refuse_other_settings(run: Run, path: Path, manifest: Manifest) -> None:
    """Refuse to go on from a checkpoint that a run with other settings has written."""
    corpus = str(manifest.settings.get("corpus"))
    if corpus != run.corpus_fingerprint:
        raise ArtifactMismatchError(
            f"{path.name} was trained on corpus version {corpus[:12]}, "
            f"but run {run.path.name} names version {str(run.corpus_fingerprint)[:12]}. Restore "
            f"config.json of the run, or start a new run."
        )
    # Checkpoints of earlier versions do not have the sizes of the model.
    sizes = manifest.settings.get("model")
    if sizes is not None and settings_from_dict(run.kind, sizes) != run.model:
        raise ArtifactMismatchError(
            f"{path.name} belongs to a model with other settings than run {run.path.name} has "
            f"now. Restore config.json of the run and its base, or start a new run."
        )


def _restore(
    path: Path, run: Run, model: LanguageModel, optimizer: torch.optim.Optimizer
) -> TrainerState:
    # What a damaged file has changed, the checkpoint before it sets again; without one, nothing
    # is trained.
    model.load_weights(path)
    try:
        values = torch.load(path / TRAINER_NAME, map_location="cpu", weights_only=True)
        optimizer.load_state_dict(values["optimizer"])
        state = TrainerState(**values["state"])
        restore_random_states(values["random"])
    except (
        pickle.UnpicklingError,
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
    ) as error:
        raise ArtifactMismatchError(
            f"{path.name}/{TRAINER_NAME} cannot be read ({error}). An earlier checkpoint is used."
        ) from error
    _tell_differences(run, values)
    return state


def _tell_differences(run: Run, values: dict[str, Any]) -> None:
    """Warn where a resumed run cannot equal one that was never stopped."""
    before, now = values["num_threads"], torch.get_num_threads()
    if before != now:
        logger.warning(
            "%s was trained with %d threads and goes on with %d: the result may differ in the "
            "last digits from a run that was never stopped",
            run.path.name,
            before,
            now,
        )


def delete_old_checkpoints(run: Run, keep: int) -> list[int]:
    """Delete all but the newest ``keep`` checkpoints, the best one and the pinned ones.

    Returns:
        The steps whose checkpoints are gone.

    Raises:
        DiskFullError: The disk is so full that not even a name can be changed.
    """
    old = [record for record in list_checkpoints(run.path)[:-keep] if not record.is_best]
    return [record.step for record in old if _delete(run, record.path)]


def _delete(run: Run, path: Path) -> bool:
    """Delete a checkpoint unless it is pinned; a killed process leaves none that is half there."""
    retired = path.with_name(f"{STAGING_PREFIX}gone-{path.name}-{secrets.token_hex(4)}")
    with disk_errors(path):
        with checkpoints_lock(run.path):
            if (path / PINNED_NAME).exists():
                return False
            path.rename(retired)
        try:
            sync_folder(path.parent)
        finally:
            shutil.rmtree(retired, ignore_errors=True)
    return True
