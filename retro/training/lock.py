"""At most one process trains a run at a time."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from retro.artifacts import disk_errors
from retro.errors import TrainingError

LOCK_NAME = "training.lock"
POLL_S = 0.1


@contextmanager
def only_trainer(run_dir: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Keep other processes from training a run; the lock ends with the process, however it ends.

    Processes that prepare batches may outlive a killed trainer for some seconds. They inherit
    no lock of this kind (``fcntl``, not ``flock``), so the next trainer need not wait for them.
    In turn such a lock does not keep apart two threads of one process.

    Args:
        run_dir: Folder of the run.
        wait_s: Longest wait for another process to end, in seconds.

    Raises:
        TrainingError: Another process still trains the run.
        DiskFullError: There is no room for the name of the process.
    """
    path = run_dir / LOCK_NAME
    with path.open("a+b", buffering=0) as file:
        deadline = time.monotonic() + wait_s
        while not _is_taken(file):
            if time.monotonic() >= deadline:
                raise TrainingError(
                    f"A run can be trained by one process at a time, and {run_dir.name} is trained "
                    f"by process {_holder(file)}. Wait until it ends, or stop it."
                )
            time.sleep(POLL_S)
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
