"""Many claim, and each job is claimed once; several hosts share one queue."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from jobs.store.models import Job
from jobs.store.states import JobState
from jobs.store.store import Store

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
PATIENCE_S = 60.0

pytestmark = [pytest.mark.slow, pytest.mark.both_databases]


def put_jobs(store: Store, count: int) -> set[str]:
    """Put many jobs into the queue in one transaction; return their ids."""
    rows = [
        {
            "id": f"job{number}",
            "kind": "count",
            "state": JobState.QUEUED.value,
            "settings": {},
            "created_at": 1.0,
        }
        for number in range(count)
    ]
    with store.write() as session:
        session.execute(insert(Job), rows)
    return {row["id"] for row in rows}


def start_claiming(url: str, worker: str) -> subprocess.Popen[str]:
    """Start a process that claims as soon as it is told to."""
    process = subprocess.Popen(
        [sys.executable, FOLDER / "claim_all.py", url, worker],
        env=ENVIRON,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("num_jobs", [200, pytest.param(1000, marks=pytest.mark.sweep)])
def test_four_threads_and_two_processes_claim_each_job_once(store: Store, num_jobs: int) -> None:
    ids = put_jobs(store, num_jobs)
    processes = [start_claiming(store.url, f"process {number}") for number in range(2)]
    claimed: list[str] = []

    def claim(worker: str) -> None:
        while (job := store.claim(worker)) is not None:
            claimed.append(job.id)

    threads = [threading.Thread(target=claim, args=(f"thread {number}",)) for number in range(4)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for thread in threads:
        thread.start()
    outputs = [process.communicate(timeout=PATIENCE_S)[0].split() for process in processes]
    for thread in threads:
        thread.join()

    claimed += [id for output in outputs for id in output]
    assert len(claimed) == num_jobs
    assert set(claimed) == ids
    jobs = store.list_jobs(limit=num_jobs)
    assert {(job.state, job.attempt) for job in jobs} == {(JobState.STARTING, 1)}
    assert len({job.lease_token for job in jobs}) == num_jobs
    shares = Counter(job.worker for job in jobs)
    # SQLite's lock goes to whoever asks at the right moment, so one of the six may get nothing.
    kinds = {worker.split()[0] for worker in shares}
    assert kinds == {"thread", "process"}, f"they did not work side by side: {shares}"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for too long"
        time.sleep(0.05)


def test_two_hosts_share_the_jobs_of_one_server(
    postgres_store: Store, start_worker: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    store = postgres_store
    ids = [store.submit("count", settings={"steps": 1, "delay": 0.2}).id for _ in range(6)]
    hosts = {"north", "south"}

    for host in hosts:
        start_worker(host)
    wait_until(lambda: all(store.get_job(id).state.is_finished for id in ids))

    jobs = [store.get_job(id) for id in ids]
    assert {(job.state, job.attempt) for job in jobs} == {(JobState.SUCCEEDED, 1)}
    assert {job.worker for job in jobs} == hosts
    assert {row.host for row in store.list_workers() if row.is_alive} == hosts


def test_a_host_that_is_lost_leaves_its_job_to_another(
    postgres_store: Store, start_worker: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    store = postgres_store
    job = store.submit("count", settings={"steps": 20, "delay": 0.05})
    north = start_worker("north")
    wait_until(lambda: store.get_job(job.id).state is JobState.RUNNING)
    north.kill()
    os.killpg(store.get_job(job.id).pid, signal.SIGKILL)
    start_worker("south")
    wait_until(lambda: any(row.host == "south" for row in store.list_workers()))
    assert store.get_job(job.id).worker == "north"

    with store.write() as session:  # instead of waiting for a minute
        session.execute(update(Job).values(lease_expires_at=store.now() - 1))
    wait_until(lambda: store.get_job(job.id).state.is_finished)

    done = store.get_job(job.id)
    assert (done.state, done.worker, done.attempt) == (JobState.SUCCEEDED, "south", 2)
    events = store.job_events(job.id)
    assert any("'north' no longer answers" in event.message for event in events)
