"""Small builds with many shards, and what is left of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from retro.artifacts import sha256_file
from retro.config.corpus import CorpusConfig
from retro.corpus import chunk_shards, embed_stage, index_stage
from retro.corpus.build import build_corpus
from retro.data.documents import DOCUMENTS_NAME
from retro.retrieval.embedder import MakeEmbedder
from tests.fakes import hash_embedder, random_texts, store_texts

CONFIG = CorpusConfig(chunk_size=8, vocab_size=300)
ROWS = 64


class StopHereError(Exception):
    """Stands for the end of the process."""


@contextmanager
def many_shards() -> Iterator[None]:
    """Divide the work of a small build as that of a large one is divided."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk_shards, "BYTES_PER_SHARD", 1500)
        patch.setattr(embed_stage, "ROWS_PER_SHARD", ROWS)
        patch.setattr(index_stage, "CHUNKS_PER_SHARD", ROWS)
        yield


def store_small(corpus_dir: Path) -> None:
    """Put the texts of a small corpus in place."""
    store_texts(corpus_dir, random_texts(8, 50))


def build(
    corpus_dir: Path, config: CorpusConfig = CONFIG, embedder: MakeEmbedder = hash_embedder
) -> None:
    """Build a small corpus with many shards."""
    with many_shards():
        build_corpus(corpus_dir, config, embedder=embedder)


def build_until(
    corpus_dir: Path,
    last: str,
    least: int,
    config: CorpusConfig = CONFIG,
    embedder: MakeEmbedder = hash_embedder,
) -> None:
    """Build, but stop in a stage when so much of it is done."""

    def stop(stage: str, done: int, total: int) -> None:
        if stage == last and done >= least:
            raise StopHereError((stage, done, total))

    with many_shards(), pytest.raises(StopHereError):
        build_corpus(corpus_dir, config, embedder=embedder, on_progress=stop)


def contents(corpus_dir: Path) -> dict[str, str]:
    """Return path to sha256 of everything but the documents; folders are named too."""
    return {
        path.relative_to(corpus_dir).as_posix(): sha256_file(path) if path.is_file() else "folder"
        for path in sorted(corpus_dir.rglob("*"))
        if path.relative_to(corpus_dir).parts[0] != DOCUMENTS_NAME
    }
