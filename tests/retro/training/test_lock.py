"""One process at a time trains a run; the lock ends with the process."""

import subprocess
import sys
from pathlib import Path

import pytest

from retro.errors import TrainingError
from retro.training.lock import LOCK_NAME, only_trainer

ROOT = Path(__file__).parents[3]
HOLDER = """
import os, sys, time
from pathlib import Path
from retro.training.lock import only_trainer
with only_trainer(Path(sys.argv[1])):
    if os.fork() == 0:
        time.sleep(float(sys.argv[2]))  # as a process that prepares batches
        os._exit(0)
    print("ready", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(run_dir: Path, seconds: float) -> "subprocess.Popen[str]":
    """Start a process that holds the lock and has a child, as trainers have."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run_dir), str(seconds)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_second_process_is_refused_until_the_first_ends_however_it_ends(tmp_path: Path) -> None:
    with hold(tmp_path, 5) as process:
        with (
            pytest.raises(
                TrainingError,
                match=rf"one process at a time, and {tmp_path.name} is trained by process "
                rf"{process.pid}\. Wait until it ends, or stop it\.",
            ),
            only_trainer(tmp_path),
        ):
            pytest.fail("two processes train")
        process.kill()
        process.wait()

        # Its child is still there, and has not inherited the lock.
        with only_trainer(tmp_path):
            pass


def test_the_lock_names_the_newest_process_only(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text("123456789012")

    with hold(tmp_path, 0.1) as process:
        assert (tmp_path / LOCK_NAME).read_text() == str(process.pid)
