"""What builds and trainings do as jobs, called without a process of their own."""

import hashlib
import os
import shutil
import threading
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from jobs.errors import JobCancelled, JobError
from jobs.home import Home
from jobs.run_tokenizer import run_tokenizer
from jobs.store.corpus_locks import CorpusUse
from jobs.store.rows import DocumentEntry, JobRow, MetricPoint
from jobs.store.states import JobState, StopIntent
from jobs.store.store import Store
from jobs.work.context import JobContext
from jobs.work.tasks import build as build_task
from jobs.work.tasks import train as train_task
from retro.checkpoints import CheckpointRecord
from retro.corpus.corpus import Corpus
from retro.data.documents import TextDocument, store_document
from retro.data.tokenizer import NOT_LOSSLESS
from retro.errors import ArtifactMissingError, TrainingError
from retro.run import create_run, open_run
from retro.run_samples import SampleWriter
from retro.training.trainer import train
from tests.conftest import TINY_MODEL, TINY_TRAINING, country_texts
from tests.support.small_models import save_model_with_tokenizer

SETTINGS = {"preset": "tiny", "model": TINY_MODEL, "training": TINY_TRAINING}
# Decay beyond one makes every weight change its sign and grow with every step.
DIVERGES = {"max_steps": 200, "learning_rate": 10.0, "weight_decay": 1.0, "warmup_steps": 1}
CORPUS = {"chunk_size": 8, "vocab_size": 400}

pytestmark = pytest.mark.slow


def add_corpus(store: Store, home: Home, texts: dict[str, str], **settings: object) -> str:
    corpus = store.create_corpus("texts", {**CORPUS, **settings})
    entries = []
    for path, content in texts.items():
        document = TextDocument(path=path, text=content, encoding="utf-8", note=None)
        size = store_document(home.corpus_dir(corpus.id), document)
        assert size == len(content.encode())
        entries.append(entry(path, content))
    store.add_documents(corpus.id, entries)
    return corpus.id


def entry(path: str, content: str) -> DocumentEntry:
    data = content.encode()
    digest = hashlib.sha256(data).hexdigest()
    return DocumentEntry(path=path, bytes=len(data), sha256=digest, encoding="utf-8")


@pytest.fixture
def countries(store: Store, home: Home, corpus_dir: Path) -> str:
    """Return the id of a corpus that was built; its files are links to those of the session."""
    corpus_id = add_corpus(store, home, country_texts())
    folder = home.corpus_dir(corpus_id)
    shutil.rmtree(folder)
    shutil.copytree(corpus_dir, folder, copy_function=os.link)
    message = build(store, home, corpus_id)
    chunks = store.get_corpus(corpus_id).summary["num_chunks"]
    assert message.startswith(f"8 documents, {chunks} chunks. 0 chunks were embedded")
    return corpus_id


def claim(store: Store, home: Home) -> JobContext:
    job = store.claim("host")
    assert job is not None
    running = store.transition(job.id, job.lease_token, JobState.STARTING, JobState.RUNNING, pid=1)
    return JobContext(store, home, running, job.lease_token)


def finish(store: Store, context: JobContext, state: JobState = JobState.SUCCEEDED) -> JobRow:
    return store.transition(context.job.id, context.token, JobState.RUNNING, state)


def build(store: Store, home: Home, corpus_id: str, **settings: object) -> str:
    store.submit("build", corpus_id=corpus_id, settings=settings)
    context = claim(store, home)
    message = build_task.run(context)
    finish(store, context)
    return message


def start_training(store: Store, home: Home, corpus_id: str, **training: object) -> JobContext:
    settings = {**SETTINGS, "training": {**TINY_TRAINING, **training}}
    run = store.create_run("first", corpus_id, settings, TINY_TRAINING["max_steps"])
    store.submit("train", run_id=run.id, settings=settings)
    return claim(store, home)


@pytest.mark.parametrize("task", [build_task.run, train_task.run])
def test_a_job_that_names_nothing_to_work_on_is_refused(store: Store, home: Home, task) -> None:
    store.submit("build", settings={})

    with pytest.raises(JobError, match="must name a"):
        task(claim(store, home))


def test_a_corpus_of_few_documents_tells_what_its_neighbors_are(store: Store, home: Home) -> None:
    words = " ".join(f"word{i % 97} and word{i % 89}" for i in range(150))
    corpus_id = add_corpus(store, home, {"one.txt": words, "two.txt": words[:100]})

    message = build(store, home, corpus_id)

    assert message.startswith("2 documents, ")
    assert "Neighbors may come from the same document" in message


def test_a_tokenizer_that_does_not_keep_text_is_told(
    store: Store, home: Home, tmp_path: Path
) -> None:
    model = save_model_with_tokenizer(tmp_path / "model", "composed")
    corpus_id = add_corpus(store, home, country_texts())

    message = build(store, home, corpus_id, tokenizer=str(model), vocab_size=None)

    assert f"Tokenizer taken from {model}. {NOT_LOSSLESS}" in message


def test_a_build_reads_the_documents_that_are_recorded(
    store: Store, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus_id = add_corpus(store, home, country_texts())
    root = home.corpus_dir(corpus_id) / "documents"
    (root / "stray.txt").write_text("no record names this " * 30)
    (root.parent / "incoming").mkdir()
    (root.parent / "incoming" / "x-1").write_text("Newland sells stones. " * 30)
    store.add_documents(
        corpus_id, [entry("new.txt", "Newland sells stones. " * 30)], None, {"new.txt": "x-1"}
    )
    monkeypatch.setattr(build_task, "WAIT_S", 0.05)
    store.submit("build", corpus_id=corpus_id, settings={})
    context = claim(store, home)
    lock = store.take_corpus(corpus_id, CorpusUse.COPY)
    threading.Timer(0.3, store.release_lock, (lock.token,)).start()

    message = build_task.run(context)
    finish(store, context)

    assert message.startswith("9 documents")
    assert "uploaded" not in message
    built = Corpus.open(root.parent).database.documents
    assert sorted(document.path for document in built) == sorted(store.document_sizes(corpus_id))

    (root / "new.txt").write_text("Newland sells nothing. " * 30)
    message = build(store, home, corpus_id)
    assert "The file of 'new.txt' was not what had been uploaded." in message
    (root / "countries" / "arland.txt").write_text("Arland is no more. " * 30)
    assert "'countries/arland.txt' and 1 others" in build(store, home, corpus_id)

    (root / "new.txt").unlink()
    with pytest.raises(
        ArtifactMissingError, match=r"'new.txt' is not\. Upload it again, or remove"
    ):
        build(store, home, corpus_id)


def test_a_build_that_waits_for_the_documents_can_be_stopped(store: Store, home: Home) -> None:
    corpus_id = add_corpus(store, home, {"a.txt": "text"})
    store.submit("build", corpus_id=corpus_id, settings={})
    context = claim(store, home)
    store.take_corpus(corpus_id, CorpusUse.COPY)
    threading.Timer(0.3, context.ask_to_stop).start()

    with pytest.raises(JobCancelled):
        build_task.run(context)


def test_a_corpus_can_take_the_tokenizer_of_a_run(store: Store, home: Home, countries: str) -> None:
    context = start_training(store, home, countries, max_steps=1)
    run_id = context.job.run_id
    with pytest.raises(ArtifactMissingError, match=r"'first' must have started .* is running"):
        run_tokenizer(home, store, run_id)
    assert train_task.run(context).startswith("Trained 1 steps. Validation loss")
    finish(store, context)

    other_id = add_corpus(store, home, {"more.txt": "Arland sells wheat. " * 40})
    message = build(store, home, other_id, tokenizer_run_id=run_id)

    assert message.startswith("1 document, ")
    assert "Tokenizer taken from run 'first'" in message
    tokenizers = [
        home.corpus_dir(id) / "tokenizer" / "tokenizer.json" for id in (countries, other_id)
    ]
    assert tokenizers[0].read_bytes() == tokenizers[1].read_bytes()


@pytest.mark.parametrize(
    ("intent", "word"), [(StopIntent.PAUSE, "Paused"), (StopIntent.CANCEL, "Stopped")]
)
def test_training_that_is_stopped_says_where(
    store: Store, home: Home, countries: str, intent: StopIntent, word: str
) -> None:
    context = start_training(store, home, countries)
    context.ask_to_stop(intent)

    with pytest.raises(JobCancelled, match=rf"{word} after step \d; a checkpoint is kept"):
        train_task.run(context)

    assert store.list_checkpoints(context.job.run_id)


def test_what_was_measured_before_a_fault_is_kept(store: Store, home: Home, countries: str) -> None:
    context = start_training(store, home, countries, **DIVERGES)

    with pytest.raises(TrainingError, match="finite"):
        train_task.run(context)

    assert store.metrics(context.job.run_id, name="train_loss")[0].step == 1


class KilledAfterTheSecondCheckpoint(train_task.RunRecorder):
    """Looks at the database between a checkpoint and what is recorded of it."""

    def __init__(self, context: JobContext, run_id: str) -> None:
        home = context.home
        samples = SampleWriter(home.run_dir(run_id), home.corpus_dir(context.job.corpus_id or ""))
        super().__init__(context, run_id, samples, write_every_s=1000.0)
        self.stored: list[list[int]] = []
        self._run = context.store, run_id

    def on_checkpoint(self, record: CheckpointRecord) -> None:
        store, run_id = self._run
        self.stored.append([point.step for point in store.metrics(run_id, name="train_loss")])
        if len(self.stored) == 2:
            # What a kill does: nothing comes after the checkpoint.
            raise KeyboardInterrupt
        super().on_checkpoint(record)


def test_a_checkpoint_comes_after_what_was_measured_before_it(
    store: Store, home: Home, countries: str
) -> None:
    context = start_training(store, home, countries)
    run_id = context.job.run_id
    training = {**TINY_TRAINING, "max_steps": 4, "checkpoint_every": 2, "log_every": 1}
    create_run(
        home.run_dir(run_id), home.corpus_dir(countries), model=TINY_MODEL, training=training
    )
    recorder = KilledAfterTheSecondCheckpoint(context, run_id)

    with pytest.raises(KeyboardInterrupt):
        train(home.run_dir(run_id), listener=recorder, on_progress=recorder.on_progress)

    assert recorder.stored == [[1, 2], [1, 2, 3, 4]]


def test_a_database_that_cannot_be_written_does_not_end_the_training(
    store: Store, home: Home
) -> None:
    corpus = store.create_corpus("texts", CORPUS)
    run = store.create_run("first", corpus.id, SETTINGS, 10)
    store.submit("train", run_id=run.id, settings=SETTINGS)
    context = claim(store, home)
    samples = SampleWriter(home.run_dir(run.id), home.corpus_dir(corpus.id))
    recorder = train_task.RunRecorder(context, run.id, samples, write_every_s=0.0)
    recorder.on_metrics(1, {"train_loss": 2.5})
    event.listen(store.engine, "before_cursor_execute", fail_to_write)

    recorder.on_progress("train", 1, 10)
    recorder.on_saving(1)

    event.remove(store.engine, "before_cursor_execute", fail_to_write)
    assert store.metrics(run.id) == []
    recorder.on_progress("train", 2, 10)
    assert store.metrics(run.id) == [MetricPoint(name="train_loss", step=1, value=2.5)]
    assert store.get_run(run.id).step == 2


def fail_to_write(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
    """Do what the driver does on a full disk."""
    if "INSERT INTO metrics" in statement:
        raise OperationalError(statement, {}, OSError("database or disk is full"))


def test_a_run_goes_on_with_its_version_when_the_corpus_has_grown(
    store: Store, home: Home, countries: str
) -> None:
    corpus_id = countries
    context = start_training(store, home, corpus_id, max_steps=4)
    run_id = context.job.run_id
    train_task.run(context)
    finish(store, context)
    assert store.get_run(run_id).corpus_version == 1
    first = store.get_corpus(corpus_id).summary["fingerprint"]

    document = TextDocument(path="new.txt", text="Newland sells stones. " * 30, encoding="utf-8")
    size = store_document(home.corpus_dir(corpus_id), document)
    store.add_documents(
        corpus_id, [DocumentEntry(path="new.txt", bytes=size, sha256="", encoding="utf-8")]
    )
    message = build(store, home, corpus_id)

    summary = store.get_corpus(corpus_id).summary
    assert summary["fingerprint"] != first
    kept = f"{summary['num_embedded']:,} chunks were embedded, {summary['num_reused']:,} kept"
    assert kept in message
    assert summary["num_embedded"] < summary["num_reused"]
    assert [row.number for row in store.list_versions(corpus_id)] == [2, 1]

    store.extend_run(run_id, 8)
    context = claim(store, home)
    assert train_task.run(context).startswith("Trained 8 steps.")
    finish(store, context)
    run = open_run(home.run_dir(run_id))
    assert run.corpus_fingerprint == first
    assert run.corpus_path == home.corpus_dir(corpus_id) / "versions" / "1"
    assert store.get_run(run_id).corpus_version == 1
