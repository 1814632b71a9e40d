"""Fixtures used by more than one folder."""

import gc
import os
from pathlib import Path

import pytest
import torch

from retro.config.corpus import CorpusConfig
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.model.pretrained.bundled import MODELS_VARIABLE
from retro.run import Run, create_run
from tests.fakes import store_texts

pytest_plugins = ["tests.jobs.postgres"]

# One conversion of the bundled model serves all tests, and all processes that they start.
os.environ.setdefault(MODELS_VARIABLE, str(Path(__file__).parents[1] / ".models"))

HEAVY = {"server", "postgres_server", "hasty", "small", "trained"}
"""Fixtures that start a server, or train a model."""
COUNTRIES = [
    ("Arland", "Bergen", "wheat", "Corvia", "cold"),
    ("Corvia", "Dunmar", "copper", "Arland", "mild"),
    ("Elbia", "Farnost", "olives", "Gotria", "hot"),
    ("Gotria", "Helmut", "timber", "Elbia", "wet"),
    ("Istren", "Jarvik", "fish", "Kolmar", "windy"),
    ("Kolmar", "Lunden", "coal", "Istren", "dry"),
    ("Morvia", "Nestor", "wine", "Ostral", "warm"),
    ("Ostral", "Perlin", "salt", "Morvia", "foggy"),
]

TINY_MODEL = {
    "enc_dim": 16,
    "enc_depth": 1,
    "dec_dim": 24,
    "dec_depth": 2,
    "dec_cross_attn_layers": [1, 2],
    "heads": 2,
    "dim_head": 8,
}
TINY_TRAINING = {
    "max_steps": 8,
    "batch_size": 4,
    "sequence_length": 32,
    "learning_rate": 3e-3,
    "warmup_steps": 2,
    "eval_every": 4,
    "checkpoint_every": 4,
    "log_every": 1,
    "precision": "float32",
    "sample_tokens": 0,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start a server or train a model, which ``make quick`` leaves out."""
    for item in items:
        assert isinstance(item, pytest.Function)
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if HEAVY & set(item.fixturenames) or parameters.get("database_kind") == "postgresql":
            item.add_marker("heavy")


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what is imported: it would look at it all for hours."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def country_texts() -> dict[str, str]:
    """Return path to text: short documents that share wording."""
    return {
        f"countries/{name.lower()}.txt": (
            f"{name}\nCapital: {capital}\nThe main export of {name} is {export}, which is sold "
            f"to {neighbor}.\nThe climate of {name} is {climate} for most of the year.\n"
            f"Land boundaries: {name} borders on {neighbor} alone.\nCoastline: none, landlocked.\n"
        )
        for name, capital, export, neighbor, climate in COUNTRIES
    }


@pytest.fixture(scope="session")
def corpus_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small corpus, built with the bundled encoder. Tests must not change it."""
    folder = tmp_path_factory.mktemp("shared") / "countries"
    store_texts(folder, country_texts())
    build_corpus(folder, CorpusConfig(chunk_size=8, vocab_size=400), device=torch.device("cpu"))
    return folder


@pytest.fixture(scope="session")
def corpus(corpus_dir: Path) -> Corpus:
    """Return the small corpus, opened."""
    return Corpus.open(corpus_dir)


@pytest.fixture
def tiny_run(tmp_path: Path, corpus_dir: Path) -> Run:
    """Return a run on the small corpus that has not started."""
    return create_run(
        tmp_path / "run", corpus_dir, preset="tiny", model=TINY_MODEL, training=TINY_TRAINING
    )
