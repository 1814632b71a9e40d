"""What the pages say about jobs that wait, fail, start again, or go on."""

import io

import pytest

from app.pages import corpora, job_detail, jobs, output, run_view, runs, start
from app.services.jobs import restart_note
from app.services.services import Services
from app.services.uploads import UploadedFile
from jobs.store.rows import MetricPoint
from jobs.store.states import JobState
from jobs.store.transitions import MAX_ATTEMPTS
from tests.app.real_app import run_waiting_jobs

REASON = "A corpus must have at least 3 chunks"


def corpus_of(services: Services, text: str, name: str = "notes") -> str:
    corpus = services.corpora.create(name, settings={"tokenizer": None})
    file = UploadedFile(path="one.txt", content=io.BytesIO(text.encode()))
    services.uploads.add(corpus.id, [file])
    return str(corpus.id)


@pytest.mark.slow
def test_a_failed_build_says_why_on_every_page(services: Services) -> None:
    corpus_id = corpus_of(services, "too short")
    run = services.doors.build_and_train(corpus_id)
    run_waiting_jobs(services)

    job_id = services.corpora.get(corpus_id).build_job_id
    shown = {
        "corpus": corpora.render_top(services, {"corpus": corpus_id}),
        "start": start.render_steps(services, {}),
        "job": job_detail.render_job(services, services.jobs.get(job_id)),
        "jobs": jobs.render_jobs(services, {}),
        "run": runs.render_runs(services, {"run": run.id}),
    }

    assert [name for name, html in shown.items() if REASON not in html] == []
    assert "Add more text" in shown["corpus"]
    assert "it waited for job 1 (build)" in shown["run"]


def test_a_queued_job_says_what_it_waits_for(services: Services) -> None:
    first = services.doors.build_and_train(corpus_of(services, "text " * 50))
    second = services.doors.build_and_train(corpus_of(services, "words " * 50, "other"))
    services.store.claim("test")

    waits = runs.render_runs(services, {"run": first.id})
    listed = jobs.render_jobs(services, {})
    other = corpora.render_top(services, {"corpus": second.corpus_id})

    assert "waiting for the build of its corpus" in waits
    assert "waiting for the build of its corpus" in start.render_steps(services, {})
    assert "waiting until job 1 (build) has ended and 1 more job before it" in listed
    assert "Waiting until job 1 (build) has ended" in other


def test_a_job_whose_process_died_says_so_while_it_goes_on(services: Services) -> None:
    run = ready_run(services)
    job = services.store.claim("test")
    assert job is not None
    assert restart_note(services.jobs.get(job.id)) == ""

    services.store.give_up(job, "Its process was killed.")
    waiting = runs.render_runs(services, {"run": run})
    services.store.claim("test")
    again = runs.render_runs(services, {"run": run})

    assert "Its process was killed. It starts again by itself." in waiting
    assert f"started again by itself, attempt 2 of {MAX_ATTEMPTS}" in again


def test_the_time_left_counts_no_steps_of_an_earlier_attempt(services: Services) -> None:
    run = ready_run(services)
    job = services.store.claim("test")
    assert job is not None
    token = job.lease_token
    assert token is not None
    assert services.curves.time_left(run) is None
    services.store.transition(job.id, token, JobState.STARTING, JobState.RUNNING)
    training = {"batch_size": 4, "sequence_length": 256, "accumulation": 1, "log_every": 5}
    services.store.set_run_facts(
        run, token, settings={"resolved": {"training": training}}, total_steps=600
    )
    points = [MetricPoint(name="tokens_per_second", step=step, value=1024) for step in (495, 500)]

    services.store.add_points(run, points, token, step=500)
    services.store.report_progress(job.id, token, stage="train", done=500, total=600)

    assert services.curves.time_left(run) == 100
    for shown in (
        runs.render_runs(services, {"run": run}),
        start.render_steps(services, {}),
        jobs.render_jobs(services, {}),
    ):
        assert "about 1 min 40 s left" in shown


def test_only_the_newest_job_of_a_thing_can_be_repeated(services: Services) -> None:
    corpus_id = corpus_of(services, "text " * 50)
    old = services.corpora.build(corpus_id)
    services.jobs.cancel(old.id)
    assert jobs.render_jobs(services, {}).count("Retry") == 1

    new = services.jobs.retry(old.id)
    services.jobs.cancel(new.id)

    shown = jobs.render_jobs(services, {})
    assert shown.count("Retry") == 1
    assert f"/api/v1/jobs/{new.id}/retry" in shown
    services.corpora.delete(corpus_id)
    assert "Retry" not in jobs.render_jobs(services, {})


def test_an_unknown_run_is_said_on_the_writing_page(services: Services) -> None:
    assert "There is no run nope" in output.render_output(services, {"run": "nope"})


def test_a_difference_that_noise_makes_is_not_called_use() -> None:
    def words(on: float, off: float, others: float) -> str:
        values = {"val_loss_on": on, "val_loss_off": off, "val_loss_shuffled": others}
        return run_view.gain_words({name: (10, value) for name, value in values.items()})

    assert "does not lower" in words(3.746, 3.748, 3.748)
    assert "hardly uses yet" in words(3.746, 3.748, 3.748)
    assert "lowers the validation loss by 0.054" in words(3.746, 3.8, 3.79)
    assert "so the model uses" in words(3.746, 3.8, 3.79)


def ready_run(services: Services) -> str:
    """Return a run on a corpus that was built, whose training waits."""
    corpus_id = corpus_of(services, "text " * 50)
    services.corpora.build(corpus_id)
    build = services.store.claim("test")
    assert build is not None
    held = build.lease_token
    services.store.transition(build.id, held, JobState.STARTING, JobState.RUNNING)
    services.store.transition(build.id, held, JobState.RUNNING, JobState.SUCCEEDED)
    return str(services.runs.create("first", corpus_id).id)
