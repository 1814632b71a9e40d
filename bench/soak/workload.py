"""What the killed jobs do: build small corpora and train tiny models on them."""

import hashlib
import random
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.errors import InvalidChangeError
from jobs.home import Home
from jobs.store.rows import DocumentEntry, JobRow
from jobs.store.states import JobState, RunState
from jobs.store.store import Store
from retro.data.documents import TextDocument, store_document

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
    "batch_size": 2,
    "sequence_length": 64,
    "warmup_steps": 2,
    "eval_every": 20,
    "eval_sequences": 2,
    "checkpoint_every": 8,
    "log_every": 1,
    "precision": "float32",
}
STEPS = 80
SEEDS = (0, 1)
LIVES_AGAIN = (RunState.PAUSED, RunState.CANCELED, RunState.FAILED, RunState.INTERRUPTED)
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Batch:
    """A corpus and some runs; those of the same variant and seed come to the same results."""

    variant: int
    corpus_id: str
    run_ids: dict[int, str]
    """Seed to run."""


def run_settings(seed: int, steps: int = STEPS) -> dict[str, object]:
    """Return the settings of a run of seconds."""
    return {
        "preset": "tiny",
        "model": MODEL,
        "training": {**TRAINING, "max_steps": steps, "seed": seed},
    }


def submit_build(store: Store, home: Home, variant: int) -> Batch:
    """Put the build of a new corpus into the queue."""
    corpus = store.create_corpus(f"corpus {variant}", {"chunk_size": 16})
    store.add_documents(corpus.id, list(_documents(home.corpus_dir(corpus.id), variant)))
    store.submit("build", corpus_id=corpus.id, settings={})
    return Batch(variant, corpus.id, {})


def submit_runs(
    store: Store, corpus: Batch, seeds: Iterable[int] = SEEDS, *, steps: int = STEPS
) -> Batch:
    """Put trainings into the queue, which wait for the corpus where it is being built."""
    run_ids = {}
    for seed in seeds:
        settings = run_settings(seed, steps)
        name = f"run {corpus.variant}.{seed}"
        job = store.start_run(name, corpus.corpus_id, settings, steps, task=settings)
        assert job.run_id is not None
        run_ids[seed] = job.run_id
    return replace(corpus, run_ids=run_ids)


def _documents(corpus_dir: Path, variant: int) -> Iterator[DocumentEntry]:
    words = WORDS.split()
    for number in range(8):
        chosen = [words[(number * 7 + variant + i * i) % len(words)] for i in range(400)]
        document = TextDocument(
            path=f"{number}.txt", text=" ".join(chosen), encoding="utf-8", note=None
        )
        size = store_document(corpus_dir, document)
        yield DocumentEntry(path=document.path, bytes=size, sha256="", encoding="utf-8")


def newest_jobs(store: Store, batch: Batch) -> list[JobRow]:
    """Return the newest job of the corpus and of each run."""
    ids = [store.get_corpus(batch.corpus_id).build_job_id]
    ids += [store.get_run(run_id).job_id for run_id in batch.run_ids.values()]
    return [store.get_job(job_id) for job_id in ids if job_id is not None]


def is_done(store: Store, batch: Batch) -> bool:
    """Return whether everything of a batch succeeded."""
    return all(job.state is JobState.SUCCEEDED for job in newest_jobs(store, batch))


def repeat_ended(store: Store, batch: Batch) -> int:
    """Repeat what was given up, canceled or paused, as a person would; return how much was."""
    # Another batch may be working with the same corpus.
    build, *trainings = newest_jobs(store, batch)
    repeated = 0
    if build.state.is_finished and build.state is not JobState.SUCCEEDED:
        store.retry_job(build.id)
        repeated += 1
    for job in trainings:
        if job.state.is_finished and job.state is not JobState.SUCCEEDED:
            # What it waits for may have ended again since.
            with suppress(InvalidChangeError):
                store.resume_run(job.run_id or "")
                repeated += 1
    return repeated


def stop_something(store: Store, batch: Batch, chance: random.Random) -> str | None:
    """Pause or cancel an unfinished job of a batch; return which it was, with its job's id."""
    active = [job for job in newest_jobs(store, batch) if not job.state.is_finished]
    if not active:
        return None
    job = chance.choice(active)
    try:
        if job.run_id is not None and chance.random() < 0.6:
            store.pause_run(job.run_id)
        else:
            store.request_cancel(job.id)
    except InvalidChangeError:  # it ended in this moment
        return None
    return job.id


@dataclass(frozen=True, slots=True)
class Results:
    """What a batch came to: the same for each of a variant, whatever was killed."""

    files: dict[str, str]
    """Path in the corpus to sha256."""
    weights: dict[int, str]
    """Seed of a run to sha256 of its weights after the last step."""
    losses: dict[int, list[tuple[str, int, float]]]
    """Seed of a run to every measured loss by name and step."""


def results(store: Store, home: Home, batch: Batch, steps: int = STEPS) -> Results:
    """Read what a finished batch came to."""
    corpus_dir = home.corpus_dir(batch.corpus_id)
    files = {
        str(path.relative_to(corpus_dir)): sha256(path)
        for path in sorted(corpus_dir.rglob("*"))
        if path.is_file()
    }
    last = f"checkpoints/step-{steps:08d}/model.safetensors"
    weights, losses = {}, {}
    for seed, run_id in batch.run_ids.items():
        weights[seed] = sha256(home.run_dir(run_id) / last)
        losses[seed] = [
            (point.name, point.step, point.value)
            for point in store.metrics(run_id)
            if "loss" in point.name
        ]
    return Results(files, weights, losses)


def sha256(path: Path) -> str:
    """Return the fingerprint of a file, a word where it is not there."""
    if not path.exists():
        return "missing"
    return hashlib.sha256(path.read_bytes()).hexdigest()
