"""The soak tells when a promise is broken: without that, keeping them would prove nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.soak.figures import Figures
from bench.soak.processes import Child
from bench.soak.promises import (
    check_batch,
    check_children,
    check_database,
    check_events,
    check_files,
    check_jobs,
    check_orphans,
)
from bench.soak.workload import Batch, Results, newest_jobs, results, submit_build, submit_runs
from jobs.home import Home
from jobs.store.rows import JobEventRow, JobRow
from jobs.store.states import JobState
from jobs.store.store import Store

QUEUED, STARTING, RUNNING, SUCCEEDED, INTERRUPTED = (
    JobState.QUEUED,
    JobState.STARTING,
    JobState.RUNNING,
    JobState.SUCCEEDED,
    JobState.INTERRUPTED,
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.create()
    return home


@pytest.fixture
def store(home: Home):
    store = Store(home.database_url())
    yield store
    store.close()


@pytest.fixture
def batch(store: Store, home: Home) -> Batch:
    return submit_runs(store, submit_build(store, home, 0))


def story(*states: JobState | None, attempt: int = 1) -> list[JobEventRow]:
    return [
        JobEventRow(job_id="a", at=0.0, from_state=old, to_state=new, attempt=attempt, message="")
        for old, new in zip((None, *states), states, strict=False)
    ]


@pytest.fixture
def ended(store: Store, batch: Batch) -> JobRow:
    return replace(newest_jobs(store, batch)[0], state=SUCCEEDED)


def test_a_good_story_is_believed(ended: JobRow) -> None:
    again = story(QUEUED, STARTING, INTERRUPTED, QUEUED, STARTING, RUNNING, SUCCEEDED)

    assert list(check_events(ended, again)) == []


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([], "did not begin"),
        ([STARTING, RUNNING, SUCCEEDED], "did not begin"),
        ([QUEUED, RUNNING, SUCCEEDED], "from queued to running"),
        ([QUEUED, STARTING, RUNNING, SUCCEEDED, SUCCEEDED], "succeeded more than once"),
        ([QUEUED, STARTING, RUNNING], "its last event is running"),
    ],
)
def test_a_bad_story_is_told(ended: JobRow, states: list[JobState], words: str) -> None:
    assert any(words in sentence for sentence in check_events(ended, story(*states)))


def test_a_lost_event_is_told(ended: JobRow) -> None:
    events = story(QUEUED, STARTING, RUNNING, SUCCEEDED)

    assert list(check_events(ended, [*events[:2], events[3]]))


def test_too_many_attempts_and_a_lease_that_is_kept_are_told(ended: JobRow) -> None:
    events = story(QUEUED, STARTING, RUNNING, SUCCEEDED, attempt=4)

    assert "more than 3 times" in next(check_events(ended, events))
    held = replace(ended, lease_token="x")
    assert "still holds" in next(check_events(held, story(QUEUED, STARTING, RUNNING, SUCCEEDED)))


def test_a_job_that_never_ended_is_told(store: Store, batch: Batch) -> None:
    assert list(check_jobs(store, [batch], all_ended=False)) == []

    told = list(check_jobs(store, [batch], all_ended=True))

    assert sum("never ended" in sentence for sentence in told) == 3
    assert sum("was published 0 times" in sentence for sentence in told) == 3


def test_a_difference_from_the_undisturbed_results_is_told(
    store: Store, home: Home, batch: Batch
) -> None:
    for run_id in batch.run_ids.values():
        (home.run_dir(run_id) / "checkpoints").mkdir(parents=True)
    found = results(store, home, batch)
    other = Results({**found.files, "corpus.json": "x"}, {**found.weights, 0: "y"}, found.losses)

    told = list(check_batch(store, home, batch, other, steps=80))

    for words in ("is building", "not every step once", "corpus.json is on one side only"):
        assert any(words in sentence for sentence in told), words
    assert any("weights missing differ from y" in sentence for sentence in told)


def test_leftovers_are_told(store: Store, home: Home, batch: Batch) -> None:
    assert list(check_files(home)) == []
    assert list(check_database(store)) == []
    assert list(check_children([Child(1, "a", "x"), Child(2, "b", "y")])) == []
    assert list(check_orphans([])) == []
    (home.run_dir(batch.run_ids[0]) / "checkpoints" / ".tmp-step").mkdir(parents=True)

    assert ".tmp-step" in next(check_files(home))
    assert "2 processes" in next(check_children([Child(1, "a", "x"), Child(2, "a", "y")]))
    assert "[7]" in next(check_orphans([7]))


def test_the_figures_can_be_kept() -> None:
    figures = Figures(cycles=2, seconds=3.0, notice_s=[0.5, 0.1, 2.0])
    figures.victims["child"] += 2
    assert "every promise was kept" in figures.summary()
    figures.broken.append("a job was lost")

    kept = json.loads(json.dumps(figures.as_json()))

    assert kept["victims"] == {"child": 2}
    assert kept["notice_s"] == {"number": 3, "median": 0.5, "maximum": 2.0}
    assert kept["mean_cycle_s"] == 1.5
    assert figures.summary().endswith("BROKEN PROMISES: 1\na job was lost")
