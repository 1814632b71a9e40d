"""The part of an upgrade that needs alembic; imported where there is something to change."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

FOLDER = Path(__file__).parent


def make_config() -> Config:
    """Return alembic's settings; there is no file of them."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return config


def migrate(connection: Connection, unstamped: str | None, now: float) -> None:
    """Apply all changes a database does not have yet, in the transaction that is open.

    Alembic keeps its state in module globals: one call at a time in a process.

    Args:
        connection: Of the database.
        unstamped: Change that the database has, but alembic does not know of; None if it does.
        now: Time to record, UTC seconds.
    """
    config = make_config()
    config.attributes |= {"connection": connection, "now": now}
    if unstamped is not None:
        command.stamp(config, unstamped)
    command.upgrade(config, "head")
