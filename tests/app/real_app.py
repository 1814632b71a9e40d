"""Makes web apps over real stores, with limits small enough to reach."""

from dataclasses import dataclass
from pathlib import Path

from fastapi.testclient import TestClient

from app.services.services import Services
from app.services.uploads import UploadLimits
from jobs.home import Home
from jobs.store.store import Store
from jobs.work.child import run_job
from tests.support.databases import put_database

BASE = "http://127.0.0.1"
TOKEN = "a-token-of-enough-length"
WORDS = "the cat sat on a mat and saw dogs run far over green hills by old rivers"
LIMITS = UploadLimits(
    request_files=20,
    request_bytes=2_000_000,
    file_bytes=200_000,
    corpus_files=30,
    zip_files=10,
    zip_ratio=10,
    zip_free_bytes=1_000,
    free_disk=0,
)
MODEL = {
    "enc_dim": 16,
    "enc_depth": 1,
    "dec_dim": 16,
    "dec_depth": 2,
    "dec_cross_attn_layers": [2],
    "heads": 2,
    "dim_head": 8,
}
TRAINING = {
    "max_steps": 4,
    "batch_size": 2,
    "sequence_length": 64,
    "warmup_steps": 1,
    "eval_every": 2,
    "eval_sequences": 2,
    "checkpoint_every": 2,
    "log_every": 1,
    "precision": "float32",
    "sample_tokens": 0,
}


def make_services(folder: Path) -> Services:
    home = Home(folder)
    home.create()
    return Services(home, Store(put_database(home)), limits=LIMITS)


def run_waiting_jobs(services: Services) -> None:
    """Do the work of every job in the queue here, one after the other."""
    while (job := services.store.claim("test")) is not None:
        assert job.lease_token is not None
        run_job(services.store, services.home, job.id, job.lease_token)


@dataclass(frozen=True)
class Trained:
    """A corpus that is ready, and a run with checkpoints."""

    services: Services
    client: TestClient
    corpus_id: str
    run_id: str
