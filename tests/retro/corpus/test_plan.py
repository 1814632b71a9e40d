"""What a build takes is known before it starts, nearly."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retro.config.corpus import CorpusConfig, IndexKind
from retro.corpus.build import build_corpus
from retro.corpus.files import INDEX_PARTIAL_NAME
from retro.corpus.plan import DEFAULT_WIDTH, estimate_build_bytes, expected_size
from retro.data.byte_level import ByteLevelTokenizer
from retro.data.documents import store_document, stored_documents
from retro.data.samples import sample_documents
from tests.fakes import random_texts, store_texts

CONFIG = CorpusConfig()


class RandomKeys:
    """Keys of any width that cost nothing; only their number and size matter here."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.fingerprint = f"random {width}"
        self._chance = np.random.default_rng(0)

    def embed(self, chunks_NM: NDArray[np.int32]) -> NDArray[np.float32]:
        return self._chance.standard_normal((len(chunks_NM), self.width), dtype=np.float32)


def store_sample(corpus_dir: Path, share: float) -> int:
    """Store a share of the built-in sample; return its bytes."""
    documents = list(sample_documents("python-docs"))
    kept = documents[: max(2, round(share * len(documents)))]
    return sum(store_document(corpus_dir, document) for document in kept)


def bytes_in(folder: Path) -> int:
    """Return what the files take; one with two names is on the disk once."""
    files = {(found := path.stat()).st_ino: found.st_size for path in files_in(folder)}
    return sum(files.values())


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def build(corpus_dir: Path, config: CorpusConfig, width: int) -> int:
    """Build, and return the most bytes that were added at once."""
    before, most = bytes_in(corpus_dir), 0

    def look(stage: str, done: int, total: int) -> None:  # noqa: ARG001  # the protocol's names
        nonlocal most
        most = max(most, bytes_in(corpus_dir) - before)

    def embedder(_: ByteLevelTokenizer) -> RandomKeys:
        return RandomKeys(width)

    build_corpus(corpus_dir, config, embedder=embedder, on_progress=look)
    return max(most, bytes_in(corpus_dir) - before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "config", "width"),
    [
        (1.0, CONFIG, DEFAULT_WIDTH),
        (0.4, CONFIG, DEFAULT_WIDTH),
        (0.1, CONFIG, DEFAULT_WIDTH),
        (0.4, CorpusConfig(chunk_size=32, num_neighbors=10), 128),
        (0.4, CorpusConfig(chunk_size=128), 768),
        (0.2, CorpusConfig(index_kind=IndexKind.IVF), DEFAULT_WIDTH),
        (0.2, CorpusConfig(index_kind=IndexKind.HNSW), 64),
        (0.2, CorpusConfig(vocab_size=300), DEFAULT_WIDTH),
    ],
)
def test_the_estimate_is_near_and_never_far_below(
    tmp_path: Path, share: float, config: CorpusConfig, width: int
) -> None:
    store_sample(tmp_path / "corpus", share)
    expected = estimate_build_bytes(tmp_path / "corpus", config, width)

    real = build(tmp_path / "corpus", config, width)

    assert 0.9 <= expected / real <= 1.6
    # Nothing is left to do.
    assert estimate_build_bytes(tmp_path / "corpus", config, width) == 0


def test_the_number_of_bytes_alone_gives_nearly_the_same(tmp_path: Path) -> None:
    num_bytes = store_sample(tmp_path, 1.0)

    known = estimate_build_bytes(tmp_path, CONFIG)

    assert estimate_build_bytes(num_bytes, CONFIG) == pytest.approx(known, rel=0.1)
    assert len(stored_documents(tmp_path)) > 50


def test_what_is_there_already_is_not_needed_again(tmp_path: Path) -> None:
    width = 16
    store_texts(tmp_path, random_texts(8, 60))
    config = CorpusConfig(chunk_size=8, vocab_size=300)
    build(tmp_path, config, width)
    whole = expected_size(8 * 359, 8, config, width)

    def needed(config: CorpusConfig = config, width: int = width) -> int:
        return estimate_build_bytes(tmp_path, config, width)

    more_neighbors = replace(config, num_neighbors=4)
    wider = needed(width=2 * width)
    assert needed() == 0
    # The new index lies beside the old one.
    assert 0 < needed(more_neighbors) <= 1.2 * whole.index
    assert bytes_in(tmp_path / "keys") * 0.4 < wider < whole.keys
    (tmp_path / INDEX_PARTIAL_NAME).mkdir()
    (tmp_path / INDEX_PARTIAL_NAME / "index.faiss").write_bytes(b"x" * 5000)
    assert needed(more_neighbors) == needed(replace(config, num_neighbors=4, seed=0)) > 0
    (tmp_path / "index" / "neighbors.npy").unlink()
    assert 0 < needed() < whole.index
    for change in ({"chunk_size": 9}, {"seed": 5}, {"validation_fraction": 0.2}):
        assert needed(replace(config, **change)) > whole.database  # type: ignore[arg-type]
    (tmp_path / "database" / "documents.json").write_text("[1, 2]")
    assert needed() > whole.database


def test_an_estimate_needs_neither_torch_nor_faiss() -> None:
    program = (
        "import sys\n"
        "from retro.config.corpus import CorpusConfig\n"
        "from retro.corpus.plan import estimate_build_bytes\n"
        "assert estimate_build_bytes(10**6, CorpusConfig()) > 10**6\n"
        "assert not {'torch', 'faiss', 'transformers'} & set(sys.modules)\n"
    )

    subprocess.run([sys.executable, "-c", program], check=True)
