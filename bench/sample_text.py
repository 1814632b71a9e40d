"""Real text to measure with: the built-in sample, whole, in copies, or cut into chunks.

Shape suffixes: N chunks, M tokens per chunk.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from retro.data.byte_level import ByteLevelTokenizer
from retro.data.samples import sample_documents

SAMPLE = "python-docs"
VOCAB_SIZE = 2048
ENCODER_TOKENIZER = "tokenizer.json"


def write_copies(folder: Path, copies: int) -> None:
    """Write the sample ``copies`` times; every paragraph names its copy, so none is repeated."""
    folder.mkdir(parents=True)
    for document in sample_documents(SAMPLE):
        for copy in range(1, copies + 1):
            paragraphs = document.text.split("\n\n")
            text = "\n\n".join(f"(copy {copy}) {paragraph}" for paragraph in paragraphs)
            (folder / f"{copy:03d}-{document.path}").write_text(text, encoding="utf-8")


def corpus_chunks(count: int, chunk_size: int) -> tuple[ByteLevelTokenizer, NDArray[np.int32]]:
    """Return a tokenizer of the sample and chunks of it, (count, chunk_size), none short."""
    texts = [document.text for document in sample_documents(SAMPLE)]
    tokenizer = ByteLevelTokenizer.train(texts, VOCAB_SIZE)
    ids = [tokenizer.encode(text) for text in texts]
    return tokenizer, whole_chunks(ids, count, chunk_size)


def whole_chunks(
    documents: Sequence[Sequence[int]], count: int, chunk_size: int
) -> NDArray[np.int32]:
    """Cut documents into whole chunks, (count, chunk_size); start again where they end."""
    chunks = [
        ids[start : start + chunk_size]
        for ids in documents
        for start in range(0, len(ids) - chunk_size + 1, chunk_size)
    ]
    return np.resize(np.array(chunks, dtype=np.int32), (count, chunk_size))


class WordPieces:
    """The tokenizer of an encoder, as one that chunks are cut with; retro-pytorch does so."""

    is_lossless = False
    pad_id = 0
    eos_id = 102
    fingerprint = "word pieces"

    def __init__(self, encoder: Path) -> None:
        self._backend = tokenizers.Tokenizer.from_file(str(encoder / ENCODER_TOKENIZER))
        self._backend.no_truncation()
        self._backend.no_padding()
        self.vocab_size: int = self._backend.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode_with_spans(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        encoding = self._backend.encode(text, add_special_tokens=False)
        return np.array(encoding.ids, np.int32), np.array(encoding.offsets, np.int64)

    def decode(self, ids: Sequence[int]) -> str:
        return self._backend.decode(list(ids), skip_special_tokens=True)

    def token_bytes(self, id: int) -> bytes:
        return self.decode([id]).encode()
