"""The process of one job: ``python -m jobs.work.child ID TOKEN``.

Reads ``RETRO_HOME`` and ``RETRO_DATABASE_URL``, which the worker sets for it.
"""

import errno
import importlib
import logging
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jobs.errors import InvalidChangeError, JobCancelled, JobError, LeaseLost, NotFoundError
from jobs.home import Home
from jobs.redaction import RedactingFormatter, redact
from jobs.store.states import JobState
from jobs.store.store import Store
from jobs.work.context import JobContext, LeaseKeeper
from jobs.work.tasks import TASKS, TaskEntry
from retro.errors import RetroError
from retro.memory import is_out_of_memory

logger = logging.getLogger(__name__)

NICENESS = 10
"""How much a job gives way to the web server, between 0 and 19."""
LEASE_LOST_EXIT = 75
"""Exit code of a process that published nothing because its lease was gone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How the work ended."""

    state: JobState
    message: str | None = None
    error: str | None = None


def run_job(
    store: Store, home: Home, job_id: str, token: str, tasks: Mapping[str, TaskEntry] = TASKS
) -> int:
    """Do the work of a claimed job and record how it ended.

    Args:
        store: The database.
        home: The folder that holds everything.
        job_id: The job.
        token: Lease under which it was claimed.
        tasks: Kinds of jobs there are.

    Returns:
        Exit code of the process.
    """
    try:
        job = store.transition(job_id, token, JobState.STARTING, JobState.RUNNING, pid=os.getpid())
        context = JobContext(store, home, job, token)
        signal.signal(signal.SIGTERM, lambda *_: context.ask_to_stop())
        entry = tasks.get(job.kind)
        may_be_cut = entry is not None and not entry.saves_when_stopped
        on_overdue = partial(_cut_short, context) if may_be_cut else None
        with LeaseKeeper(context, _exit_at_once, on_overdue):
            outcome = do_work(context, tasks)
        _record_end(context, outcome)
    except (InvalidChangeError, NotFoundError, LeaseLost) as error:
        logger.warning("nothing was published: %s", error)
        return LEASE_LOST_EXIT
    return 0


def do_work(context: JobContext, tasks: Mapping[str, TaskEntry]) -> Outcome:
    """Run the task of a job, and turn every way in which it can end into an outcome.

    Raises:
        LeaseLost: The job belongs to another process.
    """
    job = context.job
    entry = tasks.get(job.kind)
    if entry is None:
        known = ", ".join(tasks)
        return Outcome(
            state=JobState.FAILED,
            error=f"The kind of a job must be one of {known}, got {job.kind!r}. It may come from "
            f"a newer version of this program.",
        )
    try:
        module, function = entry.function.split(":")
        message = getattr(importlib.import_module(module), function)(context)
    except JobCancelled as stopped:
        return _stopped(context, str(stopped))
    except (RetroError, JobError) as error:
        logger.exception("job %s failed", job.id)
        return Outcome(state=JobState.FAILED, error=redact(str(error)))
    except Exception as error:  # the one place where faults end
        logger.exception("job %s failed", job.id)
        return Outcome(state=JobState.FAILED, error=fault_message(error, entry, job.id))
    return Outcome(state=JobState.SUCCEEDED, message=message or "")


def fault_message(error: Exception, entry: TaskEntry, job_id: str) -> str:
    """Return the sentence that people read about an error that was not raised for them."""
    if is_out_of_memory(error):
        return f"The job needed more memory than there is. {entry.memory_advice}"
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "disk is full" in str(error):
        return "The disk is full. Free some space and repeat the job; what it has finished is kept."
    return (
        f"The job failed because of a fault in the program. Its log has the details (job {job_id})."
    )


def _stopped(context: JobContext, message: str) -> Outcome:
    if context.intent is None:
        return Outcome(
            state=JobState.INTERRUPTED,
            message="Its process was asked to end; the job goes on by itself.",
        )
    state = context.intent.job_state
    if not message and state is JobState.TIMED_OUT:
        message = f"Stopped after its time limit of {context.job.time_limit_s:g} seconds."
    return Outcome(state=state, message=message or "Canceled.")


def _record_end(context: JobContext, outcome: Outcome) -> None:
    logger.info("job %s: %s", context.job.id, outcome.state.value)
    context.store.transition(
        context.job.id,
        context.token,
        JobState.RUNNING,
        outcome.state,
        message=outcome.message,
        error=outcome.error,
        counts=outcome.state is not JobState.INTERRUPTED,
    )


def _cut_short(context: JobContext) -> None:
    """End a job, and its process, whose task has not noticed that it should end."""
    # What the task writes appears whole or not at all, so it may be left anywhere.
    _record_end(context, _stopped(context, ""))
    logging.shutdown()
    os._exit(0)


def _exit_at_once() -> None:
    # The newer process may be writing the same files: not one more step.
    logger.warning("the lease was lost; this process ends")
    logging.shutdown()
    os._exit(LEASE_LOST_EXIT)


def start_logging() -> None:
    """Write the log to standard output, which the worker leads into the job's log file."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for name in ("jobs", "retro"):
        logging.getLogger(name).setLevel(logging.INFO)


def main(arguments: list[str], tasks: Mapping[str, TaskEntry] = TASKS) -> int:
    """Run the job named on the command line.

    Args:
        arguments: Id of the job and token of its lease.
        tasks: Kinds of jobs there are.

    Returns:
        Exit code of the process.
    """
    job_id, token = arguments
    start_logging()
    home = Home(Path(os.environ["RETRO_HOME"]))
    store = Store(os.environ.get("RETRO_DATABASE_URL") or home.database_url())
    return run_job(store, home, job_id, token, tasks)


if __name__ == "__main__":
    # A text that somebody waits for goes first; alone, the job still gets the whole machine.
    os.nice(NICENESS)
    sys.exit(main(sys.argv[1:]))
