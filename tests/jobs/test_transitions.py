"""Claims and changes of state."""

import threading

import pytest

from jobs.errors import InvalidChangeError, NotFoundError
from jobs.store.states import TRANSITIONS, JobState
from jobs.store.store import Store
from jobs.store.transitions import LEASE_S, MAX_ATTEMPTS

pytestmark = pytest.mark.both_databases

PAIRS = [(before, after) for before in JobState for after in JobState]
BY_CLAIM = (JobState.QUEUED, JobState.STARTING)
ALLOWED = [
    (before, after)
    for before, after in PAIRS
    if after in TRANSITIONS[before] and (before, after) != BY_CLAIM
]


def test_no_job_is_claimed_twice_by_four_threads(store: Store) -> None:
    submitted = [store.submit("count", settings={}).id for _ in range(40)]
    claimed: list[list[str]] = [[] for _ in range(4)]
    together = threading.Barrier(4)

    def claim_all(mine: list[str]) -> None:
        together.wait()
        while (job := store.claim("host")) is not None:
            mine.append(job.id)

    threads = [threading.Thread(target=claim_all, args=(mine,)) for mine in claimed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(id for mine in claimed for id in mine) == sorted(submitted)
    assert sum(bool(mine) for mine in claimed) > 1


def test_the_oldest_job_is_claimed_first(store: Store) -> None:
    first, second = (store.submit("count", settings={}).id for _ in range(2))

    assert [store.claim("host").id, store.claim("host").id] == [first, second]
    assert store.claim("host") is None


def test_a_claim_holds_a_lease_of_its_own(store: Store, clock) -> None:
    for _ in range(2):
        store.submit("count", settings={})

    one, two = store.claim("host", "cuda:0"), store.claim("host", "cuda:1")

    assert one.lease_token != two.lease_token
    assert one.state is JobState.STARTING
    assert one.lease_expires_at == clock.time + LEASE_S
    assert (one.attempt, one.worker, one.slot) == (1, "host", "cuda:0")


def test_a_job_waits_for_the_one_before(store: Store, start) -> None:
    before = store.submit("count", settings={})
    after = store.submit("count", settings={}, after_id=before.id)
    job = start()
    assert store.claim("host") is None

    store.transition(job.id, job.lease_token, JobState.RUNNING, JobState.SUCCEEDED)

    assert store.claim("host").id == after.id


def test_a_waiting_job_does_not_hold_up_the_queue(store: Store) -> None:
    before = store.submit("count", settings={})
    store.submit("count", settings={}, after_id=before.id)
    free = store.submit("count", settings={})
    store.claim("host")

    assert store.claim("host").id == free.id


def test_where_a_job_ran_stays_known_when_it_has_ended(store: Store) -> None:
    ended, lost = (store.submit("count", settings={}) for _ in range(2))
    token = store.claim("host", "cuda:1").lease_token
    store.transition(ended.id, token, JobState.STARTING, JobState.RUNNING)
    assert store.transition(ended.id, token, JobState.RUNNING, JobState.SUCCEEDED).slot == "cuda:1"
    token = store.claim("host", "cuda:0").lease_token

    gone = store.transition(lost.id, token, JobState.STARTING, JobState.INTERRUPTED)

    assert gone.slot is None
    assert store.held_jobs() == []


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_every_pair_of_states(store: Store, put_state, before: JobState, after: JobState) -> None:
    token = "mine" if before.is_held else None
    job = put_state(store.submit("count", settings={}), before, token)
    events = len(store.job_events(job.id))

    if (before, after) in ALLOWED:
        changed = store.transition(job.id, token, before, after, message="why")
        assert changed.state is after
        assert (changed.lease_token is None) == (not after.is_held)
        assert (changed.finished_at is not None) == after.is_finished
        event = store.job_events(job.id)[-1]
        assert (event.from_state, event.to_state, event.message) == (before, after, "why")
    else:
        with pytest.raises(InvalidChangeError, match=f"{before.value}.*{after.value}"):
            store.transition(job.id, token, before, after)
        assert store.get_job(job.id) == job
        assert len(store.job_events(job.id)) == events


def test_a_claim_is_the_one_way_to_start(store: Store) -> None:
    job = store.submit("count", settings={})

    store.claim("host")

    events = store.job_events(job.id)
    assert (events[-1].from_state, events[-1].to_state) == BY_CLAIM


@pytest.mark.parametrize(("before", "after"), ALLOWED)
def test_a_foreign_lease_changes_nothing(
    store: Store, put_state, before: JobState, after: JobState
) -> None:
    job = put_state(
        store.submit("count", settings={}), before, "theirs" if before.is_held else None
    )

    with pytest.raises(InvalidChangeError, match=job.id):
        store.transition(job.id, "mine", before, after)

    assert store.get_job(job.id) == job


def test_a_state_other_than_believed_changes_nothing(store: Store, put_state) -> None:
    job = put_state(store.submit("count", settings={}), JobState.STARTING, "mine")

    with pytest.raises(InvalidChangeError, match=r"must be running.*it is starting"):
        store.transition(job.id, "mine", JobState.RUNNING, JobState.SUCCEEDED)


def test_an_unknown_job_is_named(store: Store) -> None:
    with pytest.raises(NotFoundError, match=r"There is no job abc\."):
        store.transition("abc", None, JobState.QUEUED, JobState.CANCELED)


def test_a_failed_job_cancels_all_that_wait_for_it(store: Store, start) -> None:
    first = store.submit("build", settings={})
    second = store.submit("train", settings={}, after_id=first.id)
    third = store.submit("evaluate", settings={}, after_id=second.id)
    free = store.submit("train", settings={})
    job = start()

    store.transition(
        job.id, job.lease_token, JobState.RUNNING, JobState.FAILED, error="No documents."
    )

    waiting = [store.get_job(row.id) for row in (second, third)]
    assert [row.state for row in waiting] == [JobState.CANCELED, JobState.CANCELED]
    assert f"job {first.number} (build)" in waiting[0].message
    assert "No documents." in waiting[0].message
    assert f"job {second.number} (train)" in waiting[1].message
    assert store.get_job(free.id).state is JobState.QUEUED


def test_a_lost_job_goes_back_to_the_queue_until_it_is_given_up(store: Store) -> None:
    job = store.submit("count", settings={})
    after = store.submit("count", settings={}, after_id=job.id)

    states = []
    for _ in range(MAX_ATTEMPTS):
        claimed = store.claim("host")
        states.append(store.give_up(claimed, "Its process is gone.").state)

    assert states == [JobState.QUEUED] * (MAX_ATTEMPTS - 1) + [JobState.DEAD]
    dead = store.get_job(job.id)
    assert f"started {MAX_ATTEMPTS} times" in dead.error
    assert store.get_job(after.id).state is JobState.CANCELED
    visited = [event.to_state for event in store.job_events(job.id)]
    assert visited.count(JobState.INTERRUPTED) == MAX_ATTEMPTS


def test_a_lost_job_that_was_asked_to_stop_ends(store: Store, start) -> None:
    job_id = store.submit("count", settings={}).id
    start()
    asked = store.request_cancel(job_id)

    ended = store.give_up(asked, "Its process is gone.")

    assert ended.state is JobState.CANCELED
    assert ended.message.startswith("Its process is gone.")


def test_giving_up_a_job_that_ended_meanwhile_changes_nothing(store: Store, start) -> None:
    store.submit("count", settings={})
    job = start()
    done = store.transition(job.id, job.lease_token, JobState.RUNNING, JobState.SUCCEEDED)

    with pytest.raises(InvalidChangeError, match="succeeded"):
        store.give_up(job, "Its process is gone.")

    assert store.get_job(job.id) == done


def test_a_job_stopped_in_good_order_loses_no_attempt(store: Store, start) -> None:
    store.submit("count", settings={})

    for _ in range(MAX_ATTEMPTS + 2):
        job = start()
        store.transition(
            job.id, job.lease_token, JobState.RUNNING, JobState.INTERRUPTED, counts=False
        )
        store.requeue_interrupted()

    assert store.get_job(job.id).state is JobState.QUEUED
    assert store.get_job(job.id).attempt == 0
