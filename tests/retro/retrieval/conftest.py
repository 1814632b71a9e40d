"""Fixtures of the tests of building and searching."""

import os

import pytest


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait until files are on the disk: it only matters when the power fails."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
