"""Changes that meet: of two that exclude each other, one is refused."""

import threading
from collections.abc import Callable

import pytest

from jobs.errors import InvalidChangeError
from jobs.store.states import JobState
from jobs.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.both_databases]

ROUNDS = 10


def at_once(*changes: Callable[[], object]) -> int:
    """Make changes at the same time; return how many were not refused."""
    together = threading.Barrier(len(changes))
    accepted = []

    def make(change: Callable[[], object]) -> None:
        together.wait()
        try:
            change()
        except InvalidChangeError:
            return
        accepted.append(change)

    threads = [threading.Thread(target=make, args=(change,)) for change in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(accepted)


def test_one_of_many_builds_of_a_corpus_is_accepted(store: Store) -> None:
    for _ in range(ROUNDS):
        corpus = store.create_corpus("letters", {})

        def build(corpus_id: str = corpus.id) -> None:
            store.submit("build", corpus_id=corpus_id, settings={})

        assert at_once(build, build, build, build) == 1


def test_one_of_many_resumptions_of_a_run_is_accepted(store: Store) -> None:
    corpus = store.create_corpus("letters", {})
    for _ in range(ROUNDS):
        run = store.create_run("first", corpus.id, {}, 10)
        store.submit("train", run_id=run.id, settings={})
        store.pause_run(run.id)

        def resume(run_id: str = run.id) -> None:
            store.resume_run(run_id)

        assert at_once(resume, resume, resume) == 1


def test_no_job_waits_for_ever_for_one_that_failed_meanwhile(store: Store, start) -> None:
    for _ in range(ROUNDS):
        before = store.submit("build", settings={})
        job = start()

        at_once(
            lambda id=before.id: store.submit("train", settings={}, after_id=id),
            lambda job=job: store.transition(
                job.id, job.lease_token, JobState.RUNNING, JobState.FAILED
            ),
        )

        assert store.list_jobs(state="queued") == []


def test_the_end_of_a_job_and_the_wish_to_stop_it_agree(store: Store, start) -> None:
    for _ in range(ROUNDS):
        store.submit("count", settings={})
        job = start()

        at_once(
            lambda job=job: store.transition(
                job.id, job.lease_token, JobState.RUNNING, JobState.SUCCEEDED
            ),
            lambda job=job: store.request_cancel(job.id),
            lambda job=job: store.give_up(job, "Its process is gone."),
        )

        state = store.get_job(job.id).state
        assert state in (JobState.SUCCEEDED, JobState.CANCELED, JobState.QUEUED)
        changes = [event.to_state for event in store.job_events(job.id)]
        assert sum(change.is_finished for change in changes) == state.is_finished
        if state is JobState.QUEUED:
            store.request_cancel(job.id)
