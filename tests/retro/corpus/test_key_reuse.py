"""A corpus that has changed embeds what is new, and ends as if it had been built from scratch."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retro.corpus.build import build_corpus
from retro.corpus.files import KEYS_BEFORE_NAME
from retro.data.byte_level import ByteLevelTokenizer
from retro.json_files import read_json
from retro.whole_files import json_bytes
from tests.fakes import HashEmbedder, random_texts, store_texts
from tests.retro.corpus.builds import CONFIG, build, build_until, contents, many_shards

NEW = {
    "a first.txt": "entirely new words at the front " * 5,
    "folder-1/zz.txt": "and some more " * 9,
}


class Counted:
    """Makes embedders, and knows how many chunks they embedded in all."""

    def __init__(self, seed_width: int = 16) -> None:
        self.made: list[HashEmbedder] = []
        self._width = seed_width

    def __call__(self, tokenizer: ByteLevelTokenizer) -> HashEmbedder:
        self.made.append(HashEmbedder(tokenizer.vocab_size, self._width))
        return self.made[-1]

    @property
    def num_embedded(self) -> int:
        return sum(item.num_embedded for item in self.made)


@pytest.fixture
def corpus_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    store_texts(folder, random_texts(20, 60))
    build(folder)
    return folder


def from_scratch(corpus_dir: Path) -> dict[str, str]:
    """Return what a build without any key gives; tokenizer and choice of documents are kept."""
    fresh = corpus_dir.with_name("fresh")
    shutil.copytree(corpus_dir, fresh)
    for name in ("keys", "index", "index.partial", KEYS_BEFORE_NAME):
        shutil.rmtree(fresh / name, ignore_errors=True)
    build(fresh)
    return contents(fresh)


def test_only_new_chunks_are_embedded_also_in_the_middle(corpus_dir: Path) -> None:
    store_texts(corpus_dir, NEW)
    counted = Counted()
    with many_shards():
        summary = build_corpus(corpus_dir, CONFIG, embedder=counted)

    new_chunks = sum(
        item["num_chunks"]
        for item in read_json(corpus_dir / "database" / "documents.json")
        if item["path"] in NEW
    )
    assert 0 < counted.num_embedded <= new_chunks
    assert summary.num_embedded == counted.num_embedded
    assert summary.num_reused == summary.num_chunks - counted.num_embedded
    assert contents(corpus_dir) == from_scratch(corpus_dir)


def test_a_removed_document_costs_nothing(corpus_dir: Path) -> None:
    (corpus_dir / "documents/folder-0/text-000.txt").unlink()
    counted = Counted()
    with many_shards():
        build_corpus(corpus_dir, CONFIG, embedder=counted)

    assert counted.num_embedded == 0
    assert contents(corpus_dir) == from_scratch(corpus_dir)


@pytest.mark.parametrize("least", [0, 64, 128, 200])
def test_a_build_that_was_stopped_still_knows_the_earlier_keys(
    corpus_dir: Path, least: int
) -> None:
    store_texts(corpus_dir, NEW)
    counted = Counted()
    build_until(corpus_dir, "embed", least, embedder=counted)
    # More documents come before the build that was stopped could end.
    store_texts(corpus_dir, {"b second.txt": "still other words in a text " * 6})
    with many_shards():
        summary = build_corpus(corpus_dir, CONFIG, embedder=counted)

    assert counted.num_embedded < summary.num_chunks / 4
    assert not (corpus_dir / KEYS_BEFORE_NAME).exists()
    assert contents(corpus_dir) == from_scratch(corpus_dir)


def test_another_encoder_embeds_everything(corpus_dir: Path) -> None:
    store_texts(corpus_dir, NEW)
    counted = Counted(seed_width=8)
    with many_shards():
        summary = build_corpus(corpus_dir, CONFIG, embedder=counted)

    assert counted.num_embedded == summary.num_chunks
    assert summary.num_reused == 0


def damage_array(sidecar: Path) -> None:
    path = sidecar.with_suffix(".npy")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def forget_digests(sidecar: Path) -> None:
    values = read_json(sidecar)
    del values["chunks"]
    sidecar.write_bytes(json_bytes(values))


@pytest.mark.parametrize(
    "spoil",
    [
        damage_array,
        forget_digests,
        lambda sidecar: sidecar.write_text("{"),
        lambda sidecar: sidecar.with_suffix(".npy").unlink(),
        lambda sidecar: sidecar.write_bytes(json_bytes({**read_json(sidecar), "chunks": "zz"})),
        lambda sidecar: sidecar.write_bytes(json_bytes({**read_json(sidecar), "sha256": 5})),
    ],
)
def test_damaged_keys_are_computed_again(corpus_dir: Path, spoil) -> None:
    store_texts(corpus_dir, NEW)
    for sidecar in (corpus_dir / "keys").glob("keys-*.json"):
        spoil(sidecar)
    counted = Counted()
    with many_shards():
        summary = build_corpus(corpus_dir, CONFIG, embedder=counted)

    assert counted.num_embedded == summary.num_chunks
    assert contents(corpus_dir) == from_scratch(corpus_dir)


def test_documents_that_stay_are_not_cut_again(
    corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[int] = []
    encode = ByteLevelTokenizer.encode_with_spans

    def counted(self: ByteLevelTokenizer, text: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        cut.append(len(text))
        return encode(self, text)

    monkeypatch.setattr(ByteLevelTokenizer, "encode_with_spans", counted)
    store_texts(corpus_dir, NEW)
    build(corpus_dir)
    assert sorted(cut) == sorted(len(text) for text in NEW.values())

    database = contents(corpus_dir / "database")
    cut.clear()
    (corpus_dir / "database/chunks.npy").write_bytes(b"damaged")
    build(corpus_dir)
    assert len(cut) == 22
    assert contents(corpus_dir / "database") == database
