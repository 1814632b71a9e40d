"""The worker with real processes."""

import os
import signal
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from jobs.home import Home
from jobs.store.states import JobState, RunState
from jobs.store.store import Store
from jobs.work.processes import kill_group
from jobs.work.version import program_version
from jobs.work.worker import (
    KEPT_BACKUPS,
    KILL_AFTER_S,
    TERMINATE_AFTER_S,
    Worker,
    WorkerLock,
    WorkerRunningError,
)
from tests.jobs.conftest import CHILD_COMMAND
from tests.support.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.slow


class ShiftedClock:
    """The real time, moved into the future by the test instead of waiting."""

    def __init__(self) -> None:
        self.shift = 0.0

    def __call__(self) -> float:
        return time.time() + self.shift


@pytest.fixture
def clock() -> ShiftedClock:
    return ShiftedClock()


@pytest.fixture
def make_worker(store: Store, home: Home) -> Iterator[Callable[..., Worker]]:
    """Make workers, and end the processes they leave."""
    workers: list[Worker] = []

    def make(**options: object) -> Worker:
        settings = {"slots": ["cpu"], "environ": os.environ, "command": CHILD_COMMAND} | options
        workers.append(Worker(store, home, **settings))
        return workers[-1]

    yield make

    for worker in workers:
        for process in worker._processes.values():
            kill_group(process.pid)
            process.wait()


def tick_until(worker: Worker, condition: Callable[[], bool]) -> None:
    """Let the worker work until something is true."""
    wait_until(condition, meanwhile=worker.tick)


def notes(home: Home, job_id: str) -> list[str]:
    path = home.path / f"{job_id}.notes"
    return path.read_text().splitlines() if path.exists() else []


def is_finished(store: Store, job_id: str) -> Callable[[], bool]:
    return lambda: store.get_job(job_id).state.is_finished


def has_started(home: Home, job_id: str) -> Callable[[], bool]:
    return lambda: bool(notes(home, job_id))


def test_a_job_runs_in_a_process_of_its_own(store: Store, home: Home, make_worker) -> None:
    job = store.submit("count", settings={"steps": 3})

    tick_until(make_worker(), is_finished(store, job.id))

    done = store.get_job(job.id)
    assert (done.state, done.message, done.error) == (JobState.SUCCEEDED, "Counted to 3.", None)
    assert (done.stage, done.done, done.total) == ("count", 3, 3)
    assert [event.to_state.value for event in store.job_events(job.id)] == [
        "queued",
        "starting",
        "running",
        "succeeded",
    ]
    assert "stage count" in home.read_job_log(job.id)


def test_one_job_at_a_time_for_each_slot_sees_only_its_device(
    store: Store, home: Home, make_worker
) -> None:
    ids = [store.submit("save_when_stopped", settings={}).id for _ in range(3)]
    worker = make_worker(slots=["cuda:0", "cuda:1"])

    tick_until(worker, lambda: all(notes(home, id) for id in ids[:2]))
    worker.tick()

    jobs = [store.get_job(id) for id in ids]
    assert [job.slot for job in jobs] == ["cuda:0", "cuda:1", None]
    environs = [psutil.Process(job.pid).environ() for job in jobs[:2]]
    assert [environ["CUDA_VISIBLE_DEVICES"] for environ in environs] == ["0", "1"]
    for id in ids:
        store.request_cancel(id)
    tick_until(worker, lambda: all(store.get_job(id).state.is_finished for id in ids))


def test_a_killed_process_is_noticed_and_its_job_repeated(
    store: Store, home: Home, make_worker
) -> None:
    job = store.submit("die_at_first", settings={"steps": 2})

    tick_until(make_worker(), is_finished(store, job.id))

    assert store.get_job(job.id).state is JobState.SUCCEEDED
    assert store.get_job(job.id).attempt == 2
    events = store.job_events(job.id)
    interrupted = [event for event in events if event.to_state is JobState.INTERRUPTED]
    assert len(interrupted) == 1
    assert "SIGKILL" in interrupted[0].message
    assert notes(home, job.id) == ["attempt 2", "done"]


def test_poison_jobs_do_not_stop_the_queue(store: Store, make_worker) -> None:
    """One ends its process, one has no task, one a task that is missing, one bad settings."""
    kinds = ("exit_at_once", "unheard_of", "missing", "count")
    poison = [store.submit(kind, settings={}).id for kind in kinds]
    healthy = store.submit("count", settings={"steps": 1})

    tick_until(make_worker(), is_finished(store, healthy.id))

    assert store.get_job(healthy.id).state is JobState.SUCCEEDED
    ended = [store.get_job(id) for id in poison]
    assert [job.state for job in ended] == [JobState.DEAD, *[JobState.FAILED] * 3]
    assert all(job.error for job in ended)
    assert "fault in the program" in ended[-1].error


def test_a_process_that_cannot_be_started_does_not_stop_the_queue(
    store: Store, make_worker
) -> None:
    job = store.submit("count", settings={"steps": 1})
    worker = make_worker(command=["/no/such/program"])

    tick_until(worker, is_finished(store, job.id))

    assert store.get_job(job.id).state is JobState.DEAD
    assert "could not be started (No such file or directory)" in store.get_job(job.id).error


def test_a_running_job_is_canceled_at_its_next_step(store: Store, home: Home, make_worker) -> None:
    job = store.submit("count", settings={"steps": 1000, "delay": 0.05})
    worker = make_worker()
    tick_until(worker, has_started(home, job.id))

    store.request_cancel(job.id)
    asked = time.monotonic()
    tick_until(worker, is_finished(store, job.id))

    assert store.get_job(job.id).state is JobState.CANCELED
    assert time.monotonic() - asked < 5
    assert "done" not in notes(home, job.id)


def test_a_job_that_is_stopped_may_save_first(store: Store, home: Home, make_worker) -> None:
    corpus = store.create_corpus("letters", {})
    run = store.create_run("first", corpus.id, {}, 10)
    job = store.submit("train", run_id=run.id, settings={})
    worker = make_worker()
    tick_until(worker, has_started(home, job.id))

    store.pause_run(run.id)
    tick_until(worker, is_finished(store, job.id))

    assert notes(home, job.id) == ["started", "saved"]
    assert store.get_run(run.id).state is RunState.PAUSED
    assert store.get_run(run.id).message == "Saved."


def test_a_job_that_does_not_stop_is_killed_with_all_it_started(
    store: Store, home: Home, make_worker, clock: ShiftedClock
) -> None:
    job = store.submit("ignore_everything", settings={})
    worker = make_worker()
    tick_until(worker, has_started(home, job.id))
    helper = int(notes(home, job.id)[0])
    assert psutil.pid_exists(helper)

    store.request_cancel(job.id)
    clock.shift += TERMINATE_AFTER_S
    worker.tick()
    assert store.get_job(job.id).state is JobState.RUNNING
    clock.shift += KILL_AFTER_S - TERMINATE_AFTER_S
    tick_until(worker, is_finished(store, job.id))

    assert store.get_job(job.id).state is JobState.CANCELED
    tick_until(worker, lambda: not is_running(helper))


def test_what_a_killed_process_started_is_killed_too(store: Store, home: Home, make_worker) -> None:
    job = store.submit("ignore_everything", settings={})
    worker = make_worker()
    tick_until(worker, has_started(home, job.id))
    helper = int(notes(home, job.id)[0])

    os.kill(store.get_job(job.id).pid, signal.SIGKILL)

    tick_until(worker, lambda: not is_running(helper))


def test_a_job_over_its_time_limit_is_timed_out(
    store: Store, home: Home, make_worker, clock: ShiftedClock
) -> None:
    job = store.submit("save_when_stopped", settings={}, time_limit_s=3600)
    worker = make_worker()
    tick_until(worker, has_started(home, job.id))
    worker.tick()
    assert not store.get_job(job.id).cancel_requested

    clock.shift += 3601
    tick_until(worker, is_finished(store, job.id))

    assert store.get_job(job.id).state is JobState.TIMED_OUT
    assert notes(home, job.id) == ["started", "saved"]


def test_a_new_worker_adopts_the_jobs_that_run(store: Store, home: Home, make_worker) -> None:
    job = store.submit("save_when_stopped", settings={})
    waiting = store.submit("count", settings={"steps": 1})
    tick_until(make_worker(), has_started(home, job.id))
    pid = store.get_job(job.id).pid

    newer = make_worker()
    for _ in range(3):
        newer.tick()

    adopted = store.get_job(job.id)
    assert (adopted.state, adopted.pid, adopted.attempt) == (JobState.RUNNING, pid, 1)
    assert store.get_job(waiting.id).state is JobState.QUEUED
    store.request_cancel(job.id)
    tick_until(newer, is_finished(store, waiting.id))
    assert store.get_job(job.id).state is JobState.CANCELED


def test_a_new_worker_finds_the_job_whose_process_died_meanwhile(
    store: Store, home: Home, make_worker
) -> None:
    job = store.submit("save_when_stopped", settings={})
    first = make_worker()
    tick_until(first, has_started(home, job.id))
    process = next(iter(first._processes.values()))
    process.kill()
    process.wait()
    first._processes.clear()

    newer = make_worker()
    tick_until(newer, lambda: store.get_job(job.id).attempt == 2)
    tick_until(newer, lambda: len(notes(home, job.id)) == 2)

    store.request_cancel(job.id)
    tick_until(newer, is_finished(store, job.id))


def test_a_task_that_nothing_interrupts_and_saves_nothing_is_cut_short(
    store: Store, home: Home, make_worker
) -> None:
    job = store.submit("sleep_through", settings={})
    worker = make_worker()
    tick_until(worker, has_started(home, job.id))

    asked = time.monotonic()
    store.request_cancel(job.id)
    tick_until(worker, is_finished(store, job.id))

    assert store.get_job(job.id).state is JobState.CANCELED
    assert time.monotonic() - asked < 5
    tick_until(worker, lambda: not worker._processes)


def test_a_process_without_the_lease_publishes_nothing(
    store: Store, home: Home, make_worker
) -> None:
    job = store.submit("count", settings={"steps": 100, "delay": 0.05})
    worker = make_worker()
    tick_until(worker, has_started(home, job.id))
    process = next(iter(worker._processes.values()))

    # As another host would that has not heard of this one for too long.
    store.give_up(store.get_job(job.id), "Its host no longer answers.")
    newer = store.claim("another host")

    assert process.wait(timeout=PATIENCE_S) == 75
    assert notes(home, job.id) == ["attempt 1"]
    untouched = store.get_job(job.id)
    assert (untouched.state, untouched.lease_token) == (JobState.STARTING, newer.lease_token)
    assert untouched.done == newer.done


def test_a_process_asked_to_end_with_its_host_goes_on_later(
    store: Store, home: Home, make_worker
) -> None:
    job = store.submit("save_when_stopped", settings={})
    worker = make_worker()
    tick_until(worker, has_started(home, job.id))

    os.kill(store.get_job(job.id).pid, signal.SIGTERM)
    tick_until(worker, lambda: notes(home, job.id) == ["started", "saved", "started"])

    assert store.get_job(job.id).attempt == 1
    store.request_cancel(job.id)
    tick_until(worker, is_finished(store, job.id))


def test_a_dead_host_is_found_by_its_lease(store: Store, make_worker, clock: ShiftedClock) -> None:
    job = store.submit("count", settings={"steps": 1})
    store.claim("another host")
    worker = make_worker()
    worker.tick()
    assert store.get_job(job.id).worker == "another host"

    clock.shift += 61
    tick_until(worker, is_finished(store, job.id))

    assert store.get_job(job.id).state is JobState.SUCCEEDED
    assert any("'another host'" in event.message for event in store.job_events(job.id))


def test_a_claim_whose_worker_died_before_the_start_is_repeated(
    store: Store, make_worker, clock: ShiftedClock
) -> None:
    job = store.submit("count", settings={"steps": 1})
    worker = make_worker()
    store.claim(worker.host, "cpu")
    worker.tick()
    assert store.get_job(job.id).attempt == 1

    clock.shift += 61
    tick_until(worker, is_finished(store, job.id))

    assert store.get_job(job.id).state is JobState.SUCCEEDED


def test_there_is_one_worker_per_folder(home: Home) -> None:
    with (
        WorkerLock(home.worker_lock("host")),
        pytest.raises(WorkerRunningError, match=f"process {os.getpid()} is one"),
        WorkerLock(home.worker_lock("host")),
    ):
        pass

    with WorkerLock(home.worker_lock("host")):
        pass


def test_the_worker_says_that_it_is_alive(store: Store, make_worker) -> None:
    assert store.list_workers() == []

    worker = make_worker()
    worker.tick()

    [found] = store.list_workers()
    assert (found.is_alive, found.pid, found.slots) == (True, os.getpid(), ["cpu"])
    assert found.version == program_version()
    store.forget_worker(worker.host)
    assert store.list_workers() == []


def test_a_daily_copy_of_the_database_is_kept(
    sqlite_store: Store, home: Home, clock: ShiftedClock
) -> None:
    job = sqlite_store.submit("count", settings={"steps": 1})
    worker = Worker(sqlite_store, home, slots=["cpu"], environ={})
    for _ in range(KEPT_BACKUPS + 2):
        worker.back_up()
        worker.back_up()
        clock.shift += 25 * 3600

    copies = sorted(home.backups_dir.iterdir())
    assert len(copies) == KEPT_BACKUPS
    copy = Store(f"sqlite:///{copies[-1]}")
    assert copy.get_job(job.id) == sqlite_store.get_job(job.id)
    copy.close()


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
