"""Kill -9 while saving, and a disk that is full at any write, harm no older checkpoint."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.soak.full_disk import CALLS, can_trace
from retro.training.checkpoint import save_values

ROOT = Path(__file__).parents[3]


def soak(module: str, *arguments: str, folder: Path) -> dict[str, object]:
    """Run a part of the soak in a process of its own, as it forks."""
    result = subprocess.run(
        [sys.executable, "-m", f"bench.soak.{module}", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    report: dict[str, object] = json.loads(result.stdout)
    return report


@pytest.fixture
def fast_folder(tmp_path: Path) -> Path:
    """Return a folder in memory where there is one: what is killed is no disk, but a process."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.sweep)])
def test_kills_while_saving_leave_a_whole_newest_checkpoint(fast_folder: Path, kills: int) -> None:
    report = soak("saving", str(kills), folder=fast_folder)

    assert report["kills"] == kills
    # The kills must have met what they are for.
    assert int(str(report["while_writing"])) >= kills / 10
    assert int(str(report["saved"])) >= kills / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "calls", "least"),
    [("49152", "20", 5), pytest.param("32768", "5", 11, marks=pytest.mark.sweep)],
)
def test_a_full_disk_at_any_write_is_one_clear_error_and_harms_nothing(
    fast_folder: Path, limits: str, calls: str, least: int
) -> None:
    report = soak("full_disk", "--limit-stride", limits, "--stride", calls, folder=fast_folder)

    failures = report["failures"]
    assert isinstance(failures, dict)
    assert min(failures[name] for name in ("model.safetensors", "trainer.pt")) > 5
    assert failures["manifest.json"] == 1
    if can_trace():
        refused = [failures[f"{call} ENOSPC"] for call in CALLS]
        assert min(refused) > 0
        assert sum(refused) >= least


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_the_reason_of_a_short_write_is_told() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        save_values({"moments": torch.zeros(100_000)}, Path("/dev/full"))

    assert caught.value.errno == errno.ENOSPC
