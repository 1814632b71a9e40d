"""Small tasks for tests of the worker; each notes in a file that it was started."""

import errno
import os
import signal
import subprocess
import time
from pathlib import Path

from jobs.errors import JobCancelled
from jobs.work.context import JobContext
from jobs.work.tasks import TaskEntry
from retro.errors import InputError

ADVICE = "Use fewer letters."


def count(context: JobContext) -> str:
    """Count to ``steps``, ``delay`` seconds each."""
    _note(context, f"attempt {context.job.attempt}")
    steps = context.job.settings["steps"]
    for step in range(1, steps + 1):
        time.sleep(context.job.settings.get("delay", 0))
        context.progress("count", step, steps)
    _note(context, "done")
    return f"Counted to {steps}."


def die_at_first(context: JobContext) -> str:
    """Be killed in the first attempt, succeed in the second."""
    if context.job.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return count(context)


def exit_at_once(_context: JobContext) -> None:
    """End the process without a word."""
    os._exit(3)


def ignore_everything(context: JobContext) -> None:
    """Neither report nor stop, and leave a process of its own behind."""
    helper = subprocess.Popen(["sleep", "600"])
    _note(context, str(helper.pid))
    while True:
        time.sleep(0.1)


def sleep_through(context: JobContext) -> None:
    """Be at work in a library that cannot be interrupted."""
    _note(context, "started")
    time.sleep(600)


def save_when_stopped(context: JobContext) -> None:
    """Work until asked to stop, then save, as training does."""
    _note(context, "started")
    step = 0
    while not context.should_stop():
        step += 1
        context.report("work", step, 0)
        time.sleep(0.02)
    _note(context, "saved")
    raise JobCancelled("Saved.")


def fail(context: JobContext) -> None:
    """Raise the error named in the settings."""
    match context.job.settings["error"]:
        case "input":
            raise InputError("notes.txt must hold text, got nothing. Fill it and try again.")
        case "bug":
            raise ZeroDivisionError("hf_abcdefghijklmnop must stay secret")
        case "memory":
            raise MemoryError
        case "torch":
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        case "disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _note(context: JobContext, line: str) -> None:
    with Path(context.home.path / f"{context.job.id}.notes").open("a") as file:
        file.write(f"{line}\n")


TASKS = {
    task.__name__: TaskEntry(function=f"sample_tasks:{task.__name__}", memory_advice=ADVICE)
    for task in (count, die_at_first, exit_at_once, ignore_everything, save_when_stopped, fail)
} | {
    "train": TaskEntry(function="sample_tasks:save_when_stopped", memory_advice=ADVICE),
    "missing": TaskEntry(function="sample_tasks:nothing", memory_advice=ADVICE),
    "sleep_through": TaskEntry(
        function="sample_tasks:sleep_through", memory_advice=ADVICE, saves_when_stopped=False
    ),
}
