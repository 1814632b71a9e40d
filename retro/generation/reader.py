"""Reads texts with the model: all at once, then token by token, within a sliding window.

Shape suffixes: N texts side by side, T tokens, V vocabulary, L chunks, K neighbors, R tokens per
retrieved value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retro.model.retro.decoder import DecoderCache
from retro.model.retro.model import RETRO
from retro.model.retro.token_step import TokenCache, TokenStep

Values = NDArray[np.int32] | None
"""Retrieved values of one chunk, (neighbors, tokens); None where there are none."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model says after some tokens."""

    logits_NTV: NDArray[np.float32]
    """Logits after the last tokens that were read, (texts, tokens, vocabulary)."""
    share_NTK2: NDArray[np.float32] | None
    """Share of attention that each of these tokens gave to each neighbor's text and
    continuation; None where there was nothing to read."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a text the model sees.

    The text lies on a grid of chunks. When the model has read as many tokens as ``num_chunks``
    hold, the newer half of the chunks is read again, from a chunk's start on, and the rest
    forgotten. The start depends on the position alone, so a text that is taken up again is read
    as before.
    """

    chunk_size: int
    num_chunks: int
    kept_chunks: int
    """Chunks that are read again when the window moves."""

    @classmethod
    def of(cls, model: RETRO) -> "Window":
        """Return the window of a model; of two chunks at least, so that it can move."""
        kept = max(1, model.seq_len // model.chunk_size // 2)
        return cls(model.chunk_size, max(model.seq_len // model.chunk_size, kept + 1), kept)

    def start(self, place: int, left_padding: int) -> int:
        """Return the first place on the grid that is seen when the token at ``place`` is read.

        Args:
            place: Position of the token on the grid.
            left_padding: Places at the start of the grid that hold no token.
        """
        if place < self.num_chunks * self.chunk_size + left_padding:
            return 0
        beyond = place // self.chunk_size - self.num_chunks
        stride = self.num_chunks - self.kept_chunks
        return (beyond // stride + 1) * stride * self.chunk_size


class Reader:
    """Texts side by side that begin alike and are equally long.

    Args:
        model: In eval mode.
        step: Reads the single tokens of one text faster than the model; None where it cannot.
            Once it has read one, the reader goes on token by token.
        left_padding: Tokens that the first chunk lacks at its start.
        keeps_shares: Whether readings tell how much attention each neighbor got.
    """

    def __init__(
        self, model: RETRO, step: TokenStep | None, *, left_padding: int, keeps_shares: bool = False
    ) -> None:
        self._model = model
        self._step = step
        self._padding = left_padding
        self._keeps_shares = keeps_shares
        self._window = Window.of(model)
        self._start = 0
        self._tokens: list[list[int]] = [[]]
        self._values: list[list[Values]] = [[]]
        self._cache: DecoderCache | None = None
        self._token_cache: TokenCache | None = None

    @property
    def slid(self) -> bool:
        """Whether the beginning of the texts was forgotten."""
        return self._start > 0

    @property
    def num_tokens(self) -> int:
        """Tokens of each text."""
        return len(self._tokens[0])

    def num_before_move(self, most: int) -> int:
        """Return how many of the next tokens, at most ``most``, are read in one window."""
        first = self._padding + self.num_tokens
        start = self._window.start(first, self._padding)
        for number in range(1, most):
            if self._window.start(first + number, self._padding) != start:
                return number
        return most

    def rows(self, rows: Sequence[int]) -> "Reader":
        """Return a reader of some of the texts, in the given order; texts may repeat."""
        made = Reader(
            self._model, self._step, left_padding=self._padding, keeps_shares=self._keeps_shares
        )
        made._start = self._start
        made._tokens = [list(self._tokens[row]) for row in rows]
        made._values = [list(self._values[row]) for row in rows]
        assert self._token_cache is None, "a text that is read token by token stays alone"
        if self._cache is not None:
            index_N = torch.tensor(rows, device=self._model.token_embedding.weight.device)
            made._cache = self._cache.rows(index_N)
        return made

    def read(self, tokens: Sequence[Sequence[int]], values: Sequence[Sequence[Values]]) -> Reading:
        """Read the next tokens.

        Args:
            tokens: Token ids of each text, equally many.
            values: Retrieved values of the chunks that these tokens complete, for each text.

        Returns:
            What the model says after each of the tokens; of those only that the window holds
            after the last one.
        """
        for row, (more, found) in enumerate(zip(tokens, values, strict=True)):
            self._tokens[row] += more
            self._values[row] += found
        start = self._window.start(self._padding + self.num_tokens - 1, self._padding)
        if self._cache is None or start != self._start:
            reading = self._read_window(start)
            first = max(0, reading.logits_NTV.shape[1] - len(tokens[0]))
            shares = reading.share_NTK2
            return Reading(
                reading.logits_NTV[:, first:], None if shares is None else shares[:, first:]
            )
        if self._step is not None and len(tokens) == len(tokens[0]) == 1:
            return self._read_token(self._step, self._cache, tokens[0][0], values)
        assert self._token_cache is None, "read token by token from here on"
        return self._read(self._cache, tokens, values)

    def _read_token(
        self,
        step: TokenStep,
        cache: DecoderCache,
        token: int,
        values: Sequence[Sequence[Values]],
    ) -> Reading:
        if self._token_cache is None:
            self._token_cache = step.take_over(cache)
        logits_V = step.read(token, self._token_cache, self._retrieved(values))
        share_K2 = self._token_cache.shares() if self._keeps_shares else None
        return Reading(logits_V[None, None], None if share_K2 is None else share_K2[None, None])

    def _read_window(self, start: int) -> Reading:
        """Read everything from a place on the grid on."""
        self._start, self._token_cache = start, None
        skipped = max(0, start - self._padding)
        first_chunk = start // self._window.chunk_size
        self._cache = self._model.new_cache(
            len(self._tokens),
            left_padding=0 if start else self._padding,
            max_tokens=self._window.num_chunks * self._window.chunk_size,
            keeps_shares=self._keeps_shares,
        )
        return self._read(
            self._cache,
            [row[skipped:] for row in self._tokens],
            [row[first_chunk:] for row in self._values],
        )

    def _read(
        self,
        cache: DecoderCache,
        tokens: Sequence[Sequence[int]],
        values: Sequence[Sequence[Values]],
    ) -> Reading:
        device = self._model.token_embedding.weight.device
        ids_NT = torch.tensor([list(row) for row in tokens], device=device)
        logits_NTV = self._model.read(ids_NT, cache, self._retrieved(values), all_logits=True)
        return Reading(logits_NTV.float().cpu().numpy(), _array(cache.share_BTK2))

    def _retrieved(self, values: Sequence[Sequence[Values]]) -> Tensor | None:
        """Return retrieved values side by side, (texts, chunks, neighbors, tokens)."""
        existing = [item for row in values for item in row if item is not None]
        if not existing:
            return None
        shape = (
            len(values),
            len(values[0]),
            max(len(item) for item in existing),
            existing[0].shape[1],
        )
        retrieved_NLKR = np.full(shape, self._model.pad_id, dtype=np.int64)
        for row, items in enumerate(values):
            for chunk, item in enumerate(items):
                if item is not None:
                    retrieved_NLKR[row, chunk, : len(item)] = item
        device = self._model.token_embedding.weight.device
        return torch.from_numpy(retrieved_NLKR).to(device)


def _array(share_NTK2: Tensor | None) -> NDArray[np.float32] | None:
    return None if share_NTK2 is None else share_NTK2.float().cpu().numpy()
