"""Transactions, URLs and health of the database."""

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from jobs.errors import DatabaseError
from jobs.store.database import Database, is_id, new_id, parse_url
from jobs.store.lookup import get_run_record
from jobs.store.store import Store

WRITERS = 4
ROUNDS = 25


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'retro.db'}"


def test_nothing_is_opened_before_the_first_transaction(url: str, tmp_path: Path) -> None:
    Store(url)

    assert list(tmp_path.iterdir()) == []


def test_each_connection_is_safe_against_a_power_cut(sqlite_store: Store) -> None:
    with sqlite_store.read() as session:
        found = {
            name: session.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }

    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 30_000,
    }


@pytest.mark.both_databases
def test_a_database_is_known_again_and_told_from_others(store: Store, tmp_path: Path) -> None:
    other = Store(f"sqlite:///{tmp_path / 'other.db'}")
    copy = Store(f"sqlite:///{tmp_path / 'copy.db'}")
    other.backup(tmp_path / "copy.db")

    assert store.identity() == store.identity()
    assert other.identity() == copy.identity() != store.identity()
    for one in (other, copy):
        one.close()


def test_an_id_is_told_from_other_names() -> None:
    assert is_id(new_id())
    assert not any(map(is_id, ("", "abc", "by hand", new_id() + "a", new_id()[:-1] + "1")))


@pytest.mark.both_databases
def test_no_update_is_lost_between_reading_and_writing(store: Store) -> None:
    corpus = store.create_corpus("letters", {})
    run = store.create_run("first", corpus.id, {}, 10)
    together = threading.Barrier(WRITERS)

    def count() -> None:
        together.wait()
        for _ in range(ROUNDS):
            with store.write() as session:
                record = get_run_record(session, run.id, lock=True)
                record.step = record.step + 1

    threads = [threading.Thread(target=count) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert store.get_run(run.id).step == WRITERS * ROUNDS


@pytest.mark.both_databases
def test_a_reader_sees_one_state_of_the_database(store: Store) -> None:
    store.create_corpus("letters", {})
    query = text("SELECT count(*) FROM corpora")

    with store.read() as session:
        before = session.scalar(query)
        store.create_corpus("more letters", {})
        after = session.scalar(query)

    assert (before, after) == (1, 1)
    assert len(store.list_corpora()) == 2


@pytest.mark.both_databases
def test_a_block_that_fails_leaves_nothing(store: Store) -> None:
    corpus = store.create_corpus("letters", {})

    def fail() -> None:
        with store.write() as session:
            session.execute(text("DELETE FROM corpora"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert store.get_corpus(corpus.id) == corpus


def test_two_stores_of_one_file_see_each_other(store: Store) -> None:
    other = Store(store.url)

    job = store.submit("count", settings={})

    assert other.get_job(job.id) == job
    other.close()


def test_a_sound_database_passes_the_check(store: Store) -> None:
    store.create_corpus("letters", {})

    store.check()


@pytest.mark.parametrize("is_in_the_way", [False, True])
def test_a_damaged_database_is_reported(url: str, tmp_path: Path, is_in_the_way: bool) -> None:
    store = Store(url)
    for _ in range(200):
        store.create_corpus("letters" * 20, {})
    store.close()
    path = tmp_path / "retro.db"
    data = bytearray(path.read_bytes())
    last = data.rindex(b"letters") // 4096 * 4096
    first = 4096 if is_in_the_way else last
    data[first : last + 4096] = bytes(range(256)) * ((last + 4096 - first) // 256)
    path.write_bytes(data)
    damaged = Database(url)

    with pytest.raises(DatabaseError, match="quick_check"):
        damaged.check()

    damaged.close()


def test_a_file_that_is_no_database_is_reported(url: str, tmp_path: Path) -> None:
    (tmp_path / "retro.db").write_bytes(b"This is not a database. " * 100)

    with pytest.raises(DatabaseError, match="cannot be opened"):
        Database(url).check()


def test_a_folder_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="RETRO_HOME"):
        Store(f"sqlite:///{tmp_path / 'nowhere' / 'retro.db'}").list_jobs()


def test_a_copy_holds_what_was_committed(sqlite_store: Store, tmp_path: Path) -> None:
    corpus = sqlite_store.create_corpus("letters", {})
    target = tmp_path / "copies" / "copy.db"

    sqlite_store.backup(target)

    with sqlite3.connect(target) as connection:
        names = connection.execute("SELECT name FROM corpora WHERE id = ?", (corpus.id,))
        assert names.fetchall() == [("letters",)]
    connection.close()
    assert [path.name for path in target.parent.iterdir()] == ["copy.db"]


def test_ids_are_distinct_and_safe_in_urls() -> None:
    ids = {new_id() for _ in range(1000)}

    assert len(ids) == 1000
    assert all(id.isascii() and id.isalnum() and id == id.lower() for id in ids)


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:////home/retro.db", "sqlite"),
        ("postgresql://me:secret@host/retro", "postgresql+psycopg"),
        ("postgres://me:secret@host/retro", "postgresql+psycopg"),
        ("postgresql+psycopg://me:secret@host/retro", "postgresql+psycopg"),
    ],
)
def test_urls_name_the_database_and_we_choose_the_driver(url: str, driver: str) -> None:
    assert parse_url(url).drivername == driver


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://me:secret@host/retro", "begins with 'mysql'"),
        ("postgresql+asyncpg://me:secret@host/retro", "begins with 'postgresql.asyncpg'"),
        ("postgresql://me:sec@ret@host/retro", "several '@'"),
        ("postgresql://me:sec@ret:port/retro", "got something else"),
        ("me:secret", "got something else"),
        ("", "got something else"),
    ],
)
def test_a_url_that_is_wrong_is_refused_and_not_repeated(url: str, reason: str) -> None:
    with pytest.raises(
        DatabaseError, match=f"RETRO_DATABASE_URL must look like .*{reason}"
    ) as caught:
        Store(url)

    assert "secret" not in str(caught.value)
    assert "ret@" not in str(caught.value)
    assert caught.value.__cause__ is None
