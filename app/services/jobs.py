"""Background jobs as the app shows them."""

import time
from typing import Any

from jobs.home import Home
from jobs.rows import JobRow
from jobs.states import JobState
from jobs.store import Store
from retro.errors import ConfigError

MOST_LOG_LINES = 2000


class JobService:
    """Reads the queue, cancels and retries."""

    def __init__(self, home: Home, store: Store) -> None:
        self._home = home
        self._store = store

    def list_jobs(self, state: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return the newest jobs first.

        Raises:
            ConfigError: There is no such state.
        """
        if state is not None and state not in list(JobState):
            allowed = ", ".join(JobState)
            raise ConfigError(f"state must be one of {allowed}, got {state[:40]!r}.")
        chosen = None if state is None else JobState(state)
        return [job_to_dict(job) for job in self._store.list_jobs(state=chosen, limit=limit)]

    def active(self) -> list[dict[str, Any]]:
        """Return the jobs that wait or work, in the order of the queue."""
        waiting = [
            job for job in self.list_jobs(limit=200) if not JobState(job["state"]).is_finished
        ]
        return sorted(waiting, key=lambda job: job["number"])

    def get(self, job_id: str) -> dict[str, Any]:
        """Return one job."""
        return job_to_dict(self._store.get_job(job_id))

    def log(self, job_id: str, last_lines: int = 200) -> str:
        """Return the end of a job's log; empty where it has not written yet."""
        self._store.get_job(job_id)
        lines = self._home.read_job_log(job_id, min(last_lines, MOST_LOG_LINES)).splitlines()
        # Of a progress bar that was redrawn in place, only the last state is of interest.
        return "\n".join(line.rsplit("\r", 1)[-1] for line in lines)

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Ask a job to stop; a training run writes a checkpoint first."""
        self._store.request_cancel(job_id)
        return self.get(job_id)

    def retry(self, job_id: str) -> dict[str, Any]:
        """Submit a finished job again, as a new job that names its parent."""
        return job_to_dict(self._store.retry_job(job_id))


def job_to_dict(job: JobRow) -> dict[str, Any]:
    """Return a job as the REST routes answer it."""
    return {
        "id": job.id,
        "number": job.number,
        "kind": job.kind,
        "state": job.state.value,
        "stage": job.stage,
        "done": job.done,
        "total": job.total,
        "message": job.message,
        "error": job.error,
        "corpus_id": job.corpus_id,
        "run_id": job.run_id,
        "attempt": job.attempt,
        "after_id": job.after_id,
        "parent_id": job.parent_id,
        "cancel_requested": job.cancel_requested,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "progress_at": job.progress_at,
        "finished_at": job.finished_at,
    }


def share_done(job: dict[str, Any]) -> float:
    """Return how much of the present stage of a job is finished, between 0 and 1."""
    return min(1.0, job["done"] / job["total"]) if job["total"] else 0.0


def time_left(job: dict[str, Any], now: float | None = None) -> float | None:
    """Return the seconds a training job still needs at its speed so far, if that is known.

    The stages of a build have different speeds, so nothing is said about them.
    """
    share = share_done(job)
    if job["kind"] != "train" or job["state"] != "running" or not job["started_at"] or share < 0.02:
        return None
    passed = (now or time.time()) - job["started_at"]
    return float(passed * (1 - share) / share)
