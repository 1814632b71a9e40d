"""A worker of any host's name, whose jobs are those of ``sample_tasks``: ``work.py HOME HOST``."""

import os
import signal
import sys
import threading
from pathlib import Path

from jobs.home import Home
from jobs.store.store import Store
from jobs.work.worker import Worker

if __name__ == "__main__":
    _, folder, host = sys.argv
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    Worker(
        Store(os.environ["RETRO_DATABASE_URL"]),
        Home(Path(folder)),
        slots=["cpu"],
        environ=os.environ,
        command=(sys.executable, str(Path(__file__).parent / "sample_child.py")),
        host=host,
    ).run(stop)
