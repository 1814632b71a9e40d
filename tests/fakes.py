"""Small real implementations of the library's own protocols."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retro.config.corpus import CorpusConfig
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.data.byte_level import ByteLevelTokenizer
from retro.data.documents import TextDocument, store_document


class ByteTokenizer:
    """One token per byte of UTF-8, after the two special ids."""

    vocab_size = 258
    pad_id = 0
    eos_id = 1
    fingerprint = "bytes"
    is_lossless = True

    def encode(self, text: str) -> list[int]:
        return [byte + 2 for byte in text.encode()]

    def encode_with_spans(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        ids = np.array(self.encode(text), dtype=np.int32)
        widths = [len(character.encode()) for character in text]
        starts = np.repeat(np.arange(len(text)), widths)
        return ids, np.stack([starts, starts + 1], axis=1).astype(np.int64).reshape(-1, 2)

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.token_bytes(id) for id in ids).decode(errors="replace")

    def token_bytes(self, id: int) -> bytes:
        return b"" if id < 2 else bytes([id - 2])


class HashEmbedder:
    """A bag of tokens: chunks that share tokens have near keys, in no particular language.

    The vector of a token follows from its id, so every process agrees.
    """

    def __init__(self, vocab_size: int, width: int = 16, pad_id: int = 0) -> None:
        self.width = width
        self.fingerprint = hashlib.sha256(f"hash {vocab_size} {width}".encode()).hexdigest()
        self.num_embedded = 0
        vectors_VZ = np.random.default_rng(0).standard_normal((vocab_size, width))
        vectors_VZ[pad_id] = 0
        self._vectors_VZ = vectors_VZ

    def embed(self, chunks_NM: NDArray[np.int32]) -> NDArray[np.float32]:
        self.num_embedded += len(chunks_NM)
        keys_NZ = self._vectors_VZ[chunks_NM].sum(axis=1) + 1e-3
        return (keys_NZ / np.linalg.norm(keys_NZ, axis=1, keepdims=True)).astype(np.float32)


def hash_embedder(tokenizer: ByteLevelTokenizer) -> HashEmbedder:
    """Make the embedder of ``build_corpus(embedder=...)``."""
    return HashEmbedder(tokenizer.vocab_size)


def random_texts(num_documents: int, num_words: int, seed: int = 0) -> dict[str, str]:
    """Return path to text: words drawn from a small vocabulary."""
    rng = np.random.default_rng(seed)
    words = ["".join(chr(97 + letter) for letter in rng.integers(26, size=5)) for _ in range(200)]
    return {
        f"folder-{row % 3}/text-{row:03d}.txt": " ".join(rng.choice(words, size=num_words))
        for row in range(num_documents)
    }


def store_texts(corpus_dir: Path, texts: dict[str, str]) -> None:
    """Put texts into a corpus."""
    for path, text in texts.items():
        store_document(corpus_dir, TextDocument(path=path, text=text, encoding="utf-8"))


def small_corpus(
    corpus_dir: Path, texts: dict[str, str] | None = None, config: CorpusConfig | None = None
) -> Corpus:
    """Build a corpus in well under a second, with keys of the hash embedder."""
    store_texts(corpus_dir, random_texts(8, 60) if texts is None else texts)
    settings = CorpusConfig(chunk_size=8, vocab_size=300) if config is None else config
    build_corpus(corpus_dir, settings, embedder=hash_embedder)
    return Corpus.open(corpus_dir)
