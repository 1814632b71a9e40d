"""What goes wrong for a moment ends neither a worker nor a job."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from jobs.__main__ import _network_warning
from jobs.home import Home
from jobs.store.rows import JobRow
from jobs.store.states import JobState, StopIntent
from jobs.store.store import Store
from jobs.work.context import JobContext, LeaseKeeper
from jobs.work.processes import kill_group
from jobs.work.worker import Worker
from tests.jobs.conftest import CHILD_COMMAND
from tests.jobs.test_home import use_mounts
from tests.support.waiting import PATIENCE_S, wait_until

LEASE_LOST_EXIT = 75


@contextmanager
def broken_statements(store: Store, part: str) -> Iterator[list[str]]:
    """Let statements that hold a part fail as on a full disk, and yield those that did."""
    failed: list[str] = []

    def fail(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if part in statement:
            failed.append(statement)
            raise OperationalError(statement, {}, OSError("database or disk is full"))

    event.listen(store.engine, "before_cursor_execute", fail)
    try:
        yield failed
    finally:
        event.remove(store.engine, "before_cursor_execute", fail)


@pytest.fixture
def make_worker(home: Home) -> Iterator[Callable[[Store], Worker]]:
    """Make workers, and end the processes they leave."""
    workers: list[Worker] = []

    def make(store: Store) -> Worker:
        workers.append(
            Worker(
                store, home, slots=["cpu"], environ=os.environ, command=CHILD_COMMAND, host="host",
                poll_s=0.05,
            )
        )  # fmt: skip
        return workers[-1]

    yield make

    for worker in workers:
        for process in worker._processes.values():
            kill_group(process.pid)
            process.wait()


@pytest.fixture
def context(store: Store, home: Home, start) -> JobContext:
    store.submit("count", settings={})
    job = start()
    return JobContext(store, home, job, job.lease_token)


@pytest.mark.slow
def test_a_worker_goes_on_when_the_database_can_be_written_again(
    store: Store, make_worker: Callable[[Store], Worker]
) -> None:
    worker = make_worker(store)
    job = store.submit("count", settings={"steps": 1})
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    with broken_statements(store, "workers") as failed:
        thread.start()
        wait_until(lambda: len(failed) > 2)
        assert store.get_job(job.id).state is JobState.QUEUED

    wait_until(lambda: store.get_job(job.id).state is JobState.SUCCEEDED)
    stop.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


class StoreOfJobsThatEnd(Store):
    """Each job ends by itself as soon as someone has looked which there are."""

    def held_jobs(self) -> list[JobRow]:
        jobs = super().held_jobs()
        for job in jobs:
            self.transition(job.id, job.lease_token, JobState.RUNNING, JobState.SUCCEEDED)
        return jobs


def test_a_job_that_ends_while_it_is_looked_after_is_left_alone(
    store: Store, start, make_worker: Callable[[Store], Worker]
) -> None:
    job = store.submit("count", settings={})
    # Its process is gone, as one is that has just ended.
    start(pid=2**22 + 1)
    ending = StoreOfJobsThatEnd(store.url, now=store.now)

    make_worker(ending).tick()
    ending.close()

    assert store.get_job(job.id).state is JobState.SUCCEEDED


class StoreOfASlowHost(Store):
    """Gives up each job as soon as it is claimed, as another host does after a minute."""

    def claim(self, worker: str, slot: str = "cpu") -> JobRow | None:
        job = super().claim(worker, slot)
        if job is not None:
            self.give_up(job, "Its host no longer answers.")
        return job


@pytest.mark.slow
def test_a_job_that_is_lost_while_it_is_started_is_left_to_others(
    store: Store, make_worker: Callable[[Store], Worker]
) -> None:
    job = store.submit("count", settings={"steps": 1})
    slow = StoreOfASlowHost(store.url, now=store.now)
    worker = make_worker(slow)

    worker.tick()
    slow.close()

    assert store.get_job(job.id).state is JobState.QUEUED
    [started] = worker._processes.values()
    assert started.wait(PATIENCE_S) == LEASE_LOST_EXIT


@pytest.mark.slow
def test_a_process_that_reports_nothing_ends_when_its_lease_is_lost(
    store: Store, make_worker: Callable[[Store], Worker]
) -> None:
    worker = make_worker(store)
    job = store.submit("ignore_everything", settings={})
    worker.tick()
    wait_until(lambda: store.get_job(job.id).state is JobState.RUNNING)
    process = next(iter(worker._processes.values()))

    store.give_up(store.get_job(job.id), "Its host no longer answers.")

    try:
        assert process.wait(PATIENCE_S) == LEASE_LOST_EXIT
    finally:
        kill_group(process.pid)
        worker._processes.clear()


def test_progress_that_cannot_be_written_does_not_end_the_work(
    context: JobContext, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with broken_statements(store, "UPDATE jobs"):
        context.progress("embed", 1, 3)
    assert "could not be recorded" in caplog.text

    context.progress("embed", 3, 3)

    assert store.get_job(context.job.id).done == 3


@pytest.mark.slow
def test_a_lease_that_cannot_be_renewed_is_tried_again(
    context: JobContext, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "jobs.work.context")
    lost = threading.Event()
    with LeaseKeeper(context, lost.set, poll_s=0.02):
        with broken_statements(store, "jobs"):
            wait_until(lambda: "could not be renewed" in caplog.text)
        store.request_cancel(context.job.id)
        wait_until(context.should_stop)

    assert not lost.is_set()
    assert context.intent is StopIntent.CANCEL


def test_only_sqlite_is_warned_of_a_disk_over_a_network(
    store: Store, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _network_warning(store, home) is None
    use_mounts(monkeypatch, {"/": "nfs4"})

    warning = _network_warning(store, home)

    if store.engine.dialect.name == "sqlite":
        assert "local disk, got a nfs4 file system" in warning
    else:
        assert warning is None


def test_adding_no_documents_changes_nothing(store: Store) -> None:
    corpus = store.create_corpus("letters", {})

    store.add_documents(corpus.id, [])

    assert store.count_documents(corpus.id) == 0
