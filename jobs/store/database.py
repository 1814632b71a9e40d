"""The connection to the database: transactions, health, copies.

SQLite and PostgreSQL are driven by the same code. On SQLite, writers begin with
``BEGIN IMMEDIATE``: a transaction that reads first and asks for the write lock later
fails as soon as two of them meet.
"""

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import DatabaseError as DriverDatabaseError
from sqlalchemy.orm import Session

from jobs.errors import DatabaseError
from jobs.schema.upgrade import upgrade_schema
from jobs.store.models import SchemaVersion
from jobs.store.postgresql import ServerClock, make_postgresql_engine
from jobs.store.sqlite import copy_database, damage, make_sqlite_engine

ID_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
"""Letters of ids: safe in URLs and file names, none easily taken for another."""
ID_LENGTH = 12
DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
"""Beginning of a URL to the dialect and driver it stands for."""


def new_id() -> str:
    """Return a short random id that is safe in URLs and file names."""
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))


def is_id(text: str) -> bool:
    """Return whether a text may be an id."""
    return len(text) == ID_LENGTH and set(text) <= set(ID_ALPHABET)


def parse_url(url: str) -> URL:
    """Read the URL of a database.

    Raises:
        DatabaseError: It is no URL of SQLite or PostgreSQL. The message does not repeat
            it, as it may hold a password.
    """
    rule = "RETRO_DATABASE_URL must look like sqlite:////folder/retro.db or "
    rule += "postgresql://user:password@host/name"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise DatabaseError(f"{rule}, got something else. Correct it or leave it empty.") from None
    if parsed.drivername not in DRIVERS:
        raise DatabaseError(
            f"{rule}, got one that begins with {parsed.drivername[:40]!r}. Correct it or leave "
            f"it empty."
        )
    if "@" in (parsed.host or ""):
        raise DatabaseError(
            f"{rule}, got one with several '@'. Write those of the password as %40."
        )
    return parsed.set(drivername=DRIVERS[parsed.drivername])


class Database:
    """Opens transactions. Nothing is opened before the first one.

    The engine belongs to the process that made it: a process started later makes its
    own.

    Args:
        url: SQLAlchemy URL.
        now: Clock, UTC seconds; that of the database's server by default, for SQLite that
            of this host.

    Raises:
        DatabaseError: The URL is not one of SQLite or PostgreSQL.
    """

    def __init__(self, url: str, *, now: Callable[[], float] | None = None) -> None:
        self.url = url
        self.now = now or self._server_time
        self._parsed_url = parse_url(url)
        self._clock = ServerClock()
        self._engine: Engine | None = None
        self._engine_pid = 0
        self._lock = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The engine of this process, with the schema up to date.

        Raises:
            DatabaseError: The database cannot be reached, or was written by a newer version.
        """
        with self._lock:
            if self._engine is None or self._engine_pid != os.getpid():
                self._engine, self._engine_pid = self._open_engine(), os.getpid()
            return self._engine

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file of SQLite; no connection is opened."""
        return self._parsed_url.get_backend_name() == "sqlite"

    def _open_engine(self) -> Engine:
        if self.is_sqlite:
            engine = make_sqlite_engine(self._parsed_url)
        else:
            engine = make_postgresql_engine(self._parsed_url, self._clock)
        try:
            upgrade_schema(engine, self._clock)
        except BaseException:
            engine.dispose()
            raise
        return engine

    def _server_time(self) -> float:
        if not self.is_sqlite:
            _ = self.engine  # has compared the clocks when it was made
        return self._clock()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a transaction that sees one state of the database and changes nothing."""
        engine = self.engine
        if not self.is_sqlite:
            engine = engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a transaction that may change rows; it is committed if the block ends well."""
        engine = self.engine.execution_options(begin_mode="IMMEDIATE")
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    def identity(self) -> str:
        """Return when this database was made, which identifies it and its copies."""
        query = select(SchemaVersion.applied_at).order_by(SchemaVersion.version).limit(1)
        with self.read() as session:
            return repr(session.scalar(query))

    def check(self) -> None:
        """Open the database; on SQLite, read all of it for damage.

        Raises:
            DatabaseError: It cannot be opened, or is damaged.
        """
        engine = self.engine
        if not self.is_sqlite:
            return
        try:
            with engine.connect() as connection:
                found = connection.execute(text("PRAGMA quick_check(5)")).scalars().all()
        except DriverDatabaseError as error:
            found = [str(error.orig)]
        if list(found) != ["ok"]:
            raise damage(found[0])

    def backup(self, path: Path) -> None:
        """Write a consistent copy of a SQLite database, whole or not at all."""
        if self.is_sqlite:
            copy_database(self.engine, path)

    def close(self) -> None:
        """Close this process's connections; the next transaction opens new ones."""
        if self._engine is not None and self._engine_pid == os.getpid():
            self._engine.dispose()
        self._engine = None
