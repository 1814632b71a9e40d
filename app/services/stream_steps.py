"""Events of a generation, step by step, from stored chunks and from those in the making.

A step leads from one place of the stream to another, and is the same for every reader who stands
there. Nothing is kept for readers that may come: one that attaches late walks the same steps, a
few chunks at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.services.live import LiveGeneration, PartialChunk, split_variant, variants_of
from app.services.texts import ChunksOf, TextOf, json_parts, json_text, outline
from jobs.errors import NotFoundError
from jobs.store.rows import GenerationRow
from jobs.store.states import GenerationState
from jobs.store.store import Store

CHUNKS_AT_ONCE = 8
BLOCK_CHARACTERS = 2**16
"""The end of a stream repeats the whole text; it is sent in blocks of about this length."""

Event = tuple[str, dict[str, Any]]
"""A name and its values."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a reader of a text that is being written has come; one item per variant."""

    chunks: tuple[int, ...]
    """Chunks that were sent whole."""
    tokens: tuple[int | None, ...]
    """Tokens sent of the chunk after these; None if its beginning was not sent."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How far a reader has come in the end of a stream, which holds the whole text."""

    part: int = 0
    """Part of the JSON; see ``json_parts``."""
    chunk: int = 0
    """Chunk of the text that this part stands for."""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """How far a text was written at some moment. All readers are led up to the same one."""

    rings: int
    has_ended: bool
    finished: Mapping[str, int] | None
    """Variant to chunks that are stored; None if the text is not being written here."""
    partial: Mapping[str, tuple[PartialChunk, int]]
    """Variant to the chunk in the making and how many of its tokens there were."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a stream."""

    next: Place | Ending | None
    """Where the reader is then; None at the end of the stream."""
    head: Head
    """Up to where it could have led."""
    lines: bytes
    """What a reader is sent: server-sent events, or a part of one; empty if there is no news."""
    events: list[Event] = field(default_factory=list)
    """The same, for readers in this program; not for the end of the stream."""


def event_lines(name: str, value: Mapping[str, Any]) -> str:
    """Return a server-sent event."""
    return f"event: {name}\ndata: {json_text(value)}\n\n"


class StreamSteps:
    """Makes the steps of one generation.

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
        self._at_once = max(1, CHUNKS_AT_ONCE // len(self._variants))
        self._end: list[str | TextOf | ChunksOf] | None = None

    @property
    def beginning(self) -> Place:
        """Where every reader begins."""
        count = len(self._variants)
        return Place((0,) * count, (None,) * count)

    def look(self) -> Head:
        """Return how far the text is written now."""
        if self._live is None:
            return Head(0, True, None, {})
        # In this order, what comes in between is seen at the next look.
        rings, has_ended = self._live.bell.rings, self._live.ended.is_set()
        finished, partial = self._live.progress()
        begun = {variant: (chunk, len(chunk.segments)) for variant, chunk in partial.items()}
        return Head(rings, has_ended, finished, begun)

    def step(self, place: Place | Ending, head: Head) -> Step:
        """Return the step from a place towards the head; it reads from the database."""
        if isinstance(place, Ending):
            return self._end_step(place, head)
        walk = _Walk(self._variants, place, is_live=self._live is not None)
        for index, variant, chunk in self._stored(place, head):
            was_written = not chunk["is_prompt"] and index >= self._first_written
            walk.finish(variant, index, chunk, was_written)
        for variant, (begun, num_tokens) in head.partial.items():
            walk.grow(variant, begun, num_tokens)
        lines = "".join(event_lines(name, value) for name, value in walk.events)
        return Step(walk.place(), head, lines.encode(), walk.events)

    def _stored(self, place: Place, head: Head) -> list[tuple[int, str, dict[str, Any]]]:
        """Return finished chunks that were not sent, each with its index and variant."""
        found: list[tuple[int, int, dict[str, Any]]] = []
        for number, variant in enumerate(self._variants):
            sent, limit = place.chunks[number], self._at_once
            if head.finished is not None:
                limit = min(limit, head.finished.get(variant, 0) - sent)
            if limit > 0:
                chunks = self._store.read_chunks(self._id, variant, sent, limit)
                found += [(sent + i, number, chunk) for i, chunk in enumerate(chunks)]
        # Several texts come chunk by chunk, as they are written.
        found.sort(key=lambda item: item[:2])
        return [(index, self._variants[number], chunk) for index, number, chunk in found]

    def _end_step(self, place: Ending, head: Head) -> Step:
        if self._end is None:
            self._end = self._end_parts()
        text, part, chunk = "", place.part, place.chunk
        while part < len(self._end) and len(text) < BLOCK_CHARACTERS:
            piece = self._end[part]
            if isinstance(piece, str):
                text += piece
                part += 1
                continue
            chunks = self._store.read_chunks(self._id, piece.variant, chunk, CHUNKS_AT_ONCE)
            text += _filling(piece, chunks, is_first=chunk == 0)
            chunk += len(chunks)
            if len(chunks) < CHUNKS_AT_ONCE:
                text += '"' if isinstance(piece, TextOf) else "]"
                part, chunk = part + 1, 0
        rest = Ending(part, chunk) if part < len(self._end) else None
        return Step(rest, head, text.encode())

    def _end_parts(self) -> list[str | TextOf | ChunksOf]:
        """Return the events that end the stream, but for the chunks of the text."""
        try:
            row = self._store.get_generation(self._id, with_chunks=False)
        except NotFoundError as error:
            return [event_lines("error", {"detail": str(error)})]
        failed = row.state is GenerationState.FAILED
        error_lines = event_lines("error", {"detail": row.message}) if failed else ""
        return [f"{error_lines}event: done\ndata: ", *json_parts(outline(row)), "\n\n"]


class _Walk:
    """One step: what is sent on the way from a place, and where it leads."""

    def __init__(self, variants: Sequence[str], place: Place, *, is_live: bool) -> None:
        self.events: list[Event] = []
        self._chunks = dict(zip(variants, place.chunks, strict=True))
        self._tokens = dict(zip(variants, place.tokens, strict=True))
        self._is_live = is_live

    def place(self) -> Place:
        return Place(tuple(self._chunks.values()), tuple(self._tokens.values()))

    def finish(self, variant: str, index: int, chunk: dict[str, Any], was_written: bool) -> None:
        """Add the rest of a chunk that is stored."""
        self._begin(variant, index, chunk["is_prompt"], chunk["neighbors"])
        if self._is_live and was_written:
            logprobs = chunk.get("logprobs") or [None] * len(chunk["token_ids"])
            tokens = zip(chunk["token_ids"], chunk["segments"], logprobs, strict=True)
            self._new_tokens(variant, index, list(tokens))
        self._chunks[variant] = index + 1
        self._tokens[variant] = None
        self.events.append(("chunk_end", {"variant": variant, **chunk}))

    def grow(self, variant: str, chunk: PartialChunk, num_tokens: int) -> None:
        """Add the first tokens of the chunk in the making, unless others come before it."""
        if chunk.index != self._chunks[variant]:
            return
        self._begin(variant, chunk.index, chunk.is_prompt, chunk.neighbors_json)
        segments = chunk.segments[:num_tokens]
        # The other lists may be longer by now.
        tokens = zip(chunk.token_ids, segments, chunk.logprobs, strict=False)
        self._new_tokens(variant, chunk.index, list(tokens))

    def _begin(
        self, variant: str, index: int, is_prompt: bool, neighbors: list[dict[str, Any]]
    ) -> None:
        if self._tokens[variant] is not None:
            return
        self._tokens[variant] = 0
        where = {"variant": variant, "index": index}
        self.events.append(("chunk_start", {**where, "is_prompt": is_prompt}))
        if self._is_live and split_variant(variant)[0] == "on":
            self.events.append(("neighbors", {**where, "neighbors": neighbors}))

    def _new_tokens(
        self, variant: str, index: int, tokens: list[tuple[int, tuple[str, int], float | None]]
    ) -> None:
        sent = self._tokens[variant] or 0
        for token_id, (text, run), logprob in tokens[sent:]:
            where = {"variant": variant, "chunk_index": index}
            token = {"token_id": token_id, "text": text, "logprob": logprob, "run": run}
            self.events.append(("token", {**where, **token}))
        self._tokens[variant] = max(sent, len(tokens))


def _filling(
    piece: TextOf | ChunksOf, chunks: Sequence[Mapping[str, Any]], *, is_first: bool
) -> str:
    """Return some chunks as a part of the JSON that a piece stands for."""
    if isinstance(piece, TextOf):
        text = json_text("".join(chunk["text"] for chunk in chunks))[1:-1]
        return f'"{text}' if is_first else text
    items = ", ".join(json_text(chunk) for chunk in chunks)
    return f"[{items}" if is_first else f", {items}" if items else ""
