"""A process without the lease changes nothing."""

from collections.abc import Callable

import pytest

from jobs.errors import LeaseLost
from jobs.store.rows import CheckpointEntry, JobRow
from jobs.store.states import JobState, StopIntent
from jobs.store.store import Store
from jobs.store.transitions import LEASE_S

pytestmark = pytest.mark.both_databases

ENTRY = CheckpointEntry(step=1, val_loss_on=None, val_loss_off=None, bytes=1)

WRITES: dict[str, Callable[[Store, JobRow, str], object]] = {
    "renew": lambda store, job, token: store.renew_lease(job.id, token),
    "stop": lambda store, job, token: store.stop_intent(job.id, token),
    "progress": lambda store, job, token: store.report_progress(
        job.id, token, stage="x", done=1, total=2
    ),
    "pid": lambda store, job, token: store.record_pid(job.id, token, 7),
    "metrics": lambda store, job, token: store.add_points(job.run_id, [], token, step=1),
    "forget": lambda store, job, token: store.forget_metrics_after(job.run_id, 0, token),
    "checkpoint": lambda store, job, token: store.add_checkpoint(job.run_id, ENTRY, token),
    "checkpoints": lambda store, job, token: store.replace_checkpoints(job.run_id, [ENTRY], token),
    "deletion": lambda store, job, token: store.remove_checkpoint(job.run_id, 1, token),
    "facts": lambda store, job, token: store.set_run_facts(
        job.run_id, token, settings={"a": 1}, total_steps=5
    ),
    "summary": lambda store, job, token: store.set_corpus_summary(
        job.corpus_id, {"num_chunks": 1}, token
    ),
}


@pytest.fixture
def job(store: Store, start) -> JobRow:
    corpus = store.create_corpus("letters", {})
    run = store.create_run("first", corpus.id, {}, 10)
    store.submit("train", run_id=run.id, settings={})
    return start()


@pytest.mark.parametrize("name", WRITES)
def test_the_holder_of_the_lease_may_write(store: Store, job: JobRow, name: str) -> None:
    WRITES[name](store, job, job.lease_token)


@pytest.mark.parametrize("name", WRITES)
def test_a_process_whose_lease_was_given_on_writes_nothing(
    store: Store, job: JobRow, name: str
) -> None:
    store.give_up(job, "Its process is gone.")
    newer = store.claim("host")
    before = _everything(store, job)

    with pytest.raises(LeaseLost):
        WRITES[name](store, job, job.lease_token)

    assert newer.lease_token != job.lease_token
    assert _everything(store, job) == before


@pytest.mark.parametrize("name", WRITES)
def test_nothing_is_written_about_a_finished_job(store: Store, job: JobRow, name: str) -> None:
    store.transition(job.id, job.lease_token, JobState.RUNNING, JobState.SUCCEEDED)
    before = _everything(store, job)

    with pytest.raises(LeaseLost):
        WRITES[name](store, job, job.lease_token)

    assert _everything(store, job) == before


def test_a_renewed_lease_lasts_longer_and_tells_of_the_wish_to_stop(
    store: Store, job: JobRow, clock
) -> None:
    clock.advance(20)

    assert store.renew_lease(job.id, job.lease_token) is None
    assert store.get_job(job.id).lease_expires_at == clock.time + LEASE_S
    store.request_cancel(job.id, "pause")
    assert store.renew_lease(job.id, job.lease_token) is StopIntent.PAUSE


def test_progress_is_visible_at_once(store: Store, job: JobRow, clock) -> None:
    clock.advance(3)

    store.report_progress(job.id, job.lease_token, stage="embed", done=2, total=5)

    seen = store.get_job(job.id)
    assert (seen.stage, seen.done, seen.total) == ("embed", 2, 5)
    assert seen.progress_at == clock.time
    assert seen.lease_expires_at == job.lease_expires_at


def _everything(store: Store, job: JobRow) -> list[object]:
    return [
        store.get_job(job.id),
        store.get_run(job.run_id),
        store.get_corpus(job.corpus_id),
        store.metrics(job.run_id),
        store.list_checkpoints(job.run_id),
    ]
