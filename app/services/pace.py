"""How fast a stage of a job goes, from what was seen of it."""

import threading
from collections import OrderedDict, deque

from app.services.views.jobs import Job

WINDOW_S = 120.0
"""The speed is that of the last minutes: stages slow down and speed up."""
SHORTEST_S = 3.0
"""A shorter time says nothing about the speed, seconds."""
MOST_JOBS = 1_000
MOST_SIGHTS = 200

Sight = tuple[float, int]
"""When a job reported, and how much was done then."""


class Pace:
    """Remembers the progress that pages have seen, and estimates the time that is left.

    The database holds only the last report of a job. After a restart the first estimate
    comes with the second report that is seen.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sights: OrderedDict[tuple[str, int, str, int], deque[Sight]] = OrderedDict()

    def time_left(self, job: Job) -> float | None:
        """Take note of a job's progress and return the seconds its stage still needs.

        Args:
            job: As ``JobService`` returns it.

        Returns:
            None where it is not at work, or too little of it has been seen.
        """
        if job.state != "running" or not job.total or job.progress_at is None:
            return None
        key = (job.id, job.attempt, job.stage, job.total)
        at, done = job.progress_at, job.done
        with self._lock:
            sights = self._sights.setdefault(key, deque(maxlen=MOST_SIGHTS))
            self._sights.move_to_end(key)
            if len(self._sights) > MOST_JOBS:
                self._sights.popitem(last=False)
            if not sights or sights[-1] != (at, done):
                sights.append((at, done))
            while at - sights[0][0] > WINDOW_S:
                sights.popleft()
            first_at, first_done = sights[0]
        if at - first_at < SHORTEST_S or done <= first_done:
            return None
        return (job.total - done) * (at - first_at) / (done - first_done)
