"""Background jobs as the app shows them."""

from collections.abc import Iterator
from typing import BinaryIO

from app.errors import MissingError
from app.format import count
from app.services.pace import Pace
from app.services.views import jobs as views
from jobs.errors import NotFoundError
from jobs.home import Home
from jobs.store.rows import JobRow
from jobs.store.states import JobState
from jobs.store.store import Store
from jobs.store.transitions import MAX_ATTEMPTS
from retro.errors import ConfigError

MOST_LOG_LINES = 2000
MOST_LINE_CHARACTERS = 2000
READ_BYTES = 1 << 16
BUILD_SHARES = {
    "ingest": 0.02,
    "convert": 0.01,
    "tokenize": 0.02,
    "chunk": 0.08,
    "embed": 0.79,
    "index": 0.04,
    "neighbors": 0.04,
}
"""Stages of a build in their order, with the share of its time that they take on a CPU."""
UNUSUAL_SILENCE_S = 600.0
"""A job that runs reports far more often than this, seconds."""


class JobService:
    """Reads the queue, cancels and retries."""

    def __init__(self, home: Home, store: Store) -> None:
        self._home = home
        self._store = store
        self._pace = Pace()

    def list_jobs(
        self,
        state: str | None = None,
        limit: int = 100,
        *,
        kind: str | None = None,
        before: int | None = None,
    ) -> list[views.Job]:
        """Return the newest jobs first.

        Args:
            state: Only jobs in this state; None is all.
            limit: At most this many.
            kind: Only jobs of this kind; None is all.
            before: Only jobs with a lower number; None is all.

        Raises:
            ConfigError: There is no such state.
        """
        if state is not None and state not in list(JobState):
            allowed = ", ".join(JobState)
            raise ConfigError(f"state must be one of {allowed}, got {state[:40]!r}.")
        chosen = None if state is None else JobState(state)
        rows = self._store.list_jobs(state=chosen, limit=limit, kind=kind, before=before)
        return [views.Job.of(job) for job in rows]

    def count(self) -> dict[tuple[str, str], int]:
        """Return how many jobs there are of each kind and state."""
        return self._store.count_jobs()

    def active(self) -> list[views.Job]:
        """Return the jobs that wait or work, in the order of the queue."""
        waiting = [job for job in self.list_jobs(limit=200) if not job.state.is_finished]
        return sorted(waiting, key=lambda job: job.number)

    def at_work(self) -> list[views.Job]:
        """Return the jobs that some process is starting or running, oldest first."""
        return [views.Job.of(job) for job in self._store.held_jobs()]

    def get(self, job_id: str) -> views.Job:
        """Return one job."""
        return views.Job.of(self._store.get_job(job_id))

    def queue(self) -> list[views.Job]:
        """Return the jobs that wait, in the order in which they start."""
        return [views.Job.of(job) for job in self._store.list_queue()]

    def events(self, job_id: str) -> list[views.JobEvent]:
        """Return the changes of a job's state, oldest first."""
        return [
            views.JobEvent.model_validate(
                {
                    "at": event.at,
                    "from": event.from_state,
                    "to": event.to_state,
                    "attempt": event.attempt,
                    "message": event.message,
                }
            )
            for event in self._store.job_events(job_id)
        ]

    def why_waiting(self, job: views.Job) -> str:
        """Return what a queued job waits for, in words that go on a sentence."""
        before = self._store.get_job(job.after_id) if job.after_id else None
        if before is not None and before.state is not JobState.SUCCEEDED:
            return f"waiting for {self._words(before)}"
        at_work = [item for item in self.active() if item.state in ("starting", "running")]
        if not at_work:
            return "waiting in the queue"
        words = f"waiting until job {at_work[0].number} ({at_work[0].kind}) has ended"
        ids = [item.id for item in self._store.list_queue()]
        between = ids.index(job.id) if job.id in ids else 0
        return f"{words} and {count(between, 'more job')} before it" if between else words

    def _words(self, before: JobRow) -> str:
        if before.kind == "build":
            return "the build of its corpus"
        if before.run_id is None:
            return f"job {before.number} ({before.kind})"
        paused = ", which is paused" if before.state is JobState.CANCELED else ""
        return f"run {self._store.get_run(before.run_id).name!r}{paused}"

    def is_newest(self, job: views.Job) -> bool:
        """Whether no later job works on the same, so that it makes sense to repeat this one."""
        try:
            if job.kind == "train":
                return self._store.get_run(job.run_id or "").job_id == job.id
            return self._store.get_corpus(job.corpus_id or "").build_job_id == job.id
        except NotFoundError:
            return False

    def log(self, job_id: str, last_lines: int = 200) -> str:
        """Return the end of a job's log; empty where it has not written yet."""
        self._store.get_job(job_id)
        lines = self._home.read_job_log(job_id, min(last_lines, MOST_LOG_LINES)).splitlines()
        # Of a progress bar that was redrawn in place, only the last state is of interest.
        return "\n".join(_cut(line.rsplit("\r", 1)[-1]) for line in lines)

    def whole_log(self, job_id: str) -> Iterator[bytes]:
        """Return the whole log of a job in pieces; the file is closed after the last.

        Raises:
            NotFoundError: There is no such job.
            MissingError: It has written no log, or its log was removed.
        """
        job = self._store.get_job(job_id)
        try:
            return _pieces(self._home.job_log(job.id).open("rb"))
        except FileNotFoundError as error:
            raise MissingError(
                f"Job {job.number} has no log: it has not started, or its log was removed."
            ) from error

    def time_left(self, job: views.Job) -> float | None:
        """Return the seconds until the end of a job, where that is known.

        What comes after the present stage of a build is taken to go on at the same pace.
        """
        left = self._pace.time_left(job)
        if left is None or job.stage not in BUILD_SHARES or job.done >= job.total:
            return left
        open_share = BUILD_SHARES[job.stage] * (1 - job.done / job.total)
        return left * (1 - share_done(job)) / open_share

    def cancel(self, job_id: str) -> views.Job:
        """Ask a job to stop; a training run writes a checkpoint first."""
        self._store.request_cancel(job_id)
        return self.get(job_id)

    def set_priority(self, job_id: str, priority: int) -> views.Job:
        """Let a job that waits start earlier or later; a higher priority starts first."""
        return views.Job.of(self._store.set_priority(job_id, priority))

    def run_next(self, job_id: str) -> views.Job:
        """Put a job that waits before all others that wait."""
        return views.Job.of(self._store.run_next(job_id))

    def retry(self, job_id: str) -> views.Job:
        """Submit a finished job again, as a new job that names its parent."""
        return views.Job.of(self._store.retry_job(job_id))


def _cut(line: str) -> str:
    """Shorten a line that would keep a browser busy; the whole log has all of it."""
    if len(line) <= MOST_LINE_CHARACTERS:
        return line
    return f"{line[:MOST_LINE_CHARACTERS]} ... {len(line) - MOST_LINE_CHARACTERS:,} more characters"


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(READ_BYTES):
            yield piece


def outcome(job: views.Job) -> str:
    """Return what came of a job, for people: why it failed, or what it made."""
    return job.error or job.message


def restart_note(job: views.Job) -> str:
    """Return why an unfinished job was started again by itself, empty if it was not."""
    if job.state.is_finished or not job.message or not job.attempt:
        return ""
    if job.state == JobState.QUEUED:
        return f"{job.message} It starts again by itself."
    if job.attempt == 1:
        return ""
    return (
        f"{job.message} It was started again by itself, attempt {job.attempt} of "
        f"{MAX_ATTEMPTS}, and goes on from what was finished."
    )


def silence(job: views.Job, now: float) -> float | None:
    """Return for how many seconds a running job has reported nothing, None if that is usual."""
    if job.state != JobState.RUNNING or job.progress_at is None:
        return None
    passed = now - job.progress_at
    return passed if passed > UNUSUAL_SILENCE_S else None


def share_done(job: views.Job) -> float:
    """Return how much of a job is finished, between 0 and 1; of a build over all its stages."""
    share = min(1.0, job.done / job.total) if job.total else 0.0
    if job.stage not in BUILD_SHARES:
        return share
    stages = list(BUILD_SHARES)
    before = sum(BUILD_SHARES[stage] for stage in stages[: stages.index(job.stage)])
    return before + share * BUILD_SHARES[job.stage]
