"""Runs follow their newest job."""

import pytest

from jobs.errors import InvalidChangeError, NotFoundError
from jobs.store.rows import CheckpointEntry, JobRow, MetricPoint, RunRow
from jobs.store.states import JobState, RunState, StopIntent
from jobs.store.store import Store
from tests.jobs.conftest import Clock


@pytest.fixture
def run(store: Store) -> RunRow:
    corpus = store.create_corpus("letters", {})
    return store.create_run("first", corpus.id, {"preset": "tiny"}, 10)


@pytest.fixture
def job(store: Store, run: RunRow, start) -> JobRow:
    store.submit("train", run_id=run.id, settings={"preset": "tiny"})
    return start()


def end(store: Store, job: JobRow, state: JobState, message: str = "") -> None:
    store.transition(job.id, job.lease_token, JobState.RUNNING, state, message=message)


def test_a_run_names_its_corpus(store: Store, run: RunRow) -> None:
    assert (run.corpus_name, run.state, run.total_steps) == ("letters", RunState.QUEUED, 10)
    assert store.list_runs() == [store.get_run(run.id)] == [run]


def test_a_run_follows_its_job(store: Store, run: RunRow) -> None:
    submitted = store.submit("train", run_id=run.id, settings={})
    states = [store.get_run(run.id).state]
    job = store.claim("host")
    states.append(store.get_run(run.id).state)
    store.transition(job.id, job.lease_token, JobState.STARTING, JobState.RUNNING)
    states.append(store.get_run(run.id).state)
    store.transition(
        job.id, job.lease_token, JobState.RUNNING, JobState.FAILED, error="The loss is nan."
    )
    states.append(store.get_run(run.id).state)

    assert [state.value for state in states] == ["queued", "starting", "running", "failed"]
    assert store.get_run(run.id).message == "The loss is nan."
    assert store.get_run(run.id).job_id == submitted.id


def test_pause_and_resume(store: Store, run: RunRow, job: JobRow, start) -> None:
    assert store.pause_run(run.id).state is RunState.RUNNING
    assert store.stop_intent(job.id, job.lease_token) == "pause"
    with pytest.raises(InvalidChangeError, match="'first' is running"):
        store.resume_run(run.id)
    end(store, job, JobState.CANCELED, "Paused after step 4.")
    assert store.get_run(run.id).state is RunState.PAUSED
    assert store.get_run(run.id).message == "Paused after step 4."

    resumed = store.resume_run(run.id)

    assert (resumed.parent_id, resumed.run_id) == (job.id, run.id)
    assert resumed.settings == {"preset": "tiny"}
    assert store.get_run(run.id).job_id == resumed.id
    assert store.get_run(run.id).state is RunState.QUEUED
    assert start().id == resumed.id


def test_a_run_that_waits_is_paused_at_once(store: Store, run: RunRow) -> None:
    store.submit("train", run_id=run.id, settings={})

    assert store.pause_run(run.id).state is RunState.PAUSED


def test_to_stop_wins_over_to_pause(store: Store, run: RunRow, job: JobRow) -> None:
    store.pause_run(run.id)
    store.stop_run(run.id)
    store.pause_run(run.id)

    end(store, job, JobState.CANCELED)

    assert store.get_run(run.id).state is RunState.CANCELED


def test_a_paused_run_can_be_stopped_for_good(store: Store, run: RunRow, job: JobRow) -> None:
    store.pause_run(run.id)
    end(store, job, JobState.CANCELED)

    assert store.stop_run(run.id).state is RunState.CANCELED


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED])
def test_a_run_that_has_ended_is_neither_paused_nor_stopped(
    store: Store, run: RunRow, job: JobRow, state: JobState
) -> None:
    end(store, job, state)

    for change in (store.pause_run, store.stop_run):
        with pytest.raises(InvalidChangeError, match=f"'first' is {state.value}"):
            change(run.id)


def test_a_finished_run_is_not_resumed(store: Store, run: RunRow, job: JobRow) -> None:
    end(store, job, JobState.SUCCEEDED)

    with pytest.raises(InvalidChangeError, match="all of its 10 steps"):
        store.resume_run(run.id)


def test_a_run_without_a_job_is_not_resumed(store: Store, run: RunRow) -> None:
    with pytest.raises(InvalidChangeError, match="no job yet"):
        store.resume_run(run.id)


def test_a_run_has_one_job_at_a_time(store: Store, run: RunRow, job: JobRow) -> None:
    with pytest.raises(InvalidChangeError, match=f"'first'.*{job.id} is running"):
        store.submit("train", run_id=run.id, settings={})


def test_an_older_job_no_longer_changes_the_run(store: Store, run: RunRow, put_state) -> None:
    old = store.submit("train", run_id=run.id, settings={})
    store.request_cancel(old.id)
    store.resume_run(run.id)
    put_state(old, JobState.RUNNING, "old")

    store.transition(old.id, "old", JobState.RUNNING, JobState.FAILED, error="late")

    assert store.get_run(run.id).state is RunState.QUEUED


def test_the_best_checkpoint_is_the_only_best(store: Store, run: RunRow, job: JobRow) -> None:
    for step, loss, is_best in [(1, 3.0, True), (2, 2.0, True), (3, 2.5, False)]:
        store.add_checkpoint(
            run.id,
            CheckpointEntry(
                step=step, val_loss_on=loss, val_loss_off=None, bytes=9, is_best=is_best
            ),
            job.lease_token,
        )
    store.remove_checkpoint(run.id, 1, job.lease_token)

    found = store.list_checkpoints(run.id)

    assert [(row.step, row.is_best) for row in found] == [(2, True), (3, False)]


def test_a_checkpoint_written_again_has_one_row(store: Store, run: RunRow, job: JobRow) -> None:
    for size in (5, 6):
        entry = CheckpointEntry(step=1, val_loss_on=None, val_loss_off=None, bytes=size)
        store.add_checkpoint(run.id, entry, job.lease_token)

    assert [row.bytes for row in store.list_checkpoints(run.id)] == [6]


def test_rows_of_checkpoints_are_made_to_agree_with_the_files(
    store: Store, run: RunRow, job: JobRow, clock: Clock
) -> None:
    entries = [
        CheckpointEntry(step=step, val_loss_on=None, val_loss_off=None, bytes=1)
        for step in (1, 2, 3)
    ]
    for entry in entries[:2]:
        store.add_checkpoint(run.id, entry, job.lease_token)
    before = clock()
    clock.advance(60)

    store.replace_checkpoints(run.id, entries[1:], job.lease_token)

    second, third = store.list_checkpoints(run.id)
    assert (second.step, third.step) == (2, 3)
    assert (second.created_at, third.created_at) == (before, before + 60)


def test_a_run_can_be_renamed(store: Store, run: RunRow) -> None:
    assert store.describe_run(run.id, name="second").name == "second"
    assert store.get_run(run.id).name == "second"


def test_a_deleted_run_takes_its_measurements_along(store: Store, run: RunRow, job: JobRow) -> None:
    point = MetricPoint(name="train_loss", step=1, value=1.0)
    store.add_points(run.id, [point], job.lease_token, step=1)
    end(store, job, JobState.SUCCEEDED)

    store.delete_run(run.id)

    with pytest.raises(NotFoundError, match=rf"There is no run {run.id}\."):
        store.metrics(run.id)
    assert store.list_runs() == []
    assert store.get_job(job.id).run_id is None
    store.delete_corpus(run.corpus_id)


def test_a_run_at_work_is_not_deleted(store: Store, run: RunRow, job: JobRow) -> None:
    with pytest.raises(InvalidChangeError, match=f"'first'.*{job.id}"):
        store.delete_run(run.id)


def second_after(store: Store, run: RunRow, job_id: str) -> RunRow:
    """Make a run that waits for a job of the first."""
    second = store.create_run("second", run.corpus_id, {}, 10)
    store.submit("train", run_id=second.id, settings={}, after_id=job_id)
    return store.get_run(second.id)


def test_what_waits_for_a_paused_run_goes_on_waiting(
    store: Store, run: RunRow, job: JobRow, start
) -> None:
    second = second_after(store, run, job.id)
    store.pause_run(run.id)
    end(store, job, JobState.CANCELED)
    assert store.get_run(second.id).state is RunState.QUEUED
    third = second_after(store, run, job.id)
    assert store.claim("host") is None

    resumed = store.resume_run(run.id)

    followers = [store.get_job(store.get_run(row.id).job_id) for row in (second, third)]
    assert [follower.after_id for follower in followers] == [resumed.id, resumed.id]
    end(store, start(), JobState.SUCCEEDED)
    assert store.claim("host").id == followers[0].id


@pytest.mark.parametrize("change", ["stop_run", "delete_run"])
def test_what_waits_for_a_paused_run_ends_with_it(
    store: Store, run: RunRow, job: JobRow, change: str
) -> None:
    second = second_after(store, run, job.id)
    store.pause_run(run.id)
    end(store, job, JobState.CANCELED)

    getattr(store, change)(run.id)

    assert store.get_run(second.id).state is RunState.CANCELED
    assert f"job {job.number} (train)" in store.get_run(second.id).message


def test_a_run_that_succeeded_may_be_deleted_before_what_follows_it(
    store: Store, run: RunRow, job: JobRow
) -> None:
    second = second_after(store, run, job.id)
    end(store, job, JobState.SUCCEEDED)

    store.delete_run(run.id)

    assert store.get_run(second.id).state is RunState.QUEUED
    assert store.claim("host").run_id == second.id


def test_a_run_without_a_job_can_be_deleted(store: Store, run: RunRow) -> None:
    store.delete_run(run.id)

    assert store.list_runs() == []


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.CANCELED, JobState.FAILED])
def test_a_run_that_has_ended_can_be_extended(
    store: Store, run: RunRow, job: JobRow, state: JobState
) -> None:
    store.add_points(run.id, [], job.lease_token, step=7)
    end(store, job, state)

    longer = store.extend_run(run.id, 20)

    assert (longer.parent_id, longer.state) == (job.id, JobState.QUEUED)
    assert longer.settings == {"preset": "tiny", "max_steps": 20}
    changed = store.get_run(run.id)
    assert (changed.state, changed.total_steps) == (RunState.QUEUED, 20)


@pytest.mark.parametrize("max_steps", [-1, 0, 7])
def test_a_run_is_not_extended_to_where_it_is(
    store: Store, run: RunRow, job: JobRow, max_steps: int
) -> None:
    store.add_points(run.id, [], job.lease_token, step=7)
    end(store, job, JobState.SUCCEEDED)
    before = store.get_run(run.id)

    with pytest.raises(InvalidChangeError, match=rf"above the 7 steps.*got {max_steps}\."):
        store.extend_run(run.id, max_steps)

    assert store.get_run(run.id) == before


def test_a_run_at_work_is_not_extended(store: Store, run: RunRow, job: JobRow) -> None:
    with pytest.raises(InvalidChangeError, match=f"{job.id} of run 'first' is running"):
        store.extend_run(run.id, 20)

    assert store.get_run(run.id).total_steps == 10


def test_a_copy_names_the_run_it_comes_from(store: Store, run: RunRow) -> None:
    job = store.start_run("second", run.corpus_id, {}, 10, task={}, parent_id=run.id)

    copy = store.get_run(job.run_id)
    assert (copy.parent_id, run.parent_id, copy.job_id) == (run.id, None, job.id)


def test_a_run_whose_job_is_refused_is_not_there(store: Store, run: RunRow) -> None:
    ended = store.submit("train", run_id=run.id, settings={})
    store.request_cancel(ended.id)

    with pytest.raises(InvalidChangeError):
        store.start_run("second", run.corpus_id, {}, 10, task={}, after_id=ended.id)

    assert [one.name for one in store.list_runs()] == ["first"]


@pytest.mark.usefixtures("job")
def test_only_training_moves_a_run(store: Store, run: RunRow) -> None:
    before = store.get_run(run.id)

    other = store.submit("evaluate", run_id=run.id, settings={})
    store.request_cancel(other.id)

    assert other.corpus_id == run.corpus_id
    assert store.get_run(run.id) == before
    assert store.get_job(other.id).state is JobState.CANCELED


def test_an_evaluation_is_not_paused_and_keeps_its_run(store: Store, run: RunRow) -> None:
    other = store.submit("evaluate", run_id=run.id, settings={})

    with pytest.raises(InvalidChangeError, match="Only training can be paused"):
        store.request_cancel(other.id, StopIntent.PAUSE)
    with pytest.raises(InvalidChangeError, match="Run 'first'"):
        store.delete_run(run.id)


def test_checkpoints_of_many_runs_are_read_at_once(store: Store, run: RunRow, job: JobRow) -> None:
    other = store.create_run("second", run.corpus_id, {}, 10)
    for step in (6, 3):
        entry = CheckpointEntry(step=step, val_loss_on=None, val_loss_off=None, bytes=1)
        store.add_checkpoint(run.id, entry, job.lease_token)

    found = store.checkpoints_of([run.id, other.id])

    assert {key: [one.step for one in of_run] for key, of_run in found.items()} == {run.id: [3, 6]}
    assert found[run.id] == store.list_checkpoints(run.id)


def test_a_checkpoint_can_be_pinned(store: Store, run: RunRow, job: JobRow) -> None:
    entry = CheckpointEntry(step=3, val_loss_on=None, val_loss_off=None, bytes=1)
    store.add_checkpoint(run.id, entry, job.lease_token)

    pins = []
    for pinned in (True, False):
        store.set_pinned(run.id, 3, pinned=pinned)
        pins.append(store.list_checkpoints(run.id)[0].is_pinned)

    assert pins == [True, False]
    with pytest.raises(NotFoundError, match="no checkpoint of step 4"):
        store.set_pinned(run.id, 4, pinned=True)


def test_what_a_person_says_about_a_run_is_kept(store: Store, run: RunRow) -> None:
    assert (run.tags, run.notes, run.corpus_version) == ((), "", None)

    store.describe_run(run.id, tags=["good", "a b"], notes="line 1\nline 2")
    store.describe_run(run.id, name="second")
    kept = store.get_run(run.id)
    emptied = store.describe_run(run.id, tags=[], notes="")

    assert (kept.name, kept.tags, kept.notes) == ("second", ("a b", "good"), "line 1\nline 2")
    assert (emptied.name, emptied.tags, emptied.notes) == ("second", (), "")
    with pytest.raises(NotFoundError, match="There is no run nothing"):
        store.describe_run("nothing", notes="x")


def test_runs_are_found_by_a_tag(store: Store, run: RunRow) -> None:
    other = store.create_run("other", run.corpus_id, {}, 5)
    store.describe_run(run.id, tags=["x", "both"])
    store.describe_run(other.id, tags=["both"])

    assert [row.name for row in store.list_runs(tag="x")] == ["first"]
    assert store.list_runs(tag="x")[0].tags == ("both", "x")
    assert {row.name for row in store.list_runs(tag="both")} == {"first", "other"}
    assert store.list_runs(tag="none") == []
    assert len(store.list_runs()) == 2


def test_tags_go_with_their_run(store: Store, run: RunRow) -> None:
    store.describe_run(run.id, tags=["x"])
    store.delete_run(run.id)

    assert store.list_runs(tag="x") == []


def test_all_jobs_of_a_run_are_listed(store: Store, run: RunRow, job: JobRow) -> None:
    store.submit("train", settings={})
    end(store, job, JobState.FAILED)
    again = store.resume_run(run.id)

    assert [item.id for item in store.list_run_jobs(run.id)] == [job.id, again.id]
