"""Building and training as real jobs, stopped in the middle in every way."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from jobs.home import Home
from jobs.store.rows import DocumentEntry, RunRow
from jobs.store.states import CorpusState, JobState, RunState
from jobs.store.store import Store
from jobs.work.child import run_job
from jobs.work.processes import kill_group
from jobs.work.worker import Worker
from retro.data.documents import TextDocument, store_document
from tests.support.waiting import wait_until

STEPS = 150
WORDS = "the cat sat on a mat and saw dogs run far over green hills by old rivers"
MODEL = {
    "max_seq_len": 64,
    "enc_dim": 16,
    "enc_depth": 1,
    "dec_dim": 16,
    "dec_depth": 2,
    "dec_cross_attn_layers": [2],
    "heads": 2,
    "dim_head": 8,
}
TRAINING = {
    "max_steps": STEPS,
    "batch_size": 2,
    "sequence_length": 64,
    "warmup_steps": 2,
    "eval_every": 50,
    "eval_sequences": 2,
    "checkpoint_every": 20,
    "log_every": 1,
    "precision": "float32",
}
SETTINGS = {"preset": "tiny", "model": MODEL, "training": TRAINING}

pytestmark = pytest.mark.slow


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = Store(database_url)
    yield store
    store.close()


@pytest.fixture
def worker(store: Store, home: Home) -> Iterator[Worker]:
    # A tracer makes torch slow to load; these processes run no lines that others do not.
    environ = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    worker = Worker(store, home, slots=["cpu"], environ=environ)
    yield worker
    for process in worker._processes.values():
        kill_group(process.pid)
        process.wait()


def make_corpus(store: Store, home: Home) -> str:
    corpus = store.create_corpus("letters", {"chunk_size": 16})
    entries = []
    vocabulary = WORDS.split()
    for number in range(8):
        words = [vocabulary[(number * 7 + i * i) % len(vocabulary)] for i in range(400)]
        document = TextDocument(
            path=f"{number}.txt", text=" ".join(words), encoding="utf-8", note=None
        )
        size = store_document(home.corpus_dir(corpus.id), document)
        entries.append(DocumentEntry(path=document.path, bytes=size, sha256="", encoding="utf-8"))
    store.add_documents(corpus.id, entries)
    return corpus.id


def run_next(store: Store, home: Home) -> None:
    """Do the work of the next job here."""
    job = store.claim("host")
    assert job is not None
    run_job(store, home, job.id, job.lease_token)


def start_run(store: Store, corpus_id: str, name: str) -> RunRow:
    run = store.create_run(name, corpus_id, SETTINGS, STEPS)
    store.submit("train", run_id=run.id, settings=SETTINGS)
    return store.get_run(run.id)


def test_text_becomes_a_trained_model_whatever_stops_it(
    store: Store, home: Home, worker: Worker
) -> None:
    def until(condition: Callable[[], bool]) -> None:
        wait_until(condition, meanwhile=worker.tick, every_s=0.1)

    corpus_id = make_corpus(store, home)
    build = store.submit("build", corpus_id=corpus_id, settings={})
    run = start_run(store, corpus_id, "stopped")
    assert store.get_job(run.job_id).after_id == build.id

    run_next(store, home)
    assert store.get_job(build.id).state is JobState.SUCCEEDED, store.get_job(build.id)
    corpus = store.get_corpus(corpus_id)
    assert corpus.state is CorpusState.READY
    assert corpus.summary["num_documents"] == 8

    until(lambda: store.get_run(run.id).step >= 3)
    store.pause_run(run.id)
    until(lambda: store.get_run(run.id).state is RunState.PAUSED)
    stopped = store.get_run(run.id)
    assert 3 <= stopped.step < STEPS
    assert store.list_checkpoints(run.id)[-1].step == stopped.step
    assert f"Paused after step {stopped.step}" in stopped.message
    assert steps_of(store, run) == list(range(1, stopped.step + 1))

    resumed = store.resume_run(run.id)
    until(lambda: store.list_checkpoints(run.id)[-1].step > stopped.step)
    os.kill(store.get_job(resumed.id).pid, signal.SIGKILL)
    until(lambda: store.get_job(resumed.id).state.is_finished)
    assert store.get_job(resumed.id).attempt == 2

    whole = start_run(store, corpus_id, "whole")
    run_next(store, home)
    for row in (run, whole):
        done = store.get_run(row.id)
        assert (done.state, done.step, done.total_steps) == (RunState.SUCCEEDED, STEPS, STEPS)
        assert done.settings["parameters"] > 0
        assert steps_of(store, row) == list(range(1, STEPS + 1))
        on_disk = {path.name for path in (home.run_dir(row.id) / "checkpoints").iterdir()}
        rows = {f"step-{row.step:08d}" for row in store.list_checkpoints(row.id)}
        assert on_disk == rows
        assert f"step-{STEPS:08d}" in rows
    # The same run, stopped in two places or in none, comes to the same numbers.
    for name in ("train_loss", "val_loss_on", "val_loss_off"):
        assert store.metrics(run.id, name=name) == store.metrics(whole.id, name=name)


def steps_of(store: Store, run: RunRow) -> list[int]:
    return [point.step for point in store.metrics(run.id, name="train_loss")]


def test_a_corpus_without_text_fails_with_a_sentence_and_stops_its_runs(
    store: Store, home: Home
) -> None:
    corpus = store.create_corpus("nothing", {})
    build = store.submit("build", corpus_id=corpus.id, settings={})
    run = start_run(store, corpus.id, "first")

    run_next(store, home)

    failed = store.get_job(build.id)
    assert failed.state is JobState.FAILED
    assert "fault in the program" not in failed.error
    assert store.get_corpus(corpus.id).state is CorpusState.FAILED
    assert store.get_run(run.id).state is RunState.CANCELED
    assert f"job {build.number} (build)" in store.get_run(run.id).message
    assert failed.error in store.get_run(run.id).message


def test_settings_that_do_not_fit_fail_the_run_with_a_sentence(store: Store, home: Home) -> None:
    corpus_id = make_corpus(store, home)
    run = store.create_run("first", corpus_id, {}, STEPS)
    store.submit("train", run_id=run.id, settings={"preset": "huge"})

    run_next(store, home)

    assert store.get_run(run.id).state is RunState.FAILED
    assert "'huge'" in store.get_run(run.id).message
