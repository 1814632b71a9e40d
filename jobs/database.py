"""The connection to the database: transactions, schema version, health.

SQLite and PostgreSQL are driven by the same code. On SQLite, writers begin with
``BEGIN IMMEDIATE``: a transaction that reads first and asks for the write lock later
fails as soon as two of them meet.
"""

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    create_engine,
    event,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DatabaseError as DriverDatabaseError
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateColumn

from jobs.errors import DatabaseError
from jobs.models import Base, Generation, SchemaVersion

BUSY_TIMEOUT_S = 30
ID_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
"""Letters of ids: safe in URLs and file names, none easily taken for another."""
SCHEMA_LOCK = 7_411_2044
"""Key of the PostgreSQL advisory lock under which the schema is changed."""
FIXED_SQLITE = ((3, 44, 6), (3, 45, 0)), ((3, 50, 7), (3, 51, 0))
"""Ranges of versions, below 3.51.3, that have the fix of the WAL-reset bug."""


def create_tables(connection: Connection) -> None:
    """Schema version 1: all tables."""
    Base.metadata.create_all(connection)


def add_parents_of_generations(connection: Connection) -> None:
    """Schema version 2: which generation another one goes on from, and from which chunk."""
    table = Generation.__tablename__
    # Version 1 makes the tables as they are today, so in a new database nothing is missing.
    present = {column["name"] for column in inspect(connection).get_columns(table)}
    for name in ("parent_id", "branch_index"):
        if name not in present:
            column = Generation.__table__.columns[name]
            assert isinstance(column, Column)
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {definition}")


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (create_tables, add_parents_of_generations)
"""Applied in order; the position, counted from 1, is the schema version."""


def new_id() -> str:
    """Return a short random id that is safe in URLs and file names."""
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(12))


def sqlite_warning(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> str | None:
    """Return what to know about this version of SQLite, None if it has no known fault."""
    if version >= (3, 51, 3) or any(low <= version < high for low, high in FIXED_SQLITE):
        return None
    found = ".".join(map(str, version))
    return (
        f"SQLite should be 3.51.3 or newer, got {found}: versions before can, very rarely, damage "
        f"a database with several writers. Update Python's SQLite or set RETRO_DATABASE_URL to a "
        f"PostgreSQL server."
    )


class Database:
    """Opens transactions. Nothing is opened before the first one.

    The engine belongs to the process that made it: a process started later makes its
    own.

    Args:
        url: SQLAlchemy URL.
        now: Clock, UTC seconds.
    """

    def __init__(self, url: str, *, now: Callable[[], float] = time.time) -> None:
        self.url = url
        self.now = now
        self._engine: Engine | None = None
        self._engine_pid = 0
        self._lock = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The engine of this process, with the schema up to date.

        Raises:
            DatabaseError: The database was written by a newer version.
        """
        if self._engine is None or self._engine_pid != os.getpid():
            with self._lock:
                if self._engine is None or self._engine_pid != os.getpid():
                    engine = make_engine(self.url)
                    upgrade_schema(engine, self.now())
                    self._engine, self._engine_pid = engine, os.getpid()
        return self._engine

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a transaction that sees one state of the database and changes nothing."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a transaction that may change rows; it is committed if the block ends well."""
        engine = self.engine.execution_options(begin_mode="IMMEDIATE")
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    def check(self) -> None:
        """Read the whole database for damage.

        Raises:
            DatabaseError: It is damaged.
        """
        if self.engine.dialect.name != "sqlite":
            return
        try:
            with self.engine.connect() as connection:
                found = connection.execute(text("PRAGMA quick_check(5)")).scalars().all()
        except DriverDatabaseError as error:
            found = [str(error.orig)]
        if list(found) != ["ok"]:
            raise DatabaseError(
                f"The database must pass SQLite's quick_check, got {found[0]!r}. "
                f"Stop the app, keep the file, and put back the newest copy from the folder "
                f"'backups'."
            )

    def backup(self, path: Path) -> None:
        """Write a consistent copy of a SQLite database, whole or not at all."""
        if self.engine.dialect.name != "sqlite":
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = path.with_name(f".tmp-{path.name}-{secrets.token_hex(4)}")
        connection = self.engine.raw_connection()
        try:
            # Outside of any transaction, which SQLite demands here.
            connection.cursor().execute("VACUUM INTO ?", (str(staging),))
            staging.replace(path)
        finally:
            connection.close()
            staging.unlink(missing_ok=True)

    def close(self) -> None:
        """Close this process's connections; the next transaction opens new ones."""
        if self._engine is not None and self._engine_pid == os.getpid():
            self._engine.dispose()
        self._engine = None


def make_engine(url: str) -> Engine:
    """Make an engine; on SQLite, set up its connections and transactions."""
    engine = create_engine(url, pool_size=10, max_overflow=30, pool_pre_ping="sqlite" not in url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", set_up_sqlite)
        event.listen(engine, "begin", begin_sqlite)
    return engine


def set_up_sqlite(connection: Any, _record: object) -> None:
    """Set the pragmas of a new SQLite connection."""
    # The driver would begin transactions by itself, late and never IMMEDIATE.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    # Changing to WAL does not wait for the busy timeout when two processes do it at once.
    for attempts_left in reversed(range(50)):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError:
            if attempts_left == 0:
                raise
            time.sleep(0.1)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def begin_sqlite(connection: Connection) -> None:
    """Begin a transaction in the mode its execution options ask for."""
    mode = connection.get_execution_options().get("begin_mode", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")


def upgrade_schema(engine: Engine, now: float) -> None:
    """Apply the schema changes this database does not have yet.

    Raises:
        DatabaseError: The database has changes this version does not know.
    """
    newest = len(MIGRATIONS)
    try:
        if _schema_version(engine) == newest:
            return
        with engine.execution_options(begin_mode="IMMEDIATE").begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK})
            found = _schema_version(connection)
            if found > newest:
                raise DatabaseError(
                    f"The database must have schema version {newest} or older, got {found}. "
                    f"It was used by a newer version of this program: install that version again."
                )
            for version in range(found + 1, newest + 1):
                MIGRATIONS[version - 1](connection)
                connection.execute(insert(SchemaVersion), {"version": version, "applied_at": now})
    except DriverDatabaseError as error:
        raise DatabaseError(
            f"The database cannot be opened ({error.orig}). "
            f"Check that RETRO_HOME can be written and that RETRO_DATABASE_URL is right."
        ) from error


def _schema_version(source: Engine | Connection) -> int:
    if not inspect(source).has_table(SchemaVersion.__tablename__):
        return 0
    query = select(SchemaVersion.version).order_by(SchemaVersion.version.desc()).limit(1)
    if isinstance(source, Connection):
        return source.scalar(query) or 0
    with source.connect() as connection:
        return connection.scalar(query) or 0
