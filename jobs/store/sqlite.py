"""SQLite: which version of it, connections, transactions, and copies of the file."""

import importlib
import secrets
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

from jobs.errors import DatabaseError
from retro.whole_files import sync_file, sync_folder

BUSY_TIMEOUT_S = 30
MODULES = ("sqlite3", "pysqlite3")
"""Modules with the same functions, each with an SQLite of its own."""
FIXED = ((3, 44, 6), (3, 45, 0)), ((3, 50, 7), (3, 51, 0))
"""Ranges of versions, below 3.51.3, that have the fix of the WAL-reset bug."""


def newest_module(names: tuple[str, ...] = MODULES) -> Any:
    """Return the module with the newest SQLite of those that are installed.

    All processes of a host choose the same one, as they share their packages.
    """
    found = []
    for name in names:
        try:
            found.append(importlib.import_module(name))
        except ImportError:
            continue
    return max(found, key=lambda module: module.sqlite_version_info)


def sqlite_warning(version: tuple[int, ...] | None = None) -> str | None:
    """Return what to know about a version of SQLite, None if it has no known fault.

    Args:
        version: As ``sqlite_version_info`` has it; None is the one in use.
    """
    version = version or newest_module().sqlite_version_info
    if version >= (3, 51, 3) or any(low <= version < high for low, high in FIXED):
        return None
    found = ".".join(map(str, version))
    return (
        f"SQLite should be 3.51.3 or newer, got {found}: versions before can, very rarely, damage "
        f"a database with several writers. Install the package pysqlite3, which brings a newer "
        f"one, or set RETRO_DATABASE_URL to a PostgreSQL server."
    )


def damage(found: str) -> DatabaseError:
    """Return the error of a database in which SQLite finds what cannot be."""
    return DatabaseError(
        f"The database must pass SQLite's quick_check, got {found!r}. "
        f"Stop the app, keep the file, and put back the newest copy from the folder 'backups'."
    )


def make_sqlite_engine(url: URL) -> Engine:
    """Make an engine whose writers ask for the lock before they read."""
    engine = create_engine(url, module=newest_module(), pool_size=10, max_overflow=30)
    event.listen(engine, "connect", set_up_connection)
    event.listen(engine, "begin", begin)
    return engine


def set_up_connection(connection: Any, _record: object) -> None:
    """Set the pragmas of a new connection."""
    # The driver would begin transactions by itself, late and never IMMEDIATE.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    # Changing to WAL does not wait for the busy timeout when two processes do it at once.
    attempts_left = 50
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            break
        except newest_module().OperationalError:
            attempts_left -= 1
            if attempts_left == 0:
                raise
            time.sleep(0.1)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def begin(connection: Connection) -> None:
    """Begin a transaction in the mode its execution options ask for."""
    mode = connection.get_execution_options().get("begin_mode", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")


def enforce_foreign_keys(connection: Connection, *, on: bool) -> None:
    """Check references from now on, or not; has no effect inside a transaction."""
    driver_connection = connection.connection.driver_connection
    assert driver_connection is not None
    driver_connection.execute(f"PRAGMA foreign_keys = {'ON' if on else 'OFF'}")


def copy_database(engine: Engine, path: Path) -> None:
    """Write a consistent copy of the database, whole or not at all.

    Raises:
        sqlite3.Error, OSError: It cannot be written. An error of SQLite is one of
            the module that the engine uses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".tmp-{path.name}-{secrets.token_hex(4)}")
    connection = engine.raw_connection()
    try:
        # Outside of any transaction, which SQLite demands here.
        connection.cursor().execute("VACUUM INTO ?", (str(staging),))
        sync_file(staging)
        staging.replace(path)
        sync_folder(path.parent)
    finally:
        connection.close()
        staging.unlink(missing_ok=True)
