"""A clock, a folder, and stores on real databases of both kinds."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

import pytest
from sqlalchemy import update

from jobs.home import Home
from jobs.store.models import Job
from jobs.store.rows import JobRow
from jobs.store.states import JobState
from jobs.store.store import Store
from jobs.work.processes import kill_group
from tests.jobs.postgres import PostgresServer
from tests.support.databases import put_database

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
CHILD_COMMAND = (sys.executable, str(FOLDER / "sample_child.py"))


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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once on each kind of database; most of them on PostgreSQL only in a sweep."""
    if "database_kind" in metafunc.fixturenames:
        is_short = metafunc.definition.get_closest_marker("both_databases") is not None
        marks = () if is_short else (pytest.mark.sweep,)
        metafunc.parametrize("database_kind", ["sqlite", pytest.param("postgresql", marks=marks)])


@pytest.fixture
def database_url(request: pytest.FixtureRequest, database_kind: str, home: Home) -> Iterator[str]:
    """Return the URL of a database with all tables, once of each kind."""
    if database_kind == "sqlite":
        yield put_database(home)
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        with server.database() as url:
            yield url


@pytest.fixture
def empty_url(request: pytest.FixtureRequest, database_kind: str, home: Home) -> Iterator[str]:
    """Return the URL of a database without tables, once of each kind."""
    if database_kind == "sqlite":
        yield home.database_url()
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        with server.database(empty=True) as url:
            yield url


@pytest.fixture
def open_store() -> Iterator[Callable[[str], Store]]:
    """Open stores, with the real time, and close them after the test."""
    stores: list[Store] = []

    def open_store(url: str) -> Store:
        store = Store(url)
        stores.append(store)
        store.check()
        return store

    yield open_store

    for store in stores:
        store.close()


@pytest.fixture
def store(database_url: str, clock: Clock) -> Iterator[Store]:
    """Return a store; a test that asks for it runs once on each kind of database."""
    store = Store(database_url, now=clock)
    yield store
    store.close()


@pytest.fixture
def sqlite_store(home: Home, clock: Clock) -> Iterator[Store]:
    """Return a store for tests that are about SQLite's file."""
    store = Store(put_database(home), now=clock)
    yield store
    store.close()


@pytest.fixture
def postgres_store(postgres_server: PostgresServer) -> Iterator[Store]:
    """Return a store, with the server's time, for tests that are about PostgreSQL."""
    with postgres_server.database() as url:
        store = Store(url)
        yield store
        store.close()


@pytest.fixture
def start_worker(postgres_store: Store, home: Home) -> Iterator[Callable[[str], Popen[bytes]]]:
    """Start workers as on several hosts with one PostgreSQL server; end all they started."""
    workers: list[Popen[bytes]] = []

    def start(host: str) -> Popen[bytes]:
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        environ["RETRO_DATABASE_URL"] = postgres_store.url
        workers.append(Popen([sys.executable, FOLDER / "work.py", home.path, host], env=environ))
        return workers[-1]

    yield start

    for worker in workers:
        worker.kill()
        worker.wait()
    for job in postgres_store.held_jobs():
        if job.pid is not None:
            kill_group(job.pid)


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

    def start(pid: int = 1) -> JobRow:
        job = store.claim("host")
        assert job is not None
        return store.transition(
            job.id, job.lease_token, JobState.STARTING, JobState.RUNNING, pid=pid
        )

    return start
