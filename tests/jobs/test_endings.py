"""Jobs and runs that end, or go on, in an order that is rare."""

import pytest

from jobs.home import Home
from jobs.store.states import JobState, RunState, StopIntent
from jobs.store.store import Store
from jobs.work.child import do_work
from jobs.work.context import JobContext
from jobs.work.tasks import TaskEntry

COUNT = TaskEntry(function="tests.jobs.sample_tasks:count", memory_advice="Count less.")


@pytest.fixture
def run_id(store: Store) -> str:
    corpus = store.create_corpus("letters", {})
    store.submit("build", corpus_id=corpus.id, settings={})
    run = store.create_run("first", corpus.id, {}, 10)
    store.submit("train", run_id=run.id, settings={})
    return run.id


def test_a_run_can_be_stopped_while_its_job_waits_to_go_on(
    store: Store, start, run_id: str
) -> None:
    build = start()
    store.transition(build.id, build.lease_token, JobState.RUNNING, JobState.SUCCEEDED)
    train = start()
    # Its host was shut down, and has put down the job in good order.
    store.transition(train.id, train.lease_token, JobState.RUNNING, JobState.INTERRUPTED)
    assert store.get_run(run_id).state is RunState.INTERRUPTED

    store.stop_run(run_id)
    assert store.get_job(train.id).state is JobState.INTERRUPTED
    store.requeue_interrupted()

    assert store.get_job(train.id).state is JobState.CANCELED
    assert store.get_run(run_id).state is RunState.CANCELED
    assert store.claim("host") is None


def test_a_run_that_goes_on_does_not_wait_for_a_build_that_is_done(
    store: Store, start, run_id: str
) -> None:
    build = start()
    store.transition(build.id, build.lease_token, JobState.RUNNING, JobState.SUCCEEDED)
    store.pause_run(run_id)
    assert store.get_run(run_id).state is RunState.PAUSED

    resumed = store.resume_run(run_id)

    assert resumed.after_id is None
    assert store.claim("host").id == resumed.id


def test_a_job_that_was_timed_out_says_after_how_long(store: Store, home: Home, start) -> None:
    store.submit("count", settings={"steps": 3}, time_limit_s=90)
    job = start()
    context = JobContext(store, home, job, job.lease_token)
    context.ask_to_stop(StopIntent.TIME_LIMIT)

    outcome = do_work(context, {"count": COUNT})

    assert outcome.state is JobState.TIMED_OUT
    assert outcome.message == "Stopped after its time limit of 90 seconds."
