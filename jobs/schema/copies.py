"""The copy of a database that is made before its tables are changed."""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from jobs.errors import DatabaseError
from jobs.store.sqlite import copy_database, newest_module

PREFIX = "before-schema-"
"""Start of the names of files; the schema version and the time in UTC seconds follow."""
COPY_SCHEMA = "retro_before_"
"""Start of the names of schemas on PostgreSQL; the schema version follows."""
KEPT = 3


def copy_file(engine: Engine, version: int, now: float) -> None:
    """Copy a SQLite database into the folder ``backups`` beside it, and keep the newest few.

    Args:
        engine: Of the database.
        version: Schema version it is about to get.
        now: UTC seconds.

    Raises:
        DatabaseError: The copy cannot be written.
    """
    with engine.connect() as connection:
        file = Path(connection.exec_driver_sql("PRAGMA database_list").all()[0][2])
    folder = file.parent / "backups"
    try:
        copy_database(engine, folder / f"{PREFIX}{version}-{int(now)}.db")
    except (OSError, newest_module().Error) as error:
        raise DatabaseError(
            f"The database must be copied before it is upgraded, and the copy could not be "
            f"written to {folder} ({error}). Nothing was changed: make room there and start again."
        ) from error
    for old in sorted(folder.glob(f"{PREFIX}*.db"), key=_time_of_file)[:-KEPT]:
        old.unlink(missing_ok=True)


def copy_tables(connection: Connection, version: int) -> None:
    """Copy all tables of a PostgreSQL database into a schema of its own, in the transaction.

    Args:
        connection: With an open transaction.
        version: Schema version the database is about to get.
    """
    for old in find_copies(connection):
        if _version_of_schema(old) == version or _version_of_schema(old) <= version - KEPT:
            connection.execute(text(f'DROP SCHEMA "{old}" CASCADE'))
    copy = f"{COPY_SCHEMA}{version}"
    connection.execute(text(f'CREATE SCHEMA "{copy}"'))
    for table in inspect(connection).get_table_names():
        connection.execute(text(f'CREATE TABLE "{copy}"."{table}" AS TABLE "{table}"'))


def find_copies(connection: Connection) -> list[str]:
    """Return the names of the schemas that hold copies."""
    names = inspect(connection).get_schema_names()
    return [
        name
        for name in names
        if name.startswith(COPY_SCHEMA) and name.removeprefix(COPY_SCHEMA).isdecimal()
    ]


def _version_of_schema(name: str) -> int:
    return int(name.removeprefix(COPY_SCHEMA))


def _time_of_file(path: Path) -> float:
    return path.stat().st_mtime
