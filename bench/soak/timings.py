"""How soon something is noticed, in real time: nothing here moves a clock."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # has no types

from bench.soak.processes import DEAD, WorkerProcess, children, kill, wait_for
from jobs.home import Home
from jobs.store.rows import JobRow
from jobs.store.states import JobState
from jobs.store.store import Store

CANCEL_S = 5.0
HARD_KILL_S = 45.0
NOTICE_S = 120.0
PATIENCE_S = 150.0
OTHER_HOST = "another host"


def measure(
    folder: Path, make_store: Callable[[Home], Store]
) -> tuple[dict[str, float], list[str]]:
    """Measure each case in a folder, and on a database, of its own; all at once.

    Args:
        folder: Where the folders are made.
        make_store: Opens an empty database for a folder.

    Returns:
        Seconds by case, and the promises that were broken.
    """

    def run(case: Callable[[Store, Home], dict[str, float]]) -> dict[str, float]:
        home = Home(folder / case.__name__)
        home.create()
        store = make_store(home)
        try:
            return case(store, home)
        finally:
            store.close()

    with ThreadPoolExecutor(len(CASES)) as pool:
        found = list(pool.map(run, CASES))
    seconds = {name: value for case in found for name, value in case.items()}
    goals = {name: goal for case in CASES.values() for name, goal in case.items()}
    broken = [
        f"{name}: {value:.1f} s, promised are {goals[name]:.0f} s"
        for name, value in seconds.items()
        if not value <= goals[name]
    ]
    return seconds, broken


@contextmanager
def _worker(home: Home, store: Store, host: str | None = None) -> Iterator[WorkerProcess]:
    """Run a worker that knows the light tasks, and leave no process of it behind."""
    worker = WorkerProcess(home, store, slots=2, host=host)
    worker.ensure_started()
    try:
        yield worker
    finally:
        worker.kill()
        for child in children(home):
            kill(child, group=True)


def cancel_and_kill(store: Store, home: Home) -> dict[str, float]:
    """Cancel a running job; kill the process of another."""
    with _worker(home, store):
        canceled, killed = (_start(store, "count") for _ in range(2))
        begun = time.monotonic()
        store.request_cancel(canceled.id)
        cancel_s = _until(lambda: store.get_job(canceled.id).state is JobState.CANCELED, begun)
        begun = time.monotonic()
        os.kill(killed.pid or 0, signal.SIGKILL)
        notice_s = _until(lambda: store.get_job(killed.id).attempt == 2, begun)
    return {"cancel": cancel_s, "process of a job gone": notice_s}


def hard_kill(store: Store, home: Home) -> dict[str, float]:
    """Cancel a job that ignores everything; what it has started must be gone too."""
    with _worker(home, store):
        job = _start(store, "ignore_everything")
        wait_for(lambda: store.get_job(job.id).done > 0, PATIENCE_S)
        helper = store.get_job(job.id).done
        begun = time.monotonic()
        store.request_cancel(job.id)
        seconds = _until(
            lambda: store.get_job(job.id).state is JobState.CANCELED and not _lives(helper), begun
        )
    return {"cancel of what ignores everything": seconds}


def host_gone(store: Store, home: Home) -> dict[str, float]:
    """End a host's worker and its job without a word; another host goes on with the job."""
    with _worker(home, store, OTHER_HOST) as gone:
        job = _start(store, "count")
        begun = time.monotonic()
        gone.kill()
        for child in children(home):
            kill(child, group=True)
        silent_s = _until(
            lambda: not any(worker.is_alive for worker in store.list_workers()), begun
        )
    with _worker(home, store):
        notice_s = _until(lambda: store.get_job(job.id).attempt == 2, begun)
    return {"worker of another host gone": silent_s, "job of another host gone": notice_s}


CASES: dict[Callable[[Store, Home], dict[str, float]], dict[str, float]] = {
    cancel_and_kill: {"cancel": CANCEL_S, "process of a job gone": NOTICE_S},
    hard_kill: {"cancel of what ignores everything": HARD_KILL_S},
    host_gone: {"worker of another host gone": NOTICE_S, "job of another host gone": NOTICE_S},
}
"""Each case with what it measures and the seconds that are promised."""


def _start(store: Store, kind: str) -> JobRow:
    """Submit a job and wait until it works."""
    job = store.submit(kind, settings={})
    if not wait_for(lambda: store.get_job(job.id).state is JobState.RUNNING, PATIENCE_S):
        raise TimeoutError(f"{kind} did not start: {store.get_job(job.id)}")
    return store.get_job(job.id)


def _until(condition: Callable[[], bool], begun: float) -> float:
    """Return the seconds until something is true, infinity where it does not come true."""
    found = wait_for(condition, PATIENCE_S)
    return time.monotonic() - begun if found else float("inf")


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in DEAD
    except psutil.NoSuchProcess:
        return False
