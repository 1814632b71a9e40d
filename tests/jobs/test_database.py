"""Transactions, schema version and health of the database."""

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from jobs.database import MIGRATIONS, Database, new_id, sqlite_warning
from jobs.errors import DatabaseError
from jobs.lookup import get_run_record
from jobs.store import Store

WRITERS = 4
ROUNDS = 25


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'retro.db'}"


def test_nothing_is_opened_before_the_first_transaction(url: str, tmp_path: Path) -> None:
    Store(url)

    assert list(tmp_path.iterdir()) == []


def test_each_connection_is_safe_against_a_power_cut(store: Store) -> None:
    with store.read() as session:
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


def test_many_stores_may_make_the_tables_at_once(url: str) -> None:
    stores = [Store(url) for _ in range(6)]
    together = threading.Barrier(len(stores))

    def use(store: Store) -> None:
        together.wait()
        store.create_corpus("letters", {})

    threads = [threading.Thread(target=use, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(stores[0].list_corpora()) == len(stores)
    for store in stores:
        store.close()


def test_the_schema_version_is_recorded(store: Store) -> None:
    with store.read() as session:
        versions = session.scalars(text("SELECT version FROM schema_version")).all()

    assert versions == list(range(1, len(MIGRATIONS) + 1))


def test_texts_of_the_first_schema_are_kept_and_can_have_branches(url: str) -> None:
    store = Store(url)
    corpus = store.create_corpus("letters", {})
    run = store.create_run("first", corpus.id, {}, 10)
    old = store.create_generation(run.id, None, "Once", {"seed": 3})
    with store.write() as session:
        for column in ("parent_id", "branch_index"):
            session.execute(text(f"ALTER TABLE generations DROP COLUMN {column}"))
        session.execute(text("DELETE FROM schema_version WHERE version > 1"))
    store.close()

    upgraded = Store(url)
    found = upgraded.get_generation(old.id)
    child = upgraded.create_generation(run.id, None, "Once", {}, parent_id=old.id, branch_index=2)

    assert (found.prompt, found.settings, found.parent_id) == ("Once", {"seed": 3}, None)
    assert upgraded.get_generation(child.id).branch_index == 2
    with upgraded.read() as session:
        versions = session.scalars(text("SELECT version FROM schema_version")).all()
    assert versions == list(range(1, len(MIGRATIONS) + 1))
    upgraded.close()


def test_a_newer_schema_is_refused_and_left_alone(store: Store) -> None:
    with store.write() as session:
        session.execute(text("INSERT INTO schema_version VALUES (999, 0.0)"))
    older = Store(store.url)

    with pytest.raises(DatabaseError, match=f"version {len(MIGRATIONS)} or older, got 999"):
        older.list_jobs()


def test_a_sound_database_passes_the_check(store: Store) -> None:
    store.create_corpus("letters", {})

    store.check()


def test_a_damaged_database_is_reported(url: str, tmp_path: Path) -> None:
    store = Store(url)
    for _ in range(200):
        store.create_corpus("letters" * 20, {})
    store.close()
    path = tmp_path / "retro.db"
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half : half + 4096] = bytes(range(256)) * 16
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


def test_a_copy_holds_what_was_committed(store: Store, tmp_path: Path) -> None:
    corpus = store.create_corpus("letters", {})
    target = tmp_path / "copies" / "copy.db"

    store.backup(target)

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
    ("version", "is_warned"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
    ],
)
def test_versions_of_sqlite_with_the_fault_are_named(
    version: tuple[int, ...], is_warned: bool
) -> None:
    warning = sqlite_warning(version)

    assert (warning is not None) == is_warned
    assert warning is None or ".".join(map(str, version)) in warning
