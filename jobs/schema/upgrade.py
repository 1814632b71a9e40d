"""Brings the tables of a database up to date, or refuses one that is too new.

An upgrade is one transaction, made by one process at a time, after a copy of what is
there. A database that is up to date costs two queries, and alembic is not imported.
"""

import importlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, func, inspect, select, text
from sqlalchemy.exc import DatabaseError as DriverDatabaseError

from jobs.errors import DatabaseError
from jobs.schema.copies import copy_file, copy_tables
from jobs.store.models import SchemaVersion
from jobs.store.sqlite import damage, enforce_foreign_keys

logger = logging.getLogger(__name__)

NEWEST = 5
"""Number of the newest change in ``versions``."""
REVISIONS = {f"{version:04d}": version for version in range(1, NEWEST + 1)}
"""Alembic's name of each change to its number."""
REVISION_TABLE = "alembic_version"
UPGRADE_KEY = 7_411_2044
"""Key of the PostgreSQL advisory lock under which the schema is changed."""

_one_at_a_time = threading.Lock()


def upgrade_schema(engine: Engine, now: Callable[[], float]) -> None:
    """Apply the schema changes this database does not have yet, all or none.

    Args:
        engine: Of the database.
        now: Clock, UTC seconds.

    Raises:
        DatabaseError: The database has changes this version does not know, it cannot be
            copied, or it cannot be opened.
    """
    try:
        with engine.connect() as connection:
            version, _ = find_version(connection)
        if version < NEWEST:
            with _one_at_a_time, _open_to_change(engine) as connection:
                _upgrade(engine, connection, now())
    except DriverDatabaseError as error:
        if "malformed" in str(error.orig):
            raise damage(str(error.orig)) from error
        raise DatabaseError(
            f"The database cannot be opened or brought up to date ({error.orig}). "
            f"Check that RETRO_HOME can be written and that RETRO_DATABASE_URL is right."
        ) from error


def find_version(connection: Connection) -> tuple[int, bool]:
    """Return the schema version, 0 without tables, and whether alembic knows of it.

    Raises:
        DatabaseError: The database has changes this version does not know.
    """
    tables = inspect(connection).get_table_names()
    recorded, revision = 0, None
    if SchemaVersion.__tablename__ in tables:
        recorded = connection.scalar(select(func.max(SchemaVersion.version))) or 0
    if REVISION_TABLE in tables:
        revision = connection.scalar(text(f"SELECT version_num FROM {REVISION_TABLE}"))
    if recorded > NEWEST:
        raise _too_new(recorded)
    if revision is None:
        return recorded, False
    if revision not in REVISIONS:
        raise _too_new(revision)
    return REVISIONS[revision], True


def _upgrade(engine: Engine, connection: Connection, now: float) -> None:
    version, is_stamped = find_version(connection)
    if version == NEWEST:
        return  # another process was faster
    if version > 0:
        logger.info("upgrading the database from schema version %d to %d", version, NEWEST)
        if engine.dialect.name == "sqlite":
            copy_file(engine, NEWEST, now)
        else:
            copy_tables(connection, NEWEST)
    unstamped = f"{version:04d}" if version > 0 and not is_stamped else None
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it announces each of its plugins
    importlib.import_module("jobs.schema.migrate").migrate(connection, unstamped, now)


@contextmanager
def _open_to_change(engine: Engine) -> Iterator[Connection]:
    """Open the one transaction in which a schema may be changed."""
    with engine.connect().execution_options(begin_mode="IMMEDIATE") as connection:
        if engine.dialect.name == "postgresql":
            with connection.begin():
                # Who waits may wait for long, while tables are copied.
                connection.execute(text("SET LOCAL lock_timeout = 0"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_KEY})
                yield connection
            return
        # A table that is rebuilt is dropped once, and must not take rows of others with it.
        enforce_foreign_keys(connection, on=False)
        try:
            with connection.begin():
                yield connection
        finally:
            enforce_foreign_keys(connection, on=True)


def _too_new(found: object) -> DatabaseError:
    return DatabaseError(
        f"The database must have schema version {NEWEST} or older, got {found}. "
        f"It was used by a newer version of this program: install that version again."
    )
