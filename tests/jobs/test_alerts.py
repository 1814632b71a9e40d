"""Alerts of runs."""

import pytest

from jobs.errors import LeaseLost, NotFoundError
from jobs.store.rows import JobRow
from jobs.store.store import Store


@pytest.fixture
def job(store: Store, start) -> JobRow:
    corpus = store.create_corpus("letters", {})
    run = store.create_run("first", corpus.id, {}, 10)
    store.submit("train", run_id=run.id, settings={})
    return start()


def add(store: Store, job: JobRow, kind: str, step: int, message: str = "Look.") -> None:
    store.add_alert(job.run_id, kind=kind, step=step, message=message, token=job.lease_token)


def listed(store: Store, job: JobRow) -> list[tuple[str, int, str]]:
    return [(row.kind, row.step, row.message) for row in store.list_alerts(job.run_id)]


def test_alerts_come_back_in_their_order(store: Store, job: JobRow, clock) -> None:
    add(store, job, "plateau", 4)
    clock.advance(9)
    add(store, job, "nan", 8, "The loss is nan.")

    assert listed(store, job) == [("plateau", 4, "Look."), ("nan", 8, "The loss is nan.")]
    assert [row.at for row in store.list_alerts(job.run_id)] == [clock.time - 9, clock.time]


def test_an_alert_that_comes_up_again_replaces_itself(store: Store, job: JobRow) -> None:
    add(store, job, "plateau", 4)
    add(store, job, "plateau", 4, "Again.")

    assert listed(store, job) == [("plateau", 4, "Again.")]


def test_alerts_of_steps_to_be_repeated_are_forgotten(store: Store, job: JobRow) -> None:
    for step in (4, 5, 6):
        add(store, job, "plateau", step)

    store.forget_alerts_after(job.run_id, 5, job.lease_token)

    assert [step for _, step, _ in listed(store, job)] == [4, 5]


def test_only_the_holder_of_the_lease_writes_alerts(store: Store, job: JobRow) -> None:
    add(store, job, "plateau", 4)
    store.give_up(job, "Its process is gone.")

    with pytest.raises(LeaseLost):
        add(store, job, "plateau", 5)
    with pytest.raises(LeaseLost):
        store.forget_alerts_after(job.run_id, 0, job.lease_token)

    assert len(listed(store, job)) == 1


def test_alerts_of_no_run_are_refused(store: Store) -> None:
    with pytest.raises(NotFoundError, match="There is no run x"):
        store.list_alerts("x")
