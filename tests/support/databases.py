"""SQLite databases with all tables in a moment: making them takes long, copying does not."""

import tempfile
from functools import cache
from pathlib import Path

from jobs.home import Home
from jobs.store.store import Store


@cache
def _new_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "retro.db"
        store = Store(f"sqlite:///{path}")
        store.check()
        store.close()
        return path.read_bytes()


def put_database(home: Home) -> str:
    """Put a database with all tables and no rows into a home folder that has none.

    Returns:
        Its URL.
    """
    path = home.path / "retro.db"
    if not path.exists():
        path.write_bytes(_new_database())
    return home.database_url()
