"""A worker with as many slots as are asked for, under any host's name.

``python -m jobs`` has one slot per device, and a machine has one name.
"""

import argparse
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from jobs.home import Home
from jobs.store.store import Store
from jobs.work.child import start_logging
from jobs.work.worker import Worker

COMMAND = (sys.executable, "-m", "bench.soak.child")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak.worker")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--host", default=socket.gethostname())
    given = parser.parse_args(arguments)
    home = Home(given.home)
    home.create()
    start_logging()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    store = Store(os.environ.get("RETRO_DATABASE_URL") or home.database_url())
    slots = ["cpu", *(f"cpu:{number}" for number in range(1, given.slots))]
    worker = Worker(store, home, slots=slots, environ=os.environ, command=COMMAND, host=given.host)
    worker.run(stop)


if __name__ == "__main__":
    main(sys.argv[1:])
