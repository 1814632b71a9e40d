"""The worker as a process, the processes of its jobs, and how they are killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # has no types

from jobs.home import Home
from jobs.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
CHILD_MODULES = ("jobs.work.child", "bench.soak.child")
DEAD = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


@dataclass(frozen=True, slots=True)
class Child:
    """The process of a job."""

    pid: int
    job_id: str
    token: str


class WorkerProcess:
    """A worker that is started, killed and started again.

    Args:
        home: Its folder.
        store: Its database.
        slots: How many jobs it runs at once; ``python -m jobs`` itself runs where this is 1
            and no host is named.
        host: Name it goes by, None is this machine's.
    """

    def __init__(self, home: Home, store: Store, *, slots: int = 1, host: str | None = None):
        self.home = home
        self._store = store
        self._process: subprocess.Popen[bytes] | None = None
        module = "jobs" if slots == 1 and host is None else "bench.soak.worker"
        self._command = [sys.executable, "-m", module, "--home", str(home.path)]
        if module != "jobs":
            self._command += ["--slots", str(slots), *(["--host", host] if host else [])]

    def ensure_started(self) -> None:
        """Start the worker where it does not run."""
        if self.is_alive():
            return
        self.home.create()
        variables = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "RETRO_HOME": str(self.home.path),
            "RETRO_DATABASE_URL": self._store.url,
            "PYTHONPATH": str(ROOT),
        }
        with (self.home.path / "worker.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=variables,
                cwd=ROOT,
                start_new_session=True,
            )

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it without a word; the processes of its jobs go on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int | None:
        """Ask it to end, and return its exit code."""
        if self._process is None:
            return None
        self._process.terminate()
        return self._process.wait(timeout=60)


def children(home: Home) -> list[Child]:
    """Return the processes of jobs in a folder that are alive, however they were started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            command = process.cmdline()
            if (
                len(command) >= 5
                and command[-3] in CHILD_MODULES
                and process.status() not in DEAD
                and process.environ().get("RETRO_HOME") == str(home.path)
            ):
                found.append(Child(process.pid, *command[-2:]))
    return found


def leftovers(home: Home) -> list[int]:
    """Return all living processes that were started for a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            is_other = process.pid != os.getpid() and process.status() not in DEAD
            if is_other and process.environ().get("RETRO_HOME") == str(home.path):
                found.append(process.pid)
    return found


def kill(child: Child, *, group: bool) -> None:
    """Send SIGKILL to the process of a job, or to all that it started as well."""
    with suppress(ProcessLookupError):
        if group:
            os.killpg(child.pid, signal.SIGKILL)
        else:
            os.kill(child.pid, signal.SIGKILL)


def wait_for(condition: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    """Return whether something became true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
