"""One text while it is written: its chunks, and what may be told about it already.

Shape suffixes: K neighbors.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro.data.tokenizer import Tokenizer
from retro.generation.events import ChunkEvent, ChunkStart, OutputChunk, ShownNeighbor, TokenEvent
from retro.generation.overlap import RunTracker, run_lengths
from retro.generation.text import StopWatch, TokenDecoder

Share = NDArray[np.floating[Any]] | None
"""Share of attention of each neighbor's text and continuation, (neighbors, 2)."""
Told = ChunkStart | TokenEvent | ChunkEvent


class ChunkDraft:
    """A chunk that is being written or read.

    Args:
        index: Position in the text.
        neighbors: Those it is written from.
        is_prompt: Whether it was there before.
    """

    def __init__(
        self, index: int, neighbors: Sequence[ShownNeighbor], *, is_prompt: bool = False
    ) -> None:
        self.index = index
        self.is_prompt = is_prompt
        self.neighbors = list(neighbors)
        self.tokens: list[int] = []
        self.texts: list[str] = []
        self.logprobs: list[float | None] = []
        self.other_logprobs: list[float | None] | None = None
        self._tracker = RunTracker([neighbor.value_ids for neighbor in neighbors])
        self._shares: list[Share] = []

    def add(self, token: int, text: str, logprob: float | None, share_K2: Share) -> int:
        """Take the next token; return the length of the run that ends there."""
        self.tokens.append(token)
        self.texts.append(text)
        self.logprobs.append(logprob)
        # Texts side by side may have different numbers of neighbors.
        self._shares.append(None if share_K2 is None else share_K2[: len(self.neighbors)])
        return self._tracker.add(token)

    def cut(self, num_tokens: int, last_text: str) -> "ChunkDraft":
        """Return the same chunk with its first tokens only, the last one showing a given text."""
        made = ChunkDraft(self.index, self.neighbors, is_prompt=self.is_prompt)
        texts = [*self.texts[: num_tokens - 1], last_text]
        for token, text, logprob, share_K2 in zip(
            self.tokens, texts, self.logprobs, self._shares, strict=False
        ):
            made.add(token, text, logprob, share_K2)
        if self.other_logprobs is not None:
            made.other_logprobs = self.other_logprobs[:num_tokens]
        return made

    def build(self) -> OutputChunk:
        """Return the chunk as it stands."""
        return OutputChunk(
            index=self.index,
            token_ids=list(self.tokens),
            segments=list(zip(self.texts, self._tracker.lengths, strict=True)),
            is_prompt=self.is_prompt,
            logprobs=list(self.logprobs),
            other_logprobs=self.other_logprobs,
            runs=self._tracker.runs(),
            neighbors=self._compared_neighbors(),
        )

    def _compared_neighbors(self) -> list[ShownNeighbor]:
        share_K2 = self._mean_share()
        was_read = bool(share_K2.any())
        compared = []
        for neighbor, share_2 in zip(self.neighbors, share_K2, strict=True):
            runs = run_lengths(neighbor.value_ids, [self.tokens])
            num_own = len(neighbor.token_ids)
            compared.append(
                replace(
                    neighbor,
                    text_segments=_with_runs(neighbor.text_segments, runs[:num_own]),
                    continuation_segments=_with_runs(
                        neighbor.continuation_segments, runs[num_own:]
                    ),
                    attention_share=float(share_2.sum()) if was_read else None,
                    continuation_share=float(share_2[1]) if was_read else None,
                )
            )
        return compared

    def _mean_share(self) -> NDArray[np.float64]:
        """Return the mean over the tokens that read the neighbors, (neighbors, 2)."""
        known = [share_K2 for share_K2 in self._shares if share_K2 is not None]
        if not known:
            return np.zeros((len(self.neighbors), 2))
        mean_K2: NDArray[np.float64] = np.mean(known, axis=0, dtype=np.float64)
        return mean_K2


def _with_runs(segments: Sequence[tuple[str, int]], runs: Sequence[int]) -> list[tuple[str, int]]:
    return [(text, run) for (text, _), run in zip(segments, runs, strict=True)]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Something to tell once the text up to here cannot be part of a stop string."""

    what: ChunkStart | TokenEvent | ChunkDraft
    start: int
    """Characters before it."""
    end: int


class SampleWriter:
    """One of the texts that are written side by side.

    With stop strings, what may be the beginning of one is held back until that is decided.

    Args:
        sample: Number of the text.
        tokenizer: Of the model.
        tokens: What is there already.
        stops: Stop strings.
    """

    def __init__(
        self, sample: int, tokenizer: Tokenizer, tokens: Sequence[int], stops: Sequence[str]
    ) -> None:
        self.sample = sample
        self.tokens = list(tokens)
        self.num_written = 0
        """Tokens told so far."""
        self.draft: ChunkDraft | None = None
        self._decoder = TokenDecoder(tokenizer)
        self.texts = [self._decoder.add(token) for token in tokens]
        """Text of each token that is there already."""
        self._watch = StopWatch(stops)
        self._waiting: deque[_Waiting] = deque()

    @property
    def hit_stop(self) -> bool:
        """Whether a stop string appeared."""
        return self._watch.found_at is not None

    def begin(self, draft: ChunkDraft) -> None:
        """Begin a chunk; one with tokens already goes on."""
        self.draft = draft
        start = ChunkStart(
            sample=self.sample, index=draft.index, is_prompt=False, neighbors=draft.neighbors
        )
        self._wait(start, "")

    def write(self, token: int, logprob: float, share_K2: Share) -> None:
        """Add a token to the chunk."""
        assert self.draft is not None
        self.tokens.append(token)
        text = self._decoder.add(token)
        run = self.draft.add(token, text, logprob, share_K2)
        event = TokenEvent(
            sample=self.sample,
            chunk_index=self.draft.index,
            token_id=token,
            text=text,
            logprob=logprob,
            run=run,
        )
        self._wait(event, text)

    def end_chunk(self) -> None:
        """Finish the chunk; its tokens are all there."""
        assert self.draft is not None
        self._wait(self.draft, "")
        self.draft = None

    def finish_text(self) -> None:
        """Show an incomplete character at the end as such; nothing is written after it."""
        if self.draft is not None and self.draft.texts:
            self.draft.texts[-1] += self._decoder.finish()

    def tell(self, *, is_last: bool = False) -> Iterator[Told]:
        """Yield what can be told, in order.

        Args:
            is_last: Nothing will be added, so nothing is held back.
        """
        stop = self._watch.found_at
        if stop is not None:
            yield from self._tell_until(stop)
            return
        limit = self._watch.safe_length()
        while self._waiting and (is_last or self._is_safe(self._waiting[0], limit)):
            yield from self._tell_one(self._waiting.popleft())

    def _is_safe(self, item: _Waiting, limit: int) -> bool:
        """Return whether nothing of it can be part of a stop string, given the safe length."""
        what = item.what
        begins = isinstance(what, ChunkStart) or (isinstance(what, TokenEvent) and not what.text)
        if begins and self._watch.is_watching:
            # The text that it begins may be that of the stop string.
            return item.end < limit
        return item.end <= limit

    def _wait(self, what: ChunkStart | TokenEvent | ChunkDraft, text: str) -> None:
        start = self._watch.length
        if text:
            self._watch.add(text)
        self._waiting.append(_Waiting(what, start, start + len(text)))

    def _tell_one(self, item: _Waiting) -> Iterator[Told]:
        if isinstance(item.what, ChunkDraft):
            yield ChunkEvent(sample=self.sample, chunk=item.what.build())
        else:
            self.num_written += isinstance(item.what, TokenEvent)
            yield item.what

    def _tell_until(self, stop: int) -> Iterator[Told]:
        """Tell what comes before a stop string; the token it begins in shows its own part."""
        begun: ChunkStart | None = None
        while self._waiting:
            item = self._waiting.popleft()
            told: list[Told] = []
            if isinstance(item.what, ChunkStart):
                begun = item.what
            elif isinstance(item.what, ChunkDraft):
                told += self._tell_cut(item.what, stop, item.end)
            elif item.start < stop:
                text = item.what.text[: stop - item.start]
                told += self._tell_one(replace(item, what=replace(item.what, text=text)))
            if told and begun is not None:
                yield begun
                begun = None
            yield from told

    def _tell_cut(self, draft: ChunkDraft, stop: int, end: int) -> Iterator[Told]:
        """Tell a chunk of which the tokens behind a stop string are dropped."""
        start = end - sum(len(text) for text in draft.texts)
        kept, place = 0, start
        for text in draft.texts:
            if place >= stop:
                break
            kept, place = kept + 1, place + len(text)
        if kept == len(draft.texts) and place <= stop:
            yield from self._tell_one(_Waiting(draft, end, end))
        elif kept:
            shown = draft.texts[kept - 1]
            text = shown[: len(shown) - max(0, place - stop)]
            yield from self._tell_one(_Waiting(draft.cut(kept, text), end, end))
