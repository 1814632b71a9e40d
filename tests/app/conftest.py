"""A web app over a real store; and one with a corpus that was built and a model trained on it."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient

from app.services.services import Services
from app.services.uploads import UploadedFile
from app.web import guard, make_app, make_rest_app
from tests.app.real_app import (
    BASE,
    MODEL,
    TRAINING,
    WORDS,
    Trained,
    make_services,
    run_waiting_jobs,
)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    made = make_services(tmp_path / "home")
    yield made
    made.store.close()


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    app = guard(make_rest_app(services), None)
    with TestClient(app, base_url=BASE, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    torch.set_num_threads(1)
    services = make_services(tmp_path_factory.mktemp("trained") / "home")
    corpus = services.corpora.create("letters", settings={"chunk_size": 16, "tokenizer": None})
    vocabulary = WORDS.split()
    files = []
    for number in range(6):
        words = [vocabulary[(number * 7 + i * i) % len(vocabulary)] for i in range(300)]
        text = f"<b>{number}</b> " + " ".join(words)
        files.append(UploadedFile(path=f"folder/{number}.txt", content=io.BytesIO(text.encode())))
    services.uploads.add(corpus.id, files)
    services.corpora.build(corpus.id)
    run = services.runs.create("first", corpus.id, model=MODEL, training=TRAINING)
    run_waiting_jobs(services)
    app = make_app(services, token=None)
    with TestClient(app, base_url=BASE, raise_server_exceptions=False) as client:
        yield Trained(services, client, corpus.id, run.id)
    services.store.close()
