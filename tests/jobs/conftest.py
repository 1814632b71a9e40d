"""A clock, a folder and a store on a real file."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from jobs.home import Home
from jobs.models import Job
from jobs.rows import JobRow
from jobs.states import JobState
from jobs.store import Store

CHILD_COMMAND = (sys.executable, str(Path(__file__).parent / "sample_child.py"))


class Clock:
    """A clock that moves only when it is told to."""

    def __init__(self, time: float) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


@pytest.fixture
def store(home: Home, clock: Clock) -> Iterator[Store]:
    store = Store(home.database_url(), now=clock)
    yield store
    store.close()


@pytest.fixture
def put_state(store: Store):
    """Give a job any state, as if everything before had happened."""

    def put(job: JobRow, state: JobState, token: str | None = None) -> JobRow:
        with store.write() as session:
            session.execute(
                update(Job)
                .where(Job.id == job.id)
                .values(state=state.value, lease_token=token, pid=None)
            )
        return store.get_job(job.id)

    return put


@pytest.fixture
def start(store: Store):
    """Claim the next job and report that its process runs."""

    def start() -> JobRow:
        job = store.claim("host")
        assert job is not None
        return store.transition(job.id, job.lease_token, JobState.STARTING, JobState.RUNNING, pid=1)

    return start
