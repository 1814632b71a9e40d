"""Tokenizers: what the rest of the library needs of one, and how it is opened."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retro.data.byte_level import ByteLevelTokenizer
from retro.data.model_tokenizer import ModelTokenizer

VOCAB_SIZES = ((200_000, 1024), (1_000_000, 2048), (4_000_000, 4096), (32_000_000, 8192))
"""Sizes for corpora below a number of bytes; each token is then seen some hundred times."""
LARGEST_CHOSEN_VOCAB_SIZE = 16384


class Tokenizer(Protocol):
    """Maps text to token ids and back."""

    vocab_size: int
    """Token ids are below this."""
    pad_id: int
    """Stands in chunks where there is no token, and is never written; below 0 where the vocabulary
    has no id to spare."""
    eos_id: int
    """Stands behind the last token of a document; writing it ends a text."""
    fingerprint: str
    """Identity of the mapping."""
    is_lossless: bool
    """Whether every text comes back exactly as it went in."""

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens."""
        ...

    def encode_with_spans(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return token ids, (tokens,), and the characters they cover, (tokens, 2)."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids; special tokens have none."""
        ...

    def token_bytes(self, id: int) -> bytes:
        """Return the UTF-8 bytes of one token, which may be part of a character."""
        ...


class SavedTokenizer(Tokenizer, Protocol):
    """A tokenizer that is kept in files."""

    def save(self, folder: Path) -> None:
        """Write what ``open_tokenizer`` reads into a folder."""
        ...


def open_tokenizer(folder: Path) -> SavedTokenizer:
    """Open the tokenizer of a corpus, a run or a saved model.

    Raises:
        ArtifactMissingError: There is none in the folder.
        ArtifactMismatchError: A file is damaged or from another program.
    """
    if ByteLevelTokenizer.is_in(folder):
        return ByteLevelTokenizer.load(folder)
    return ModelTokenizer.load(folder)


NOT_LOSSLESS = (
    "The tokenizer does not keep every text as it is: chunks are shown as the model reads them, "
    "and their places in the documents are those that the tokenizer gives."
)
"""What people should know of a corpus that was cut by such a tokenizer."""


def choose_vocab_size(num_bytes: int) -> int:
    """Return a vocabulary size for a corpus of ``num_bytes`` bytes of UTF-8."""
    for limit, vocab_size in VOCAB_SIZES:
        if num_bytes < limit:
            return vocab_size
    return LARGEST_CHOSEN_VOCAB_SIZE
