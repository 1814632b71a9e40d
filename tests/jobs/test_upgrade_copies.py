"""Before a database is upgraded it is copied; without a copy nothing is changed."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from jobs.errors import DatabaseError
from jobs.home import Home
from jobs.schema.copies import COPY_SCHEMA, KEPT, copy_tables, find_copies
from jobs.schema.upgrade import NEWEST
from jobs.store.database import Database
from jobs.store.sqlite import newest_module
from jobs.store.store import Store
from jobs.work.worker import KEPT_BACKUPS, Worker
from tests.jobs.old_databases import dump, make_old_database
from tests.jobs.postgres import PostgresServer


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    with postgres_server.database(empty=True) as url:
        yield url


def files(home: Home) -> list[Path]:
    return sorted(home.backups_dir.iterdir()) if home.backups_dir.exists() else []


def test_a_file_is_copied_before_it_is_changed(
    home: Home, open_store: Callable[[str], Store]
) -> None:
    make_old_database(home.database_url(), 2)
    before = dump(home.database_url())

    open_store(home.database_url())

    (copy,) = files(home)
    assert copy.name.startswith(f"before-schema-{NEWEST}-")
    assert dump(f"sqlite:///{copy}") == before


def test_a_copy_can_be_put_back(home: Home, open_store: Callable[[str], Store]) -> None:
    make_old_database(home.database_url(), 1)
    open_store(home.database_url()).close()
    (copy,) = files(home)

    copy.replace(home.path / "retro.db")
    store = open_store(home.database_url())

    assert store.get_job("job1").message == ""


def test_the_newest_copies_are_kept_and_the_daily_ones_are_others(
    home: Home, open_store: Callable[[str], Store]
) -> None:
    home.backups_dir.mkdir()
    for age in range(5):
        old = home.backups_dir / f"before-schema-2-{1000 - age}.db"
        old.write_bytes(b"")
        os.utime(old, (1000 - age, 1000 - age))
    make_old_database(home.database_url(), 2)

    store = open_store(home.database_url())

    kept = [path.name for path in files(home)]
    assert kept[: KEPT - 1] == ["before-schema-2-1000.db", "before-schema-2-999.db"]
    assert len(kept) == KEPT
    for day in range(KEPT_BACKUPS + 2):
        now = 2e9 + day * 25 * 3600
        store.now = lambda now=now: now
        Worker(store, home, slots=["cpu"], environ={}).back_up()
    assert [path.name for path in files(home)][:KEPT] == kept
    assert len(files(home)) == KEPT + KEPT_BACKUPS


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let writes beyond this size fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_without_room_for_the_copy_nothing_is_changed(
    home: Home, open_store: Callable[[str], Store]
) -> None:
    make_old_database(home.database_url(), 2)
    before = dump(home.database_url())

    with (
        largest_file(40_000),
        pytest.raises(DatabaseError, match=r"must be copied .* Nothing was changed: make room"),
    ):
        open_store(home.database_url())

    assert files(home) == []
    assert dump(home.database_url()) == before
    open_store(home.database_url())


def test_a_folder_that_cannot_be_made_is_reported(home: Home) -> None:
    home.backups_dir.write_text("a file where the folder should be")
    make_old_database(home.database_url(), 2)

    with pytest.raises(DatabaseError, match="must be copied"):
        Store(home.database_url()).list_jobs()

    connection = newest_module().connect(home.path / "retro.db")
    versions = connection.execute("SELECT max(version) FROM schema_version").fetchall()
    connection.close()
    assert versions == [(2,)]


def test_tables_are_copied_before_they_are_changed(
    postgres_url: str, open_store: Callable[[str], Store]
) -> None:
    make_old_database(postgres_url, 2)
    before = dump(postgres_url)

    store = open_store(postgres_url)

    copy = f"{COPY_SCHEMA}{NEWEST}"
    with store.engine.connect() as connection:
        assert set(inspect(connection).get_table_names(schema=copy)) == set(before)
        for name, rows in before.items():
            copied = connection.execute(text(f'SELECT * FROM "{copy}"."{name}"')).mappings()
            assert [dict(row) for row in copied] == rows


def test_a_new_database_is_not_copied(empty_url: str, open_store, home: Home) -> None:
    store = open_store(empty_url)

    with store.engine.connect() as connection:
        assert find_copies(connection) == []
    assert files(home) == []


def test_the_newest_copies_of_tables_are_kept(
    postgres_url: str, open_store: Callable[[str], Store]
) -> None:
    store = open_store(postgres_url)
    with store.engine.begin() as connection:
        for name in ("3", "3", "4", "5", "6", "6", "other"):
            if name.isdecimal():
                copy_tables(connection, int(name))
            else:
                connection.execute(text(f"CREATE SCHEMA {COPY_SCHEMA}{name}"))

        assert sorted(find_copies(connection)) == [f"{COPY_SCHEMA}{v}" for v in (4, 5, 6)]


def test_a_copy_on_request_leaves_nothing_half(home: Home, tmp_path: Path) -> None:
    database = Database(home.database_url())
    database.check()

    with largest_file(8_000), pytest.raises(newest_module().Error):
        database.backup(tmp_path / "copies" / "copy.db")

    assert list((tmp_path / "copies").iterdir()) == []
    database.close()
