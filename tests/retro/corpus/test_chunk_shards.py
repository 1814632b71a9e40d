"""Cutting goes on from whole shards, and gives what cutting in one go gives."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retro.config.corpus import CorpusConfig
from retro.corpus import chunk_shards as module
from retro.corpus.chunk_stage import build_database
from retro.corpus.files import DATABASE_PARTIAL_NAME
from retro.data.database import RetrievalDatabase
from tests.fakes import ByteTokenizer, random_texts, store_texts

CONFIG = CorpusConfig(chunk_size=4)
NUM_DOCUMENTS = 12
FILES = ("chunks.npy", "documents.npy", "spans.npy", "documents.json", "manifest.json")


class StopHereError(Exception):
    """Stands for the end of the process."""


class CountingTokenizer(ByteTokenizer):
    """Counts documents, and stops before one of them."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.num_encoded = 0
        self._stop_at = stop_at

    def encode_with_spans(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        if self.num_encoded == self._stop_at:
            raise StopHereError
        self.num_encoded += 1
        return super().encode_with_spans(text)


@pytest.fixture
def corpus_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Two documents of 59 bytes in each shard, and one without text.
    monkeypatch.setattr(module, "BYTES_PER_SHARD", 120)
    store_texts(tmp_path, random_texts(NUM_DOCUMENTS - 1, 10) | {"folder-0/empty.txt": ""})
    return tmp_path


def files(corpus_dir: Path) -> dict[str, bytes]:
    return {name: (corpus_dir / "database" / name).read_bytes() for name in FILES}


def in_one_go(corpus_dir: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    with monkeypatch.context() as patch:
        patch.setattr(module, "BYTES_PER_SHARD", 10**6)
        build_database(corpus_dir, CONFIG, ByteTokenizer())
    found = files(corpus_dir)
    # Else the next build takes over what this one has cut.
    shutil.rmtree(corpus_dir / "database")
    return found


def stop_at(corpus_dir: Path, document: int) -> None:
    with pytest.raises(StopHereError):
        build_database(corpus_dir, CONFIG, CountingTokenizer(document))


def test_shards_give_what_one_go_gives(corpus_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = in_one_go(corpus_dir, monkeypatch)

    build_database(corpus_dir, CONFIG, ByteTokenizer())

    assert files(corpus_dir) == expected
    documents = RetrievalDatabase.open(corpus_dir / "database").documents
    assert [one.num_chunks for one in documents if one.characters == 0] == [0]
    assert not (corpus_dir / DATABASE_PARTIAL_NAME).exists()


def test_a_small_corpus_is_cut_without_shards(
    corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BYTES_PER_SHARD", 10**6)
    found: list[bool] = []

    def look(stage: str, done: int, total: int) -> None:
        found.append((corpus_dir / DATABASE_PARTIAL_NAME).exists())
        assert (stage, done <= total) == ("chunk", True)

    build_database(corpus_dir, CONFIG, ByteTokenizer(), look)

    assert len(found) > 1
    assert not any(found)


@pytest.mark.parametrize("document", range(NUM_DOCUMENTS))
def test_a_stopped_cut_goes_on_from_whole_shards(
    corpus_dir: Path, monkeypatch: pytest.MonkeyPatch, document: int
) -> None:
    expected = in_one_go(corpus_dir, monkeypatch)
    stop_at(corpus_dir, document)
    partial = corpus_dir / DATABASE_PARTIAL_NAME
    kept = sum(len(np.load(path)) for path in partial.glob("0*/sizes.npy"))

    again = CountingTokenizer()
    build_database(corpus_dir, CONFIG, again)

    # What is lost is the shard that was being cut; the last one is never kept.
    assert document - 3 < kept <= document
    assert again.num_encoded == NUM_DOCUMENTS - kept
    assert files(corpus_dir) == expected
    assert not (corpus_dir / DATABASE_PARTIAL_NAME).exists()


@pytest.mark.parametrize("name", ["chunks.npy", "spans.npy", "sizes.npy", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "bit", "gone"])
def test_a_damaged_shard_is_cut_again(
    corpus_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    expected = in_one_go(corpus_dir, monkeypatch)
    stop_at(corpus_dir, NUM_DOCUMENTS - 1)
    path = corpus_dir / DATABASE_PARTIAL_NAME / "000001" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    match damage:
        case "gone":
            path.unlink()
        case "bit":
            path.write_bytes(data)
        case _:
            path.write_bytes(data[:-1] if damage == "truncated" else b"")

    again = CountingTokenizer()
    build_database(corpus_dir, CONFIG, again)

    # The damaged shard, and what had not been cut.
    assert again.num_encoded == 2 + 1
    assert files(corpus_dir) == expected


def test_shards_of_other_inputs_are_not_used(
    corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(corpus_dir, NUM_DOCUMENTS - 1)
    changed = {path: text.upper() for path, text in random_texts(NUM_DOCUMENTS - 1, 10).items()}
    store_texts(corpus_dir, dict([next(iter(changed.items()))]))

    again = CountingTokenizer()
    build_database(corpus_dir, CONFIG, again)

    assert 1 < again.num_encoded < NUM_DOCUMENTS
    assert files(corpus_dir) == in_one_go(corpus_dir, monkeypatch)
    stop_at(corpus_dir, NUM_DOCUMENTS - 1)
    longer = CountingTokenizer()
    build_database(corpus_dir, CorpusConfig(chunk_size=5), longer)
    assert longer.num_encoded == NUM_DOCUMENTS


def test_half_a_shard_is_removed(corpus_dir: Path) -> None:
    stop_at(corpus_dir, NUM_DOCUMENTS - 1)
    half = corpus_dir / DATABASE_PARTIAL_NAME / ".tmp-000001-0123abcd"
    half.mkdir()

    stop_at(corpus_dir, 0)

    assert not half.exists()
    assert (corpus_dir / DATABASE_PARTIAL_NAME / "000001").exists()
