"""A database that several open at once, for the first time."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.exc import OperationalError

from jobs.errors import DatabaseError
from jobs.home import Home
from jobs.store.store import Store


def test_threads_that_come_together_share_one_engine(empty_url: str) -> None:
    store = Store(empty_url)
    with ThreadPoolExecutor(4) as pool:
        with store._lock:
            engines = [pool.submit(lambda: store.engine) for _ in range(4)]
            time.sleep(0.1)
        found = {id(engine.result()) for engine in engines}
    store.close()

    assert len(found) == 1


@pytest.mark.slow
def test_a_new_database_that_another_process_locks_is_waited_for(home: Home) -> None:
    other = locked_database(home)
    threading.Timer(0.5, other.rollback).start()
    store = Store(home.database_url())

    assert store.list_jobs() == []

    store.close()
    other.close()


def test_a_new_database_that_stays_locked_is_given_up(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = locked_database(home)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    store = Store(home.database_url())

    with pytest.raises((OperationalError, DatabaseError), match="locked"):
        store.list_jobs()

    store.close()
    other.close()


def locked_database(home: Home) -> sqlite3.Connection:
    """Return a connection that writes to a database which is not in WAL mode yet."""
    connection = sqlite3.connect(home.path / "retro.db", check_same_thread=False)
    connection.execute("CREATE TABLE letters (letter TEXT)")
    connection.execute("BEGIN IMMEDIATE")
    return connection
