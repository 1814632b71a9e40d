"""Light jobs for measuring how soon something is noticed; none loads torch."""

import subprocess
import time

from jobs.work.context import JobContext
from jobs.work.tasks import TaskEntry


def count(context: JobContext) -> None:
    """Report progress ten times a second until asked to stop."""
    step = 0
    while True:
        time.sleep(0.1)
        step += 1
        context.progress("count", step, 0)


def ignore_everything(context: JobContext) -> None:
    """Start a process, report its number, then neither report nor stop."""
    helper = subprocess.Popen(["sleep", "600"])
    context.report("ignore", helper.pid, 0)
    while True:
        time.sleep(0.1)


TASKS = {
    task.__name__: TaskEntry(
        function=f"bench.soak.tasks:{task.__name__}", memory_advice="Close other programs."
    )
    for task in (count, ignore_everything)
}
