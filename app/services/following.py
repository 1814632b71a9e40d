"""Tells what happens in a generation, from its beginning, to any number of readers.

What is told follows from what is stored and from the chunks in the making, so nothing has to
be kept for readers that may come: one that attaches late gets the same events.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.concurrency import run_in_threadpool

from app.services.live import LiveGeneration, PartialChunk, split_variant, variants_of
from jobs.rows import GenerationRow
from jobs.states import GenerationState
from jobs.store import Store

POLL_S = 0.03
CHUNKS_AT_ONCE = 8

Event = tuple[str, dict[str, Any]]
"""A name and its values."""


class EventReader:
    """One reader's place in a generation.

    Args:
        store: Holds the finished chunks.
        row: The generation.
        live: The generation as it is being written; None if it has ended.
    """

    def __init__(self, store: Store, row: GenerationRow, live: LiveGeneration | None) -> None:
        self._store = store
        self._id = row.id
        self._live = live
        self._first_written = row.branch_index or 0
        self._variants = variants_of(row.settings)
        self._told = dict.fromkeys(self._variants, 0)
        self._tokens: dict[str, int | None] = dict.fromkeys(self._variants)
        """Tokens told of the chunk in the making; None if it has not been told that it begins."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing happens any more; ask before ``news``, to miss nothing."""
        return self._live is None or self._live.ended.is_set()

    def news(self) -> list[Event]:
        """Return what has happened since the last call; nothing if there is nothing new."""
        finished, partial = ({}, {}) if self._live is None else self._live.progress()
        chunks: list[tuple[int, int, str, dict[str, Any]]] = []
        for place, variant in enumerate(self._variants):
            told = self._told[variant]
            limit = CHUNKS_AT_ONCE
            if self._live is not None:
                limit = min(limit, finished.get(variant, 0) - told)
            if limit > 0:
                found = self._store.read_chunks(self._id, variant, told, limit)
                chunks += [(told + i, place, variant, chunk) for i, chunk in enumerate(found)]
        events: list[Event] = []
        # Several texts come chunk by chunk, as they are written.
        for index, _, variant, chunk in sorted(chunks, key=lambda item: item[:2]):
            events += self._finished(variant, index, chunk)
        for variant, begun in partial.items():
            if begun.index == self._told[variant]:
                events += self._unfinished(variant, begun)
        return events

    def _finished(self, variant: str, index: int, chunk: dict[str, Any]) -> Iterator[Event]:
        yield from self._begin(variant, index, chunk["is_prompt"], chunk["neighbors"])
        was_written = not chunk["is_prompt"] and index >= self._first_written
        if self._live is not None and was_written:
            logprobs = chunk.get("logprobs") or [None] * len(chunk["token_ids"])
            tokens = zip(chunk["token_ids"], chunk["segments"], logprobs, strict=True)
            yield from self._new_tokens(variant, index, list(tokens))
        self._told[variant] = index + 1
        self._tokens[variant] = None
        yield "chunk_end", {"variant": variant, **chunk}

    def _unfinished(self, variant: str, chunk: PartialChunk) -> Iterator[Event]:
        yield from self._begin(variant, chunk.index, chunk.is_prompt, chunk.neighbors_json)
        segments = list(chunk.segments)
        # The other lists may be longer by now.
        tokens = zip(chunk.token_ids, segments, chunk.logprobs, strict=False)
        yield from self._new_tokens(variant, chunk.index, list(tokens))

    def _begin(
        self, variant: str, index: int, is_prompt: bool, neighbors: list[dict[str, Any]]
    ) -> Iterator[Event]:
        if self._tokens[variant] is not None:
            return
        self._tokens[variant] = 0
        yield "chunk_start", {"variant": variant, "index": index, "is_prompt": is_prompt}
        if self._live is not None and split_variant(variant)[0] == "on":
            yield "neighbors", {"variant": variant, "index": index, "neighbors": neighbors}

    def _new_tokens(
        self, variant: str, index: int, tokens: list[tuple[int, list[Any], float | None]]
    ) -> Iterator[Event]:
        told = self._tokens[variant] or 0
        for token_id, (text, run), logprob in tokens[told:]:
            where = {"variant": variant, "chunk_index": index}
            token = {"token_id": token_id, "text": text, "logprob": logprob, "run": run}
            yield "token", {**where, **token}
        self._tokens[variant] = max(told, len(tokens))


async def follow(reader: EventReader) -> AsyncIterator[list[Event]]:
    """Yield what happens, as it happens, until the generation has ended.

    Yields:
        What is new; nothing, in an empty list, when some time has passed without news.
    """
    while True:
        # Waiting in a thread would keep one of the few threads that answer pages.
        has_ended = reader.has_ended
        news = await run_in_threadpool(reader.news)
        if has_ended and not news:
            return
        yield news
        if not news:
            await asyncio.sleep(POLL_S)


def last_events(generation: dict[str, Any]) -> list[Event]:
    """Return the events that end every stream of a generation that has ended."""
    failed = generation["state"] == GenerationState.FAILED
    error: list[Event] = [("error", {"detail": generation["message"]})] if failed else []
    return [*error, ("done", generation)]
