"""Reads texts with the model: all at once, then token by token, within a sliding window.

Shape suffixes: N texts side by side, T tokens, V vocabulary, L chunks, K neighbors, R tokens per
retrieved value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from retro.model.language_model import (
    ReadingModel,
    Retrieved,
    TextCache,
    TokenReader,
    TokenText,
)

NO_TOKEN = -1
"""Stands in retrieved values where there is no token; no vocabulary has it."""
Values = NDArray[np.int32] | None
"""Retrieved values of one chunk, (neighbors, tokens); None where there are none."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model says about some tokens, and after them."""

    logits_NV: NDArray[np.float32]
    """Logits after the last token, (texts, vocabulary)."""
    logprob_NT: NDArray[np.float64]
    """Log-probability in nats of the last tokens that were read, each given those before it,
    (texts, tokens). Of the first one the reading before has told; (texts, 0) if nobody asked."""
    share_NTK2: NDArray[np.float32] | None
    """Share of attention that each token gave to each neighbor's text and continuation; None where
    there was nothing to read."""


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
    def of(cls, model: ReadingModel) -> "Window":
        """Return the window of a model; of two chunks at least, so that it can move."""
        kept = max(1, model.window // model.chunk_size // 2)
        return cls(model.chunk_size, max(model.window // model.chunk_size, kept + 1), kept)

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
        step: Reads the single tokens of one text faster than the model; None where nothing does.
            Once it has read one, the reader goes on token by token.
        left_padding: Tokens that the first chunk lacks at its start.
        keeps_shares: Whether readings report how much attention each neighbor got.
        retrieval: Whether any chunk may have neighbors.
    """

    def __init__(
        self,
        model: ReadingModel,
        step: TokenReader | None,
        *,
        left_padding: int,
        keeps_shares: bool = False,
        retrieval: bool = True,
    ) -> None:
        self._model = model
        self._step = step
        self._padding = left_padding
        self._keeps_shares = keeps_shares
        self._retrieval = retrieval
        self._window = Window.of(model)
        self._start = 0
        self._tokens: list[list[int]] = [[]]
        self._values: list[list[Values]] = [[]]
        self._cache: TextCache | None = None
        self._token_text: TokenText | None = None

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
            self._model,
            self._step,
            left_padding=self._padding,
            keeps_shares=self._keeps_shares,
            retrieval=self._retrieval,
        )
        made._start = self._start
        made._tokens = [list(self._tokens[row]) for row in rows]
        made._values = [list(self._values[row]) for row in rows]
        assert self._token_text is None, "a text that is read token by token stays alone"
        if self._cache is not None:
            index_N = torch.tensor(rows, device=self._model.device)
            made._cache = self._cache.rows(index_N)
        return made

    def read(
        self,
        tokens: Sequence[Sequence[int]],
        values: Sequence[Sequence[Values]],
        *,
        scored: bool = False,
    ) -> Reading:
        """Read the next tokens.

        Args:
            tokens: Token ids of each text, equally many.
            values: Retrieved values of the chunks that these tokens complete, for each text.
            scored: Whether the tokens but the first are scored.

        Returns:
            What the model says about the tokens; of those only that the window holds after the
            last one.
        """
        for row, (more, found) in enumerate(zip(tokens, values, strict=True)):
            self._tokens[row] += more
            self._values[row] += found
        start = self._window.start(self._padding + self.num_tokens - 1, self._padding)
        num_scored = len(tokens[0]) - 1 if scored else 0
        if self._cache is None or start != self._start:
            reading = self._read_window(start, num_scored)
            shares = reading.share_NTK2
            if shares is not None:
                shares = shares[:, max(0, shares.shape[1] - len(tokens[0])) :]
            return replace(reading, share_NTK2=shares)
        if self._step is not None and len(tokens) == len(tokens[0]) == 1:
            return self._read_token(self._step, self._cache, tokens[0][0], values)
        assert self._token_text is None, "read token by token from here on"
        return self._read(self._cache, tokens, values, num_scored)

    def _read_token(
        self,
        step: TokenReader,
        cache: TextCache,
        token: int,
        values: Sequence[Sequence[Values]],
    ) -> Reading:
        if self._token_text is None:
            self._token_text = step.take_over(cache)
        logits_V = self._token_text.read(token, self._retrieved(values))
        share_K2 = self._token_text.shares() if self._keeps_shares else None
        return Reading(
            logits_V[None], np.empty((1, 0)), None if share_K2 is None else share_K2[None, None]
        )

    def _read_window(self, start: int, num_scored: int) -> Reading:
        """Read everything from a place on the grid on."""
        self._start, self._token_text = start, None
        skipped = max(0, start - self._padding)
        first_chunk = start // self._window.chunk_size
        self._cache = self._model.new_cache(
            len(self._tokens),
            left_padding=0 if start else self._padding,
            max_tokens=self._window.num_chunks * self._window.chunk_size,
            keeps_shares=self._keeps_shares,
            retrieval=self._retrieval,
        )
        tokens = [row[skipped:] for row in self._tokens]
        values = [row[first_chunk:] for row in self._values]
        return self._read(self._cache, tokens, values, min(num_scored, len(tokens[0]) - 1))

    def _read(
        self,
        cache: TextCache,
        tokens: Sequence[Sequence[int]],
        values: Sequence[Sequence[Values]],
        num_scored: int,
    ) -> Reading:
        ids_NT = torch.tensor([list(row) for row in tokens], device=self._model.device)
        said = self._model.predict(ids_NT, cache, self._retrieved(values), num_scored=num_scored)
        return Reading(
            said.logits_NV.float().cpu().numpy(),
            said.logprob_NT.double().cpu().numpy(),
            None if said.share_NTK2 is None else said.share_NTK2.float().cpu().numpy(),
        )

    def _retrieved(self, values: Sequence[Sequence[Values]]) -> Retrieved | None:
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
        retrieved_NLKR = np.full(shape, NO_TOKEN, dtype=np.int64)
        for row, items in enumerate(values):
            for chunk, item in enumerate(items):
                if item is not None:
                    retrieved_NLKR[row, chunk, : len(item)] = item
        ids = torch.from_numpy(retrieved_NLKR).to(self._model.device)
        return Retrieved(ids.clamp(min=0), ids != NO_TOKEN)
