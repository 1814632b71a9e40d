"""What a running task may use of its job."""

import threading

import pytest

from jobs.errors import JobCancelled, LeaseLost
from jobs.home import Home
from jobs.store.states import StopIntent
from jobs.store.store import Store
from jobs.work.context import JobContext, LeaseKeeper
from tests.support.waiting import PATIENCE_S, wait_until


@pytest.fixture
def context(store: Store, home: Home, start) -> JobContext:
    store.submit("count", settings={})
    job = start()
    return JobContext(store, home, job, job.lease_token)


def test_progress_is_written_a_few_times_a_second_at_most(
    context: JobContext, store: Store
) -> None:
    seen = set()
    for done in range(1, 200):
        context.progress("embed", done, 1000)
        seen.add(store.get_job(context.job.id).done)

    assert 1 in seen
    assert len(seen) < 50


def test_a_new_stage_and_the_end_of_one_are_written_at_once(
    context: JobContext, store: Store
) -> None:
    seen = []
    for stage in ("chunk", "embed"):
        for done in (1, 2, 3):
            context.progress(stage, done, 3)
            job = store.get_job(context.job.id)
            seen.append((job.stage, job.done))

    assert seen == [
        ("chunk", 1),
        ("chunk", 1),
        ("chunk", 3),
        ("embed", 1),
        ("embed", 1),
        ("embed", 3),
    ]


def test_progress_ends_a_task_that_should_stop(context: JobContext) -> None:
    context.ask_to_stop(StopIntent.CANCEL)

    with pytest.raises(JobCancelled):
        context.progress("embed", 1, 3)

    assert not issubclass(JobCancelled, Exception)


def test_a_report_leaves_the_end_to_the_task(context: JobContext) -> None:
    context.ask_to_stop(StopIntent.PAUSE)

    context.report("train", 1, 3)

    assert context.should_stop()
    assert context.intent is StopIntent.PAUSE


def test_a_task_without_the_lease_is_ended(context: JobContext, store: Store) -> None:
    store.give_up(context.job, "Its process is gone.")

    with pytest.raises(LeaseLost):
        context.progress("embed", 1, 3)

    assert not issubclass(LeaseLost, Exception)


@pytest.mark.slow
def test_the_wish_to_stop_reaches_the_task(context: JobContext, store: Store) -> None:
    with LeaseKeeper(context, on_lost=lambda: None, poll_s=0.02):
        assert not context.should_stop()
        store.request_cancel(context.job.id)

        assert context._stop.wait(PATIENCE_S)

    assert context.intent is StopIntent.CANCEL


@pytest.mark.slow
def test_the_loss_of_the_lease_is_noticed(context: JobContext, store: Store) -> None:
    lost = threading.Event()
    with LeaseKeeper(context, on_lost=lost.set, poll_s=0.02):
        store.give_up(context.job, "Its process is gone.")

        assert lost.wait(PATIENCE_S)


@pytest.mark.slow
def test_the_lease_is_renewed_in_time(context: JobContext, store: Store, clock) -> None:
    clock.advance(30)

    with LeaseKeeper(context, on_lost=lambda: None, renew_s=0.0, poll_s=0.02):
        wait_until(lambda: store.get_job(context.job.id).lease_expires_at == clock.time + 60)


@pytest.mark.slow
@pytest.mark.parametrize("patience_s", [0.0, 1e9])
def test_a_task_that_takes_too_long_to_end_is_told_once(
    context: JobContext, patience_s: float
) -> None:
    told: list[bool] = []
    keeper = LeaseKeeper(
        context,
        on_lost=lambda: None,
        on_overdue=lambda: told.append(True),
        poll_s=0.02,
        overdue_s=patience_s,
    )
    with keeper:
        threading.Event().wait(0.1)
        assert told == []
        context.ask_to_stop(StopIntent.CANCEL)
        keeper._thread.join(0.3 if patience_s else PATIENCE_S)

    assert told == ([] if patience_s else [True])
