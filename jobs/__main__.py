"""The worker's start-up: ``python -m jobs [--home DIR]``."""

import argparse
import logging
import os
import signal
import sys
import threading

from jobs.errors import JobError
from jobs.home import DEFAULT_HOME, Home
from jobs.store.sqlite import sqlite_warning
from jobs.store.store import Store
from jobs.work.child import start_logging
from jobs.work.devices import device_slots
from jobs.work.worker import Worker
from retro.errors import RetroError

logger = logging.getLogger("jobs.work.worker")


def main(arguments: list[str]) -> int:
    """Run the worker until a signal stops it.

    Returns:
        Exit code of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m jobs", description="Runs jobs in the background, one per device."
    )
    parser.add_argument(
        "--home",
        default=os.environ.get("RETRO_HOME") or DEFAULT_HOME,
        help="folder that holds everything (default: RETRO_HOME, else ~/.retro)",
    )
    chosen = parser.parse_args(arguments).home
    start_logging()

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        home = Home(chosen)
        home.create()
        store = Store(os.environ.get("RETRO_DATABASE_URL") or home.database_url())
        store.check()
        for warning in (_network_warning(store, home), _sqlite_warning(store)):
            if warning is not None:
                logger.warning("%s", warning)
        Worker(store, home, slots=device_slots(os.environ), environ=os.environ).run(stop)
    except (JobError, RetroError) as error:
        logger.error("%s", error)
        return 1
    return 0


def _sqlite_warning(store: Store) -> str | None:
    return sqlite_warning() if store.engine.dialect.name == "sqlite" else None


def _network_warning(store: Store, home: Home) -> str | None:
    kind = home.network_filesystem()
    if kind is None or store.engine.dialect.name != "sqlite":
        return None
    return (
        f"RETRO_HOME should be on a local disk, got a {kind} file system, on which SQLite can "
        f"lose data. Move the folder or set RETRO_DATABASE_URL to a PostgreSQL server."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
