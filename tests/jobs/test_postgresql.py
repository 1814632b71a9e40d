"""What a server adds: its clock, lost connections, and a password that nobody may see."""

import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import text

import jobs.store.postgresql
from jobs.errors import PASSING_FAULTS, DatabaseError
from jobs.home import Home
from jobs.store.database import Database
from jobs.store.postgresql import SESSION_SETTINGS
from jobs.store.states import JobState
from jobs.store.store import Store
from jobs.work.worker import Worker
from tests.jobs.postgres import PostgresServer

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
HOUR_S = 3600.0


@pytest.fixture
def hour_ahead(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Set the clock of this host an hour ahead, or right again."""
    real_time = time.time

    def change(is_ahead: bool) -> None:
        ahead = SimpleNamespace(time=lambda: real_time() + HOUR_S * is_ahead)
        monkeypatch.setattr(jobs.store.postgresql, "time", ahead)

    return change


def test_leases_do_not_depend_on_the_clocks_of_hosts(
    postgres_store: Store, hour_ahead: Callable[[bool], None]
) -> None:
    hour_ahead(True)
    fast = Store(postgres_store.url)
    fast.submit("count", settings={})
    claimed = fast.claim("fast")
    told = fast.now()
    fast.close()
    hour_ahead(False)

    assert told == pytest.approx(time.time(), abs=5)
    assert claimed.lease_expires_at - postgres_store.now() == pytest.approx(60, abs=5)


def test_a_clock_that_is_set_later_is_noticed_with_the_next_connection(
    postgres_store: Store, hour_ahead: Callable[[bool], None]
) -> None:
    before = postgres_store.now()

    hour_ahead(True)
    postgres_store.engine.dispose()
    postgres_store.check()
    postgres_store.list_jobs()

    assert postgres_store.now() == pytest.approx(before, abs=5)


def test_the_clock_that_is_given_wins(postgres_store: Store) -> None:
    assert Store(postgres_store.url, now=lambda: 7.0).now() == 7.0


def test_sessions_end_what_a_lost_host_left_open(postgres_store: Store) -> None:
    with postgres_store.read() as session:
        found = {
            name: session.scalar(text(f"SELECT setting FROM pg_settings WHERE name = '{name}'"))
            for name in ("lock_timeout", "idle_in_transaction_session_timeout")
        }

    assert found == {"lock_timeout": "30000", "idle_in_transaction_session_timeout": "60000"}
    assert set(found) < set(SESSION_SETTINGS)


def test_a_reader_cannot_write(postgres_store: Store) -> None:
    with (
        pytest.raises(Exception, match="read-only transaction"),
        postgres_store.read() as session,
    ):
        session.execute(text("DELETE FROM jobs"))


def test_daily_copies_are_the_business_of_the_server(postgres_store: Store, home: Home) -> None:
    postgres_store.backup(home.backups_dir / "copy.db")
    Worker(postgres_store, home, slots=["cpu"], environ={}).back_up()

    assert not home.backups_dir.exists()


@pytest.mark.slow
def test_a_restart_of_the_server_ends_neither_worker_nor_job(
    postgres_server: PostgresServer,
    postgres_store: Store,
    start_worker: Callable[[str], "subprocess.Popen[bytes]"],
    home: Home,
) -> None:
    store = postgres_store
    job = store.submit("count", settings={"steps": 80, "delay": 0.05})
    worker = start_worker("north")
    deadline = time.monotonic() + PATIENCE_S
    while store.get_job(job.id).state is not JobState.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    postgres_server.stop()
    with pytest.raises(PASSING_FAULTS):
        store.list_jobs()
    time.sleep(1.5)
    postgres_server.start()
    while not store.get_job(job.id).state.is_finished:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    done = store.get_job(job.id)
    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 1), home.read_job_log(job.id)
    assert "could not be" in home.read_job_log(job.id)
    assert worker.poll() is None
    later = store.submit("count", settings={"steps": 1})
    while not store.get_job(later.id).state.is_finished:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_restart_between_two_transactions_is_not_noticed(
    postgres_server: PostgresServer, postgres_store: Store
) -> None:
    job = postgres_store.submit("count", settings={})

    postgres_server.stop()
    postgres_server.start()

    assert postgres_store.get_job(job.id) == job
    assert postgres_store.claim("host").id == job.id


UNREACHABLE = "postgresql://me:se%40cret@127.0.0.1:1/retro"


def test_a_server_out_of_reach_is_reported_without_the_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    database = Database(UNREACHABLE)

    with pytest.raises(DatabaseError, match="cannot be opened") as caught:
        database.check()

    said = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(database)
    assert "127.0.0.1" in said
    assert "cret" not in said


@pytest.mark.slow
def test_a_worker_without_its_server_says_so_without_the_password(home: Home) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "--home", str(home.path)],
        cwd=ROOT,
        env={**os.environ, "RETRO_DATABASE_URL": UNREACHABLE},
        capture_output=True,
        text=True,
        check=False,
    )

    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "cannot be opened" in said
    assert "cret" not in said
    assert "Traceback" not in said
