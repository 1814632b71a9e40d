"""How the end of a task becomes the end of its job."""

import importlib.util
import logging
import sys
from pathlib import Path

import pytest

from jobs.errors import LeaseLost
from jobs.home import Home
from jobs.redaction import RedactingFormatter
from jobs.store.states import JobState, StopIntent
from jobs.store.store import Store
from jobs.work.child import do_work
from jobs.work.context import JobContext
from jobs.work.tasks import TASKS as REAL_TASKS

FOLDER = Path(__file__).parent


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("sample_tasks", FOLDER / "sample_tasks.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "sample_tasks", module)
    spec.loader.exec_module(module)
    return module.TASKS


@pytest.fixture
def make_context(store: Store, home: Home, start):
    def make(kind: str, **settings: object) -> JobContext:
        store.submit(kind, settings=settings)
        job = start()
        return JobContext(store, home, job, job.lease_token)

    return make


def test_the_message_of_a_task_is_kept(make_context, tasks: dict) -> None:
    outcome = do_work(make_context("count", steps=2), tasks)

    assert (outcome.state, outcome.message) == (JobState.SUCCEEDED, "Counted to 2.")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("input", "notes.txt must hold text, got nothing. Fill it and try again."),
        ("bug", "The job failed because of a fault in the program. Its log has the details"),
        ("memory", "The job needed more memory than there is. Use fewer letters."),
        ("torch", "The job needed more memory than there is. Use fewer letters."),
        ("disk", "The disk is full. Free some space"),
    ],
)
def test_an_error_becomes_a_sentence(
    make_context, tasks: dict, caplog: pytest.LogCaptureFixture, error: str, words: str
) -> None:
    context = make_context("fail", error=error)

    outcome = do_work(context, tasks)

    assert outcome.state is JobState.FAILED
    assert outcome.error.startswith(words)
    assert "Traceback" not in outcome.error
    assert caplog.records[-1].exc_info is not None
    assert (context.job.id in outcome.error) == (error == "bug")


def test_access_tokens_are_kept_out_of_the_log() -> None:
    record = logging.LogRecord("x", logging.INFO, "x", 1, "using hf_AbCdEfGh1234", None, None)

    assert RedactingFormatter("%(message)s").format(record) == "using hf_..."


def test_an_unknown_kind_is_refused_with_those_there_are(make_context, tasks: dict) -> None:
    outcome = do_work(make_context("unheard_of"), tasks)

    assert outcome.state is JobState.FAILED
    assert "count" in outcome.error
    assert "'unheard_of'" in outcome.error


@pytest.mark.parametrize(
    ("intent", "state"),
    [
        (StopIntent.CANCEL, JobState.CANCELED),
        (StopIntent.PAUSE, JobState.CANCELED),
        (StopIntent.TIME_LIMIT, JobState.TIMED_OUT),
        (None, JobState.INTERRUPTED),
    ],
)
def test_a_stopped_task_ends_as_it_was_asked_to(
    make_context, tasks: dict, intent: StopIntent | None, state: JobState
) -> None:
    context = make_context("save_when_stopped")
    context.ask_to_stop(intent)

    outcome = do_work(context, tasks)

    assert outcome.state is state
    assert outcome.message


def test_a_finished_task_succeeds_even_if_it_was_to_stop(make_context, tasks: dict) -> None:
    context = make_context("count", steps=0)
    context.ask_to_stop(StopIntent.CANCEL)

    assert do_work(context, tasks).state is JobState.SUCCEEDED


def test_a_task_without_the_lease_has_no_outcome(make_context, tasks: dict, store: Store) -> None:
    context = make_context("count", steps=2)
    store.give_up(context.job, "Its process is gone.")

    with pytest.raises(LeaseLost):
        do_work(context, tasks)


@pytest.mark.parametrize("kind", REAL_TASKS)
def test_every_kind_of_job_has_its_task(kind: str) -> None:
    module, function = REAL_TASKS[kind].function.split(":")
    path = FOLDER.parents[1] / f"{module.replace('.', '/')}.py"

    assert f"def {function}(context: JobContext)" in path.read_text()
