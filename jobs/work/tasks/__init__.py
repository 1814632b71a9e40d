"""What jobs do. The modules are imported by the process of a job only; they may load torch."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskEntry:
    """Where the work of a kind of job is found."""

    function: str
    """``module:name`` of a function that takes a ``JobContext`` and may return a message.

    It raises ``JobCancelled`` with a message when it ends because it should stop.
    """

    memory_advice: str
    """What a person can change when the job runs out of memory, a full sentence."""

    saves_when_stopped: bool = True
    """Whether work is lost when the process ends before the task has noticed that it should."""


TASKS: Mapping[str, TaskEntry] = {
    "build": TaskEntry(
        function="jobs.work.tasks.build:run",
        memory_advice=(
            "Stop other programs that use the device, or split the corpus; finished steps are kept."
        ),
        saves_when_stopped=False,
    ),
    "train": TaskEntry(
        function="jobs.work.tasks.train:run",
        memory_advice=(
            "Make a new run with a smaller batch_size (and a larger accumulation), a shorter "
            "sequence_length or a smaller preset."
        ),
    ),
}
"""Kind of job to its work."""
