"""Fixtures of the tests of the library."""

import os
from pathlib import Path

import pytest

from tests.small_bert import save_small_bert


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait until files are on the disk: it only matters when the power fails."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small BERT. Tests must not change it."""
    return save_small_bert(tmp_path_factory.mktemp("encoder") / "small-bert")


@pytest.fixture
def small_bert(bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Choose the small BERT, as a script does."""
    monkeypatch.setenv("RETRO_ENCODER", str(bert_folder))
    return bert_folder
