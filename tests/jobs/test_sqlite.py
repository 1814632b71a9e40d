"""Which SQLite is used, and what is said about it."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.store.sqlite import newest_module, set_up_connection, sqlite_warning
from jobs.store.store import Store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def newer_sqlite(tmp_path: Path) -> Path:
    """Return a folder with a module that does what sqlite3 does and says it is newer."""
    (tmp_path / "pysqlite3.py").write_text(
        "from sqlite3 import *\nsqlite_version_info = (9, 9, 9)\nsqlite_version = '9.9.9'\n"
    )
    return tmp_path


def test_the_newest_sqlite_that_is_installed_is_used(newer_sqlite: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from jobs.store.sqlite import newest_module, sqlite_warning\n"
        "from jobs.store.store import Store\n"
        f"store = Store('sqlite:///{tmp_path / 'retro.db'}')\n"
        "store.create_corpus('letters', {})\n"
        "print(store.engine.dialect.dbapi.__name__, sqlite_warning())\n"
    )
    environ = {**os.environ, "PYTHONPATH": f"{newer_sqlite}{os.pathsep}{ROOT}"}

    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["pysqlite3", "None"]


def test_modules_that_are_not_installed_are_passed_over() -> None:
    assert newest_module(("no_such_module", "sqlite3")) is sqlite3


def test_the_warning_is_about_the_sqlite_in_use(sqlite_store: Store) -> None:
    with sqlite_store.engine.connect() as connection:
        used = connection.exec_driver_sql("SELECT sqlite_version()").scalar()

    version = tuple(int(part) for part in used.split("."))
    assert version == newest_module().sqlite_version_info
    assert sqlite_warning() == sqlite_warning(version)


@contextmanager
def write_without_wal(path: Path) -> Iterator[Any]:
    """Write to a database that has no write-ahead log yet; others cannot give it one then."""
    with closing(newest_module().connect(path)) as connection:
        connection.execute("CREATE TABLE letters (letter)")
        connection.commit()
        connection.execute("BEGIN IMMEDIATE")
        yield connection


def test_the_write_ahead_log_waits_for_writers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "retro.db"
    with write_without_wal(path) as writer, closing(newest_module().connect(path)) as connection:
        monkeypatch.setattr("jobs.store.sqlite.time.sleep", lambda _: writer.rollback())
        set_up_connection(connection, None)

        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_log_that_cannot_be_had_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "retro.db"
    waits: list[float] = []
    monkeypatch.setattr("jobs.store.sqlite.time.sleep", waits.append)

    with (
        write_without_wal(path),
        closing(newest_module().connect(path)) as connection,
        pytest.raises(newest_module().OperationalError, match="locked"),
    ):
        set_up_connection(connection, None)

    assert sum(waits) == pytest.approx(4.9)


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
