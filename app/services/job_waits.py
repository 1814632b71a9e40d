"""Waits for jobs to end: the database is asked once for all who wait, however many they are."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.concurrency import run_in_threadpool

from app.services.jobs import JobService
from app.services.seats import Seats
from app.services.views.jobs import Job
from jobs.errors import JobError
from jobs.store.states import JobState

POLL_S = 0.5
MOST_WAITING = 100
ASK_AGAIN = "Ask for the job by its id instead, from time to time."

Look = dict[str, Job | JobError]
"""Job to what was found."""


class JobWaits:
    """All who wait for a job."""

    def __init__(self, jobs: JobService) -> None:
        self._jobs = jobs
        self._seats = Seats(MOST_WAITING, "clients may wait for jobs", ASK_AGAIN)
        self._wanted: Counter[str] = Counter()
        self._looks: dict[asyncio.AbstractEventLoop, asyncio.Task[Look]] = {}

    async def wait(self, job_id: str, timeout_s: float) -> Job:
        """Return a job when it has ended, or as it is when the time is over.

        Raises:
            NotFoundError: There is no such job, or no longer.
            TooManyError: Too many wait.
        """
        until = time.monotonic() + timeout_s
        with self._seats.take(), self._wants(job_id):
            job = await run_in_threadpool(self._jobs.get, job_id)
            while not _has_ended(job):
                left = until - time.monotonic()
                if left <= 0:
                    return await run_in_threadpool(self._jobs.get, job_id)
                found = (await self._next_look(left)).get(job_id, job)
                if isinstance(found, JobError):
                    raise found
                job = found
        return job

    @contextmanager
    def _wants(self, job_id: str) -> Iterator[None]:
        self._wanted[job_id] += 1
        try:
            yield
        finally:
            self._wanted -= Counter((job_id,))

    async def _next_look(self, timeout_s: float) -> Look:
        """Return what the next look finds, nothing if it does not come in time."""
        loop = asyncio.get_running_loop()
        look = self._looks.get(loop)
        if look is None:
            look = self._looks[loop] = loop.create_task(self._look_soon())
            look.add_done_callback(lambda _: self._looks.pop(loop))
        done, _ = await asyncio.wait((look,), timeout=timeout_s)
        return look.result() if done else {}

    async def _look_soon(self) -> Look:
        await asyncio.sleep(POLL_S)
        return await run_in_threadpool(self._look, list(self._wanted))

    def _look(self, job_ids: list[str]) -> Look:
        found: Look = {}
        for job_id in job_ids:
            try:
                found[job_id] = self._jobs.get(job_id)
            except JobError as error:
                found[job_id] = error
        return found


def _has_ended(job: Job) -> bool:
    return JobState(job.state).is_finished
