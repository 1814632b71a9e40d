"""At most one process trains a run at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from retro.errors import TrainingError
from retro.whole_files import disk_errors

LOCK_NAME = "training.lock"


@contextmanager
def only_trainer(run_dir: Path) -> Iterator[None]:
    """Keep other processes from training a run; the lock ends with the process, however it ends.

    Processes that prepare batches may outlive a killed trainer for some seconds. They inherit
    no lock of this kind (``fcntl``, not ``flock``), so the next trainer need not wait for them.
    In turn such a lock does not keep apart two threads of one process.

    Args:
        run_dir: Folder of the run.

    Raises:
        TrainingError: Another process still trains the run.
        DiskFullError: There is no room for the name of the process.
    """
    path = run_dir / LOCK_NAME
    with path.open("a+b", buffering=0) as file:
        if not _is_taken(file):
            raise TrainingError(
                f"A run can be trained by one process at a time, and {run_dir.name} is trained "
                f"by process {_holder(file)}. Wait until it ends, or stop it."
            )
        with disk_errors(path):
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        yield


def _is_taken(file: FileIO) -> bool:
    """Return whether the lock could be taken."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _holder(file: FileIO) -> str:
    file.seek(0)
    return file.read(20).decode(errors="replace") or "unknown"
