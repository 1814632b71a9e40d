"""States of jobs, runs and generations, and which may follow which."""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    STARTING = "starting"
    """Claimed by a worker; its process has not reported yet."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    """Ended by a person: stopped, or paused in order to go on later."""
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"
    """Its process is gone; it goes back to the queue or, too often gone, is given up."""
    DEAD = "dead"
    """Given up after its process was lost too often."""

    @property
    def is_finished(self) -> bool:
        """Whether a job in this state never changes again."""
        return not TRANSITIONS[self]

    @property
    def is_held(self) -> bool:
        """Whether a process holds the lease of a job in this state."""
        return self in HELD_STATES


class RunState(StrEnum):
    """Where a training run stands; follows the state of its newest job."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    INTERRUPTED = "interrupted"

    @property
    def is_active(self) -> bool:
        """Whether a job of the run is waiting or at work."""
        return self in (RunState.QUEUED, RunState.STARTING, RunState.RUNNING)


class GenerationState(StrEnum):
    """Where a generation stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    INTERRUPTED = "interrupted"
    """The web process ended while it was writing."""


class CorpusState(StrEnum):
    """Where a corpus stands; follows its documents and its newest build job."""

    EMPTY = "empty"
    UPLOADED = "uploaded"
    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"


class StopIntent(StrEnum):
    """Why a job was asked to stop."""

    CANCEL = "cancel"
    PAUSE = "pause"
    TIME_LIMIT = "time_limit"

    @property
    def job_state(self) -> JobState:
        """The state in which a job ends that was asked to stop for this reason."""
        return JobState.TIMED_OUT if self is StopIntent.TIME_LIMIT else JobState.CANCELED


HELD_STATES = (JobState.STARTING, JobState.RUNNING)

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.STARTING, JobState.CANCELED}),
    JobState.STARTING: frozenset(
        {
            JobState.RUNNING,
            JobState.FAILED,
            JobState.INTERRUPTED,
            # A process that never came up, of a job that was asked to stop.
            JobState.CANCELED,
            JobState.TIMED_OUT,
        }
    ),
    JobState.RUNNING: frozenset(
        {
            JobState.SUCCEEDED,
            JobState.FAILED,
            JobState.CANCELED,
            JobState.TIMED_OUT,
            JobState.INTERRUPTED,
        }
    ),
    JobState.INTERRUPTED: frozenset({JobState.QUEUED, JobState.DEAD}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELED: frozenset(),
    JobState.TIMED_OUT: frozenset(),
    JobState.DEAD: frozenset(),
}
"""State to the states that may follow it."""

ACTIVE_STATES = tuple(state for state in JobState if not state.is_finished)


def run_state_after(job_state: JobState, intent: StopIntent | None) -> RunState:
    """Return the state of a run whose newest job is in ``job_state``.

    Args:
        job_state: State of the job.
        intent: Why the job was asked to stop, None if it was not.
    """
    if job_state is JobState.CANCELED and intent is StopIntent.PAUSE:
        return RunState.PAUSED
    if job_state is JobState.TIMED_OUT:
        return RunState.INTERRUPTED
    if job_state is JobState.DEAD:
        return RunState.FAILED
    return RunState(job_state.value)
