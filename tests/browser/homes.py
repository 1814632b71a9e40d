"""Home folders with a trained model in them, made in this process, so that tests begin at once."""

import io
from pathlib import Path

import torch

from app.services.uploads import UploadedFile
from tests.app.real_app import MODEL, TRAINING, WORDS, make_services, run_waiting_jobs

HOSTILE = "<img src=x onerror=window.hacked=1>${window.hacked=1}{{x}}`x`"
"""A name and a text that must only ever be shown."""
OVERRIDE = "\u202e"
"""Turns the direction of what follows it: allowed in texts, not in names."""
LINE = 1_000_000


def make_trained_home(home: Path) -> dict[str, str]:
    """Build a corpus, train on it for a moment, all with hostile names.

    Returns:
        The ids of ``corpus``, ``run`` and ``job``.
    """
    torch.set_num_threads(1)
    services = make_services(home)
    corpus = services.corpora.create(HOSTILE, settings={"chunk_size": 16, "tokenizer": None})
    vocabulary = WORDS.split()
    files = []
    for number in range(6):
        words = [vocabulary[(number * 7 + i * i) % len(vocabulary)] for i in range(300)]
        text = f"{HOSTILE} {OVERRIDE}{number} " + " ".join(words)
        name = f"folder/{HOSTILE} {number}.txt"
        files.append(UploadedFile(path=name, content=io.BytesIO(text.encode())))
    services.uploads.add(corpus.id, files)
    services.corpora.build(corpus.id)
    run = services.runs.create(HOSTILE, corpus.id, model=MODEL, training=TRAINING)
    run_waiting_jobs(services)
    job_id = str(services.runs.get(run.id).job_id)
    services.home.job_log(job_id).write_text(f"{HOSTILE}{OVERRIDE}\n" * 300 + "x" * LINE)
    services.store.close()
    return {"corpus": str(corpus.id), "run": str(run.id), "job": job_id}
