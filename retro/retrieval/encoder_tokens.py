"""The tokenizer of an encoder.

Rows of token ids are lists: each has its own length.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro.data.tokenizer import PIECE_CHARACTERS, split_text
from retro.errors import ConfigError


class EncoderTokens:
    """Maps texts to the token ids that an encoder reads."""

    def __init__(self, backend: Any, name: str) -> None:
        self.name = name
        self.pad_id: int = backend.pad_token_id or 0
        self._backend = backend

    @property
    def vocab_size(self) -> int:
        """Tokens of the tokenizer, special ones included."""
        return len(self._backend)

    @property
    def unknown_id(self) -> int:
        """Token id that stands for what the tokenizer does not know."""
        id: int | None = self._backend.unk_token_id
        return self.pad_id if id is None else id

    @property
    def special_ids(self) -> tuple[int, int, int]:
        """Ids of the tokens that begin a text, end it, and stand for nothing.

        Raises:
            ConfigError: The tokenizer has no such tokens.
        """
        backend = self._backend
        ids = (backend.cls_token_id, backend.sep_token_id, backend.pad_token_id)
        if any(id is None for id in ids):
            raise ConfigError(
                f"The tokenizer of the encoder must have tokens like [CLS], [SEP] and [PAD], "
                f"got {ids} for {self.name!r}. Choose an encoder of the BERT family."
            )
        return ids

    def tokenize(self, texts: Sequence[str], *, add_special_tokens: bool = True) -> list[list[int]]:
        """Return the token ids of each text, of any length."""
        if not texts:
            return []
        encoded: list[list[int]] = self._backend(
            list(texts),
            add_special_tokens=add_special_tokens,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        return encoded

    def tokenize_documents(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Return the token ids of each text without special tokens.

        Long texts go through the tokenizer in pieces, and text that spells the name of a
        special token is text like any other.
        """
        pieces = [
            (row, piece)
            for row, text in enumerate(texts)
            for piece in split_text(text, PIECE_CHARACTERS)
        ]
        found: list[list[NDArray[np.int32]]] = [[np.empty(0, np.int32)] for _ in texts]
        if pieces:
            encoded = self._backend(
                [piece for _, piece in pieces],
                add_special_tokens=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                split_special_tokens=True,
                verbose=False,
            )["input_ids"]
            for (row, _), ids in zip(pieces, encoded, strict=True):
                found[row].append(np.array(ids, dtype=np.int32))
        return [np.concatenate(parts) for parts in found]

    def tokenize_cut(self, texts: Sequence[str], longest: int) -> list[list[int]]:
        """Return the token ids of each text, special ones included, at most ``longest``."""
        encoded: list[list[int]] = self._backend(list(texts), truncation=True, max_length=longest)[
            "input_ids"
        ]
        # Without special tokens, an empty text would have nothing to take the mean of.
        return [ids or [self.pad_id] for ids in encoded]
