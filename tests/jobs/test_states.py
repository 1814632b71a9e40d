"""Which state may follow which."""

import pytest

from jobs.store.states import (
    TRANSITIONS,
    CorpusState,
    JobState,
    RunState,
    StopIntent,
    run_state_after,
)

FINISHED = {"succeeded", "failed", "canceled", "timed_out", "dead"}


def test_every_state_says_what_may_follow() -> None:
    assert set(TRANSITIONS) == set(JobState)


def test_states_without_a_successor_are_the_finished_ones() -> None:
    assert {state.value for state in JobState if state.is_finished} == FINISHED


def test_every_state_can_be_reached_from_the_queue() -> None:
    reached, new = set(), {JobState.QUEUED}
    while new:
        reached |= new
        new = {after for state in new for after in TRANSITIONS[state]} - reached

    assert reached == set(JobState)


def test_only_a_running_job_succeeds() -> None:
    before = [state for state in JobState if JobState.SUCCEEDED in TRANSITIONS[state]]

    assert before == [JobState.RUNNING]


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("intent", [None, *StopIntent])
def test_a_run_has_a_state_for_every_state_of_its_job(
    state: JobState, intent: StopIntent | None
) -> None:
    found = run_state_after(state, intent)

    assert isinstance(found, RunState)
    assert found.is_active == (not state.is_finished and state is not JobState.INTERRUPTED)


def test_a_paused_run_is_a_canceled_job_that_was_to_pause() -> None:
    assert run_state_after(JobState.CANCELED, StopIntent.PAUSE) is RunState.PAUSED
    assert run_state_after(JobState.CANCELED, StopIntent.CANCEL) is RunState.CANCELED


def test_a_corpus_state_is_a_word_of_the_api() -> None:
    assert [state.value for state in CorpusState] == [
        "empty",
        "uploaded",
        "building",
        "ready",
        "failed",
    ]
