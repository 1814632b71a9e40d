"""Checkpoints of a run as readers see them: found, verified, pinned.

Importing this module does not import torch.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from retro.artifacts import Manifest, fingerprint, read_manifest, verify_files
from retro.errors import ArtifactError, ArtifactMismatchError, ArtifactMissingError
from retro.whole_files import disk_errors, sync_folder

CHECKPOINT_KIND = "checkpoint"
DAMAGED_SUFFIX = ".damaged"
PINNED_NAME = "pinned"


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
    """Whether it is the first checkpoint with the run's lowest ``val_loss_on``."""
    is_pinned: bool
    """Whether a person chose to keep it for good."""


def checkpoint_name(step: int) -> str:
    """Return the folder name of a step's checkpoint."""
    return f"step-{step:08d}"


def read_checkpoint(path: Path) -> Manifest:
    """Read a checkpoint's manifest and check all but the content of the other files.

    Raises:
        ArtifactMissingError: There is no finished checkpoint here.
        ArtifactMismatchError: The manifest or the size of a file is not what was written.
    """
    with _damage(path):
        manifest = read_manifest(path, CHECKPOINT_KIND)
        step = manifest.settings["step"]
        if manifest.fingerprint != fingerprint(manifest.settings):
            raise ValueError("its settings do not match its fingerprint")
        if checkpoint_name(step) != path.name:
            raise ValueError(f"it is the one of step {step}")
    return manifest


def verify_checkpoint(path: Path) -> Manifest:
    """Read a checkpoint's manifest and compare every file with it.

    Raises:
        ArtifactMissingError: There is no finished checkpoint here.
        ArtifactMismatchError: A file is not what was written, or cannot be read.
    """
    manifest = read_checkpoint(path)
    with _damage(path):
        verify_files(path, manifest)
    return manifest


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn everything that shows a damaged checkpoint into one kind of error."""
    try:
        yield
    except FileNotFoundError as error:
        raise ArtifactMissingError(f"{path.name} was deleted meanwhile. Choose another.") from error
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise ArtifactMismatchError(
            f"{path.name} cannot be read ({error.strerror}). Check the disk."
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactMismatchError(
            f"{path.name} has a damaged manifest ({error}). Use another checkpoint."
        ) from error


def list_checkpoints(run_dir: Path) -> list[CheckpointRecord]:
    """Return the finished checkpoints of a run, oldest first.

    A folder whose manifest does not fit its files is left out; nothing is read whole.
    """
    found: list[tuple[Path, Manifest]] = []
    for path in checkpoint_paths(run_dir):
        try:
            found.append((path, read_checkpoint(path)))
        except ArtifactError:
            continue
    measured = [
        (manifest.settings["val_loss_on"], path)
        for path, manifest in found
        if manifest.settings.get("val_loss_on") is not None
    ]
    best = min(measured, default=(None, None))[1]
    return [
        CheckpointRecord(
            step=manifest.settings["step"],
            path=path,
            size_bytes=sum(entry["bytes"] for entry in manifest.files.values()),
            val_loss_on=manifest.settings.get("val_loss_on"),
            val_loss_off=manifest.settings.get("val_loss_off"),
            is_best=path == best,
            is_pinned=(path / PINNED_NAME).exists(),
        )
        for path, manifest in found
    ]


def checkpoint_paths(run_dir: Path, *, damaged: bool = False) -> list[Path]:
    """Return the folders of checkpoints that have their final name, oldest first.

    Args:
        run_dir: Folder of the run.
        damaged: Return those that were set aside instead of the others.
    """
    paths = (run_dir / "checkpoints").glob("step-*")
    return sorted(path for path in paths if (path.suffix == DAMAGED_SUFFIX) == damaged)


def find_checkpoint(run_dir: Path, step: int | None = None) -> CheckpointRecord:
    """Return a checkpoint whose files are verified to be whole.

    Args:
        run_dir: Folder of the run.
        step: Which one; None is the newest.

    Raises:
        ArtifactMissingError: There is none, or none of this step.
        ArtifactMismatchError: The checkpoint of this step, or every one, is damaged.
    """
    records = list_checkpoints(run_dir)
    if step is None:
        for record in reversed(records):
            try:
                verify_checkpoint(record.path)
            except ArtifactError:
                continue
            return record
        refuse_all_damaged(run_dir)
        raise ArtifactMissingError(
            f"Run {run_dir.name} has no checkpoint yet. Wait for the first one, or train it."
        )
    for record in records:
        if record.step == step:
            verify_checkpoint(record.path)
            return record
    steps = ", ".join(str(record.step) for record in records) or "none"
    raise ArtifactMissingError(
        f"Run {run_dir.name} has no checkpoint of step {step}; it has {steps}. Choose one of these."
    )


def refuse_all_damaged(run_dir: Path) -> None:
    """Refuse a run that has checkpoints but none that is whole; ask only if none could be used.

    Raises:
        ArtifactMismatchError: There are checkpoints, damaged or set aside as such.
    """
    paths = checkpoint_paths(run_dir) + checkpoint_paths(run_dir, damaged=True)
    names = sorted(path.name for path in paths)
    if names:
        raise ArtifactMismatchError(
            f"Run {run_dir.name} needs a checkpoint that is whole, and all {len(names)} it has are "
            f"damaged ({', '.join(names)}). Duplicate the run to train it anew, or delete these "
            f"folders to begin it again at step 0."
        )


def pin_checkpoint(run_dir: Path, step: int, pinned: bool) -> None:
    """Keep a checkpoint for good, or let it be deleted when it is old.

    Args:
        run_dir: Folder of the run.
        step: Step of the checkpoint.
        pinned: Whether to keep it.

    Raises:
        ArtifactMissingError: There is no checkpoint of this step, or no longer.
        DiskFullError: There is no room for the mark.
    """
    path = run_dir / "checkpoints" / checkpoint_name(step)
    with disk_errors(path), checkpoints_lock(run_dir):
        if not path.exists():
            steps = ", ".join(str(record.step) for record in list_checkpoints(run_dir)) or "none"
            raise ArtifactMissingError(
                f"Run {run_dir.name} has no checkpoint of step {step}; it has {steps}. Choose one "
                f"of these."
            )
        if pinned:
            (path / PINNED_NAME).touch()
        else:
            (path / PINNED_NAME).unlink(missing_ok=True)
        sync_folder(path)


@contextmanager
def checkpoints_lock(run_dir: Path) -> Iterator[None]:
    """Keep other processes from pinning or deleting checkpoints of a run for a moment.

    The lock ends with the process, however it ends. A run without checkpoints needs none.
    """
    folder = run_dir / "checkpoints"
    if not folder.exists():
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
