"""Submitting, stopping and repeating jobs."""

import pytest

from jobs.errors import InvalidChangeError, NotFoundError
from jobs.store.states import CorpusState, JobState, RunState
from jobs.store.store import Store
from retro.errors import ConfigError


def test_a_job_comes_back_as_it_was_submitted(store: Store, clock) -> None:
    job = store.submit("count", settings={"steps": 3}, time_limit_s=5.0)

    found = store.get_job(job.id)

    assert found == job
    assert (found.kind, found.state, found.settings) == ("count", JobState.QUEUED, {"steps": 3})
    assert (found.created_at, found.attempt, found.cancel_requested) == (clock.time, 0, False)
    assert [event.to_state for event in store.job_events(job.id)] == [JobState.QUEUED]


def test_jobs_are_listed_newest_first_and_by_state(store: Store) -> None:
    ids = [store.submit("count", settings={}).id for _ in range(3)]
    store.request_cancel(ids[1])

    assert [job.id for job in store.list_jobs()] == ids[::-1]
    assert [job.id for job in store.list_jobs(limit=1)] == [ids[2]]
    assert [job.id for job in store.list_jobs(state="canceled")] == [ids[1]]


def test_jobs_are_listed_by_kind_and_page_by_page(store: Store) -> None:
    kinds = ("build", "train", "build")
    first, second, third = (store.submit(kind, settings={}) for kind in kinds)
    store.request_cancel(first.id)

    assert [job.id for job in store.list_jobs(kind="build")] == [third.id, first.id]
    assert [job.id for job in store.list_jobs(before=third.number)] == [second.id, first.id]
    assert store.list_jobs("queued", kind="train", before=second.number) == []
    assert store.count_jobs() == {
        ("build", "canceled"): 1,
        ("build", "queued"): 1,
        ("train", "queued"): 1,
    }


@pytest.mark.parametrize(
    ("arguments", "noun"),
    [
        ({"corpus_id": "x"}, "corpus"),
        ({"run_id": "x"}, "run"),
        ({"after_id": "x"}, "job"),
        ({"parent_id": "x"}, "job"),
    ],
)
def test_a_job_about_nothing_is_refused(store: Store, arguments: dict, noun: str) -> None:
    with pytest.raises(NotFoundError, match=rf"There is no {noun} x\."):
        store.submit("count", settings={}, **arguments)

    assert store.list_jobs() == []


def test_waiting_for_a_job_that_failed_is_refused(store: Store) -> None:
    before = store.submit("build", settings={})
    store.request_cancel(before.id)

    with pytest.raises(InvalidChangeError, match=f"job {before.number} .*canceled. Repeat"):
        store.submit("train", settings={}, after_id=before.id)


def test_a_corpus_is_built_by_one_job_at_a_time(store: Store) -> None:
    corpus = store.create_corpus("letters", {})
    build = store.submit("build", corpus_id=corpus.id, settings={})

    with pytest.raises(InvalidChangeError, match=f"'letters'.*{build.id} is queued"):
        store.submit("build", corpus_id=corpus.id, settings={})


def test_a_run_waits_for_the_build_that_is_under_way(store: Store, start) -> None:
    corpus = store.create_corpus("letters", {})
    build = store.submit("build", corpus_id=corpus.id, settings={})
    run = store.create_run("first", corpus.id, {}, 10)

    train = store.submit("train", run_id=run.id, settings={})

    assert train.after_id == build.id
    assert train.corpus_id == corpus.id
    assert store.get_run(run.id).job_id == train.id
    start()
    assert store.claim("host") is None


def test_a_queued_job_is_canceled_at_once(store: Store, clock) -> None:
    job = store.submit("count", settings={})
    clock.advance(1)

    ended = store.request_cancel(job.id)

    assert ended.state is JobState.CANCELED
    assert ended.finished_at == clock.time
    assert store.claim("host") is None


def test_a_running_job_is_asked_to_stop(store: Store, start, clock) -> None:
    store.submit("count", settings={})
    job = start()

    asked = store.request_cancel(job.id)

    assert asked.state is JobState.RUNNING
    assert asked.cancel_requested
    assert asked.stop_requested_at == clock.time
    assert store.stop_intent(job.id, job.lease_token) == "cancel"


def test_asking_again_does_not_put_off_the_end(store: Store, start, clock) -> None:
    store.submit("count", settings={})
    job = start()
    first = store.request_cancel(job.id)
    clock.advance(20)

    assert store.request_cancel(job.id).stop_requested_at == first.stop_requested_at


def test_a_finished_job_cannot_be_stopped(store: Store) -> None:
    job = store.submit("count", settings={})
    ended = store.request_cancel(job.id)

    with pytest.raises(InvalidChangeError, match=f"{job.id} is canceled"):
        store.request_cancel(job.id)

    assert store.get_job(job.id) == ended


def test_only_training_can_be_paused(store: Store) -> None:
    job = store.submit("build", settings={})

    with pytest.raises(InvalidChangeError, match="build job"):
        store.request_cancel(job.id, "pause")


def test_a_retry_is_a_new_job_that_names_its_parent(store: Store) -> None:
    old = store.submit("count", settings={"steps": 3}, time_limit_s=9.0)
    ended = store.request_cancel(old.id)

    new = store.retry_job(old.id)

    assert new.id != old.id
    assert (new.parent_id, new.settings, new.time_limit_s) == (old.id, {"steps": 3}, 9.0)
    assert store.get_job(old.id) == ended


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED])
def test_only_a_job_that_ended_without_success_is_repeated(
    store: Store, put_state, state: JobState
) -> None:
    job = put_state(store.submit("count", settings={}), state, "t" if state.is_held else None)

    with pytest.raises(InvalidChangeError, match=f"{job.id} is {state.value}"):
        store.retry_job(job.id)


def test_repeating_a_training_waits_for_the_repeated_build(store: Store) -> None:
    corpus = store.create_corpus("letters", {})
    build = store.submit("build", corpus_id=corpus.id, settings={})
    run = store.create_run("first", corpus.id, {}, 10)
    train = store.submit("train", run_id=run.id, settings={})
    store.request_cancel(build.id)
    assert store.get_run(run.id).state is RunState.CANCELED
    assert f"job {build.number} (build)" in store.get_run(run.id).message
    with pytest.raises(InvalidChangeError, match="Repeat that job first"):
        store.retry_job(train.id)

    again = store.retry_job(build.id)

    assert store.get_corpus(corpus.id).state is CorpusState.BUILDING
    assert store.retry_job(train.id).after_id == again.id


def test_a_repeated_job_waits_as_before_for_what_has_not_succeeded(store: Store, start) -> None:
    before = store.submit("count", settings={})
    first, second = (store.submit("count", settings={}, after_id=before.id).id for _ in range(2))
    for job_id in (first, second):
        store.request_cancel(job_id)

    assert store.retry_job(first).after_id == before.id
    store.transition(before.id, start().lease_token, JobState.RUNNING, JobState.SUCCEEDED)
    assert store.retry_job(second).after_id is None


def test_a_higher_priority_starts_first_and_equals_in_their_order(store: Store) -> None:
    low, first, second, high = (
        store.submit("count", settings={}, priority=priority).id for priority in (-1, 0, 0, 7)
    )

    assert [job.id for job in store.list_queue()] == [high, first, second, low]
    assert [store.claim("host").id for _ in range(4)] == [high, first, second, low]


def test_the_priority_of_a_job_that_waits_can_be_changed(store: Store) -> None:
    first, second = (store.submit("count", settings={}).id for _ in range(2))

    assert store.set_priority(second, 1).priority == 1

    assert [job.id for job in store.list_queue()] == [second, first]


def test_a_job_can_be_put_before_all_others(store: Store) -> None:
    ids = [store.submit("count", settings={}, priority=priority).id for priority in (5, 0, 0)]

    for job_id in (ids[2], ids[1], ids[1]):
        store.run_next(job_id)

    assert [job.id for job in store.list_queue()] == [ids[1], ids[2], ids[0]]
    # Who is first already stays as it is.
    assert store.get_job(ids[1]).priority == 7


def test_a_job_at_work_has_no_place_in_the_queue(store: Store, start) -> None:
    store.submit("count", settings={})
    job = start()

    for change in (store.run_next, lambda id: store.set_priority(id, 1)):
        with pytest.raises(InvalidChangeError, match=f"{job.id} is running"):
            change(job.id)

    assert store.get_job(job.id) == job


@pytest.mark.parametrize("priority", [-1001, 1001, 2**70])
def test_priorities_have_a_range(store: Store, priority: int) -> None:
    job = store.submit("count", settings={})

    for change in (
        lambda: store.set_priority(job.id, priority),
        lambda: store.submit("count", settings={}, priority=priority),
    ):
        with pytest.raises(ConfigError, match=f"between -1000 and 1000, got {priority}"):
            change()

    assert store.list_jobs() == [job]


def test_a_run_that_follows_another_waits_for_its_corpus_too(store: Store, start) -> None:
    corpus = store.create_corpus("letters", {})
    before = store.submit("count", settings={})
    store.submit("build", corpus_id=corpus.id, settings={})
    run = store.create_run("first", corpus.id, {}, 10)
    train = store.submit("train", run_id=run.id, settings={}, after_id=before.id)
    first = start()
    store.transition(first.id, first.lease_token, JobState.RUNNING, JobState.SUCCEEDED)

    build = start()
    assert build.kind == "build"
    assert store.claim("host") is None
    store.transition(build.id, build.lease_token, JobState.RUNNING, JobState.SUCCEEDED)

    assert store.claim("host").id == train.id
