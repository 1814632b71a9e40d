"""The frozen encoder of scripts for RETRO-pytorch, which give it tokens of its own.

The encoder is ``bert-base-cased`` unless the argument ``encoder`` or the environment
variable ``RETRO_ENCODER`` names another, a Hub name or a folder. The variable is read at
every call, because a script may set it.

Shape suffixes: N any number of rows, T tokens, M tokens per chunk, Z key width. A trailing 1
is broadcast over the width.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from retro.artifacts import fingerprint
from retro.config.corpus import BUNDLED_ENCODER
from retro.data.byte_level import PIECE_CHARACTERS, split_text
from retro.errors import ArtifactMissingError, ConfigError, ShapeError, shown
from retro.places import check_place
from retro.retrieval.embedder import Pool, TextEncoder

DEFAULT_ENCODER = "bert-base-cased"
ENCODER_VARIABLE = "RETRO_ENCODER"
TINY = 1e-30
"""Keeps the mean over no tokens at all zero instead of undefined."""


class TokenEncoder(TextEncoder):
    """An encoder whose tokens are those of the chunks."""

    @property
    def pad_id(self) -> int:
        """Token id that fills shorter rows; 0 where the tokenizer has none."""
        return self._tokenizer.pad_token_id or 0

    @property
    def vocab_size(self) -> int:
        """Tokens of the tokenizer, special ones included."""
        return len(self._tokenizer)

    @property
    def unknown_id(self) -> int:
        """Token id that stands for what the tokenizer does not know."""
        id: int | None = self._tokenizer.unk_token_id
        return self.pad_id if id is None else id

    @property
    def special_ids(self) -> tuple[int, int, int]:
        """Ids of the tokens that begin a text, end it, and stand for nothing.

        Raises:
            ConfigError: The tokenizer has no such tokens.
        """
        backend = self._tokenizer
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
        encoded: list[list[int]] = self._tokenizer(
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
            encoded = self._tokenizer(
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

    def encode_tokens(
        self,
        ids_NT: NDArray[np.int64],
        exists_NT: NDArray[np.bool_],
        *,
        first_token: bool = False,
        eps: float = 0.0,
        most_rows: int | None = None,
    ) -> NDArray[np.float32]:
        """Return one vector per row of token ids.

        Args:
            ids_NT: Token ids, (rows, tokens), special ones included.
            exists_NT: False where there is no token, (rows, tokens).
            first_token: Return the state of the first token instead of the mean over all
                others.
            eps: Added to the number of tokens a mean is taken over.
            most_rows: Most rows computed at once; None lets their length alone decide.

        Returns:
            Vectors, (rows, width); zero where no token but the first exists.

        Raises:
            ShapeError: Rows are empty or longer than the encoder reads, or an id is unknown.
        """
        if len(ids_NT) and ids_NT.shape[1] == 0:
            raise ShapeError(f"Rows must have at least one token, got {ids_NT.shape}.")
        lengths_N = _row_lengths(exists_NT)
        longest = int(lengths_N.max(initial=1))
        if longest > self.longest:
            raise ShapeError(
                f"The encoder {self.name!r} reads at most {self.longest} tokens, got {longest}. "
                f"Shorten the rows."
            )
        wrong = ids_NT[(ids_NT < 0) | (ids_NT >= self.num_embeddings)]
        if wrong.size:
            raise ShapeError(
                f"Token ids must be at least 0 and below {self.num_embeddings}, the vocabulary of "
                f"the encoder {self.name!r}, got {int(wrong[0])}. Use the tokenizer of this "
                f"encoder."
            )
        rows = [ids_N[:length] for ids_N, length in zip(ids_NT, lengths_N, strict=True)]
        exists = [flags_N[:length] for flags_N, length in zip(exists_NT, lengths_N, strict=True)]
        pool = _first_state if first_token else _mean_of_others(eps)
        return self._vectors(rows, exists, pool, most_rows)


def _first_state(states_NTZ: Tensor, exists_NT: Tensor) -> Tensor:  # noqa: ARG001  # a Pool
    """Return the state of the first token."""
    return states_NTZ[:, 0]


def _mean_of_others(eps: float) -> Pool:
    """Return a pool that takes the mean over the tokens that exist, without the first."""

    def pool(states_NTZ: Tensor, exists_NT: Tensor) -> Tensor:
        others_NT1 = exists_NT[:, 1:, None].float()
        return (states_NTZ[:, 1:] * others_NT1).sum(1) / (others_NT1.sum(1) + max(eps, TINY))

    return pool


def _row_lengths(exists_NT: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the tokens of each row up to the last that exists, at least one."""
    after_NT = np.where(exists_NT, np.arange(1, exists_NT.shape[1] + 1), 1)
    lengths_N: NDArray[np.int64] = after_NT.max(axis=1, initial=1)
    return lengths_N


EncoderName = str | os.PathLike[str] | None

_kept: dict[str, TokenEncoder] = {}
_loading = Lock()


def open_encoder(encoder: EncoderName = None) -> TokenEncoder:
    """Return the chosen encoder; it is loaded once per process.

    Args:
        encoder: Hub name or folder; None is what ``RETRO_ENCODER`` says, or
            ``bert-base-cased``.

    Raises:
        ConfigError: No encoder could be called so.
        ArtifactMissingError: It is neither here nor can it be downloaded.
        ArtifactMismatchError: Its files cannot be used.
    """
    name = os.fspath(encoder or os.environ.get(ENCODER_VARIABLE) or DEFAULT_ENCODER)
    check_place("encoder" if encoder else ENCODER_VARIABLE, name)
    kept_as = str(Path(name).resolve()) if Path(name).is_dir() else name
    with _loading:
        if kept_as not in _kept:
            try:
                _kept[kept_as] = TokenEncoder.open(name)
            except ArtifactMissingError as error:
                cause = error.__cause__ or error
                raise ArtifactMissingError(
                    f"The encoder {shown(name)} is not in the cache and cannot be downloaded "
                    f"({type(cause).__name__}). Connect to the network once, or choose another: "
                    f"{ENCODER_VARIABLE}={BUNDLED_ENCODER} is the bundled encoder and needs none, "
                    f"{ENCODER_VARIABLE}=FOLDER is one of your own."
                ) from error
        return _kept[kept_as]


class TokenEmbedder:
    """Embeds chunks of the encoder's own tokens; database chunks and queries alike.

    A chunk is read as [CLS], its tokens without special ones and padding, [SEP].
    """

    def __init__(
        self, encoder: TokenEncoder, *, use_cls_repr: bool = False, most_rows: int | None = None
    ) -> None:
        self.encoder = encoder
        self.width = encoder.width
        self.fingerprint = fingerprint(
            {"encoder": encoder.fingerprint, "rows": "[CLS] chunk [SEP]", "cls": use_cls_repr}
        )
        self._use_cls_repr = use_cls_repr
        self._most_rows = most_rows

    def embed(self, chunks_NM: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return one key per chunk, (chunks, width).

        Raises:
            ShapeError: A chunk is longer than the encoder reads, or holds an unknown id.
            ArtifactMismatchError: A key is zero or not finite.
        """
        cls_id, sep_id, pad_id = self.encoder.special_ids
        num_rows, size = chunks_NM.shape
        kept_NM = ~np.isin(chunks_NM, (cls_id, sep_id, pad_id))
        # A stable sort moves the kept tokens to the left in their order.
        order_NM = np.argsort(~kept_NM, axis=1, kind="stable")
        ids_NT = np.full((num_rows, size + 2), pad_id, dtype=np.int64)
        ids_NT[:, 0] = cls_id
        ids_NT[:, 1:-1] = np.take_along_axis(chunks_NM, order_NM, axis=1)
        lengths_N = kept_NM.sum(axis=1)
        exists_NT = np.arange(size + 2) < lengths_N[:, None] + 2
        ids_NT[np.arange(num_rows), lengths_N + 1] = sep_id
        ids_NT[~exists_NT] = pad_id
        keys_NZ = self.encoder.encode_tokens(
            ids_NT, exists_NT, first_token=self._use_cls_repr, most_rows=self._most_rows
        )
        self.encoder.check(keys_NZ)
        return keys_NZ
