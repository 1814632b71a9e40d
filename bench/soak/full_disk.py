"""A full disk at every single write of a checkpoint, below Python: at the system calls.

The weights are written by Rust and the moments by C++, so no Python function sees all writes.
``strace`` lets the n-th call of a process, and all after it, fail. Where it cannot be used, a
limit on the size of files does nearly the same. ``python -m bench.soak.full_disk`` prints the
figures as JSON.
"""

import argparse
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from bench.soak.saving import KEEP, check_newest, in_child, make_run, make_trained, save_next
from retro.artifacts import MANIFEST_NAME
from retro.checkpoints import list_checkpoints
from retro.errors import DiskFullError
from retro.model.tensor_file import WEIGHTS_NAME
from retro.run import Run
from retro.training.checkpoint import (
    TRAINER_NAME,
    delete_old_checkpoints,
    restore_newest,
)
from retro.training.state import TrainerState

CALLS = ("write", "writev", "mkdir", "rename", "fsync")
"""Calls of a save that a full disk can refuse."""
ERRORS = (errno.ENOSPC, errno.EDQUOT)
SAVED, FULL = 0, 28
ATTACH_S = 20.0


@dataclass(kw_only=True)
class FullDiskReport:
    """What came of the failing calls; a broken promise raises instead."""

    failures: dict[str, int] = field(default_factory=dict)
    """Kind of failure to how often a save met it, with one clear error each time."""
    seconds: float = 0.0


def can_trace() -> bool:
    """Return whether ``strace`` is there and may attach to a process."""
    if shutil.which("strace") is None:
        return False
    child = in_child(lambda: time.sleep(60))
    command = ["strace", "-qq", "-p", str(child), "-e", "trace=none"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as tracer:
        traced = _wait_for_tracer(child, tracer)
        os.kill(child, 9)
        os.waitpid(child, 0)
    return traced


def fail_each_call(
    folder: Path, number: int = errno.ENOSPC, stride: int = 1, calls: Iterable[str] = CALLS
) -> dict[str, int]:
    """Let the n-th of each call and all later ones fail, for all n until a save succeeds.

    Args:
        folder: An empty folder.
        number: Error of the calls, one of those a full disk or quota gives.
        stride: Step between the values of n; 1 is every call.
        calls: Names of system calls.

    Returns:
        Call to the number of saves that met a failure.

    Raises:
        AssertionError: A save ended in anything but a checkpoint or a ``DiskFullError``, or an
            older checkpoint is no longer there, or something was left over.
    """
    run = start_run(folder)
    met = dict.fromkeys(calls, 0)
    for call in met:
        first = 1
        while try_save(run, fault=f"{call}:error={errno.errorcode[number]}:when={first}+") == FULL:
            met[call] += 1
            first += stride
    return met


def limit_each_size(folder: Path, stride: int = 1024) -> dict[str, int]:
    """Let every write beyond a number of bytes fail, in each file of a checkpoint.

    Args:
        folder: An empty folder.
        stride: Bytes between two limits.

    Returns:
        File to the number of saves that met the limit in it.

    Raises:
        AssertionError: As in ``fail_each_call``.
    """
    run = start_run(folder)
    newest = list_checkpoints(run.path)[-1].path
    met = {}
    for name in (WEIGHTS_NAME, TRAINER_NAME, MANIFEST_NAME):
        size = (newest / name).stat().st_size
        limits = range(0, size, stride)
        # The files before are larger than the manifest, so its limit begins when it is opened.
        begins = MANIFEST_NAME if name == MANIFEST_NAME else None
        codes = [try_save(run, prepare=_limiting(limit, begins)) for limit in limits]
        assert codes == [FULL] * len(limits), f"a limit below the size of {name} was not met"
        met[name] = len(limits)
    assert try_save(run) == SAVED
    return met


def start_run(folder: Path) -> Run:
    """Return a run with one checkpoint."""
    run = make_run(folder)
    model, optimizer = make_trained(run)
    save_next(run, model, optimizer, TrainerState())
    return run


def try_save(
    run: Run, *, fault: str | None = None, prepare: Callable[[], None] = lambda: None
) -> int:
    """Save the next checkpoint in a process with a fault, and check what is there afterwards.

    Args:
        run: A run with at least one checkpoint.
        fault: What ``strace`` shall inject; None is nothing.
        prepare: Called in the process before it saves.

    Returns:
        ``SAVED``, or ``FULL`` after one clear error.
    """
    before = list_checkpoints(run.path)[-1].step
    reader, writer = os.pipe()
    child = in_child(lambda: _save_once(run, reader, writer, prepare))
    os.close(reader)
    if fault is None:
        os.close(writer)
        _, status = os.waitpid(child, 0)
    else:
        status = _wait_traced(child, writer, fault)
    code = os.waitstatus_to_exitcode(status)
    assert code in (SAVED, FULL), f"with {fault or 'a limit'} a save ended with {code}"
    left = {path.name for path in run.checkpoints_dir.iterdir()}
    left -= {record.path.name for record in list_checkpoints(run.path)}
    assert not left, f"left over: {sorted(left)}"
    newest = check_newest(run, before)
    # The deletion of an older one may have failed after a checkpoint was whole.
    assert newest == before + 1 or (newest == before and code == FULL)
    return code


def _save_once(run: Run, reader: int, writer: int, prepare: Callable[[], None]) -> None:
    """Save when the other process closes the pipe, and exit with the code of what happened."""
    try:
        os.close(writer)
        model, optimizer = make_trained(run)
        state = restore_newest(run, model, optimizer)
        assert state is not None
        delete_old_checkpoints(run, KEEP)
        os.read(reader, 1)
        prepare()
        save_next(run, model, optimizer, state)
        delete_old_checkpoints(run, KEEP)
    except DiskFullError as error:
        os._exit(FULL if "start the step again" in str(error) else 2)
    except BaseException:
        # Nothing else may happen; a fault of the disk may keep this from being shown.
        traceback.print_exc()
        raise


def _wait_traced(child: int, writer: int, fault: str) -> int:
    """Attach to a process, let it go on, and return its status."""
    call = fault.split(":", maxsplit=1)[0]
    command = ["strace", "-f", "-qq", "-o", os.devnull, "-p", str(child)]
    command += ["-e", f"trace={call}", "-e", f"inject={fault}"]
    with subprocess.Popen(command) as tracer:
        traced = _wait_for_tracer(child, tracer)
        os.close(writer)
        _, status = os.waitpid(child, 0)
    assert traced, "strace did not attach"
    return status


def _wait_for_tracer(child: int, tracer: "subprocess.Popen[bytes]") -> bool:
    """Return whether a tracer is attached to the process within a while."""
    deadline = time.monotonic() + ATTACH_S
    while time.monotonic() < deadline and tracer.poll() is None:
        if "\nTracerPid:\t0\n" not in Path(f"/proc/{child}/status").read_text():
            return True
        time.sleep(0.002)
    return False


def _limiting(limit: int, begins: str | None) -> Callable[[], None]:
    """Return a function that limits the size of files, now or when a file is first opened."""

    def set_limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    def on_event(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and begins is not None and begins in str(arguments[0]):
            set_limit()

    def prepare() -> None:
        if begins is None:
            set_limit()
        else:
            sys.addaudithook(on_event)

    return prepare


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=1, help="between the failing calls")
    parser.add_argument("--limit-stride", type=int, default=1024, help="bytes between limits")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report = FullDiskReport()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report.failures.update(limit_each_size(Path(folder) / "limit", arguments.limit_stride))
        for number in ERRORS if can_trace() else ():
            name = errno.errorcode[number]
            met = fail_each_call(Path(folder) / name, number, arguments.stride)
            report.failures.update({f"{call} {name}": count for call, count in met.items()})
    report.seconds = time.perf_counter() - begun
    print(json.dumps(asdict(report)))


if __name__ == "__main__":
    main()
