"""What a running task may use of its job: progress, the wish to stop, the lease."""

import logging
import threading
import time
from collections.abc import Callable

from jobs.errors import PASSING_FAULTS, JobCancelled, LeaseLost
from jobs.home import Home
from jobs.store.rows import JobRow
from jobs.store.states import StopIntent
from jobs.store.store import Store

logger = logging.getLogger(__name__)

RENEW_S = 20.0
POLL_S = 0.5
OVERDUE_S = 2.0
REPORT_S = 0.4
"""Shortest time between two reports of the same stage, seconds."""


class JobContext:
    """Given to every task.

    Args:
        store: The database.
        home: The folder that holds everything.
        job: The job as it was when it started.
        token: Lease of the job; every write about it carries this.
    """

    def __init__(self, store: Store, home: Home, job: JobRow, token: str) -> None:
        self.store = store
        self.home = home
        self.job = job
        self.token = token
        self.intent: StopIntent | None = None
        """Why the job is to stop; None also where only its process is to end."""
        self._stop = threading.Event()
        self._reported_stage: str | None = None
        self._reported_at = 0.0

    def ask_to_stop(self, intent: StopIntent | None = None) -> None:
        """Let the task end at its next step.

        Args:
            intent: Why the job is to stop; None if its process is to end, but not the job.
        """
        if intent is not None:
            self.intent = intent
        self._stop.set()

    def should_stop(self) -> bool:
        """Return whether the task should write what it has and end."""
        return self._stop.is_set()

    def progress(self, stage: str, done: int, total: int) -> None:
        """Report progress, and end the task here if it should stop.

        Raises:
            JobCancelled: The job was asked to stop.
            LeaseLost: The job belongs to another process.
        """
        if self.should_stop():
            raise JobCancelled
        self.report(stage, done, total)

    def report(self, stage: str, done: int, total: int) -> None:
        """Report progress, a few times a second at most.

        Raises:
            LeaseLost: The job belongs to another process.
        """
        now = time.monotonic()
        is_news = stage != self._reported_stage or done == total
        if not is_news and now - self._reported_at < REPORT_S:
            return
        if stage != self._reported_stage:
            logger.info("stage %s", stage)
        self._reported_stage, self._reported_at = stage, now
        try:
            self.store.report_progress(self.job.id, self.token, stage=stage, done=done, total=total)
        except PASSING_FAULTS as error:
            logger.warning("progress could not be recorded: %s", error)


class LeaseKeeper:
    """Renews the lease of a job, and passes on the wish to stop, from a thread of its own.

    The lease says that the process is alive, not that the work advances; the work
    reports for itself.

    Args:
        context: The job.
        on_lost: Called once if the lease turns out to belong to another process.
        on_overdue: Called once if the task should have ended ``overdue_s`` ago; None lets it
            take its time. A library may be at work that cannot be interrupted.
        renew_s: How often the lease is renewed, seconds.
        poll_s: How often a wish to stop is looked for, seconds.
        overdue_s: How long a task that saves nothing may take to end when it should, seconds.
    """

    def __init__(
        self,
        context: JobContext,
        on_lost: Callable[[], None],
        on_overdue: Callable[[], None] | None = None,
        *,
        renew_s: float = RENEW_S,
        poll_s: float = POLL_S,
        overdue_s: float = OVERDUE_S,
    ) -> None:
        self._context = context
        self._on_lost = on_lost
        self._on_overdue = on_overdue
        self._renew_s, self._poll_s, self._overdue_s = renew_s, poll_s, overdue_s
        self._overdue_at: float | None = None
        self._renewed_at = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> "LeaseKeeper":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _keep(self) -> None:
        self._renewed_at = time.monotonic()
        while not self._ended.wait(self._poll_s):
            try:
                intent = self._ask()
            except LeaseLost:
                self._on_lost()
                return
            except PASSING_FAULTS as error:
                logger.warning("the lease could not be renewed: %s", error)
                continue
            if intent is not None:
                self._context.ask_to_stop(intent)
            if self._on_overdue is not None and self._is_overdue():
                self._on_overdue()
                return

    def _ask(self) -> StopIntent | None:
        """Return why the job is to stop, and renew the lease if that is due."""
        store, job_id, token = self._context.store, self._context.job.id, self._context.token
        if time.monotonic() - self._renewed_at < self._renew_s:
            return store.stop_intent(job_id, token)
        intent = store.renew_lease(job_id, token)
        self._renewed_at = time.monotonic()
        return intent

    def _is_overdue(self) -> bool:
        if not self._context.should_stop():
            return False
        if self._overdue_at is None:
            self._overdue_at = time.monotonic() + self._overdue_s
        return time.monotonic() >= self._overdue_at
