"""A generation while it is being written: what is finished, and the chunks in the making.

Finished chunks are in the database; only the unfinished ones are kept here, so the memory a
generation takes does not grow with its length.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from app.services.bell import Bell
from app.services.views.base import Json
from retro.config.sampling import SamplingConfig
from retro.generation.events import ChunkStart, OutputChunk, Segments, ShownNeighbor, TokenEvent
from retro.generation.overlap import RunTracker
from retro.generation.steering import Steering

RETRIEVAL_MODES = {"on": ("on",), "off": ("off",), "both": ("on", "off")}
"""What can be asked for, and the texts that are then written."""


def variant_name(mode: str, sample: int) -> str:
    """Return the name under which one text of a generation is kept."""
    return mode if sample == 0 else f"{mode}:{sample}"


def split_variant(variant: str) -> tuple[str, int]:
    """Return the retrieval mode and the sample that a name stands for."""
    mode, _, sample = variant.partition(":")
    return mode, int(sample) if sample else 0


def variants_of(settings: Mapping[str, Any]) -> list[str]:
    """Return the names of all texts of a generation with these settings."""
    samples = range(int(settings.get("num_samples", 1)))
    return [
        variant_name(mode, sample)
        for mode in RETRIEVAL_MODES[settings["retrieval"]]
        for sample in samples
    ]


@dataclass(kw_only=True, slots=True)
class PartialChunk:
    """A chunk in the making. The writer appends; anyone may read at any time."""

    index: int
    is_prompt: bool
    neighbors: list[ShownNeighbor]
    neighbors_json: list[Json]
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float | None] = field(default_factory=list)
    segments: Segments = field(default_factory=list)
    """Text and run of each token; appended to last, so the other lists are at least as long."""

    @classmethod
    def begin(cls, event: ChunkStart, head: OutputChunk | None) -> "PartialChunk":
        """Begin a chunk; ``head`` is what an earlier generation wrote of it."""
        chunk = cls(
            index=event.index,
            is_prompt=event.is_prompt,
            neighbors=event.neighbors,
            neighbors_json=[neighbor.to_dict() for neighbor in event.neighbors],
        )
        if head is not None:
            chunk.token_ids += head.token_ids
            chunk.logprobs += head.logprobs or [None] * len(head.token_ids)
            chunk.segments += head.segments
        return chunk

    def add(self, event: TokenEvent) -> None:
        """Append a token."""
        self.token_ids.append(event.token_id)
        self.logprobs.append(event.logprob)
        self.segments.append((event.text, event.run))

    def shown(self) -> OutputChunk:
        """Return what a page shows of it: its text so far, without marks of its tokens."""
        segments = list(self.segments)
        return OutputChunk(
            index=self.index,
            token_ids=self.token_ids[: len(segments)],
            segments=segments,
            is_prompt=self.is_prompt,
            logprobs=[],
            other_logprobs=None,
            runs=[],
            neighbors=self.neighbors,
        )

    def ended(self) -> OutputChunk:
        """Return it as a chunk to be stored, for a text that ends here against its will."""
        tracker = RunTracker([neighbor.value_ids for neighbor in self.neighbors])
        for token in self.token_ids:
            tracker.add(token)
        return replace(self.shown(), logprobs=self.logprobs, runs=tracker.runs())


@dataclass(kw_only=True, slots=True)
class LiveGeneration:
    """A generation this process is writing or will write next."""

    id: str
    run_id: str
    run_name: str
    corpus_id: str | None
    corpus_name: str
    """Empty with retrieval off."""
    step: int | None
    """Checkpoint of the run's model; None for a pretrained one."""
    chunk_size: int
    prompt: str
    config: SamplingConfig
    steering: Steering
    modes: tuple[str, ...]
    branch_index: int | None = None
    """First chunk that is not taken over; None for a text that begins with its prompt."""
    finished: dict[str, int] = field(default_factory=dict)
    """Variant to how many of its chunks are finished and stored."""
    partial: dict[str, PartialChunk] = field(default_factory=dict)
    """Variant to the chunk that is being written."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held where ``finished`` and ``partial`` change, and where both are read."""
    started: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    bell: Bell = field(default_factory=Bell)
    """Rings when there is news of the text."""
    end_bell: Bell = field(default_factory=Bell)
    """Rings once, when the text has ended."""
    error: Exception | None = None

    def begin_chunk(self, variant: str, chunk: PartialChunk) -> None:
        """Note that a chunk begins."""
        with self.lock:
            self.partial[variant] = chunk
        self.bell.ring()

    def add_token(self, variant: str, event: TokenEvent) -> None:
        """Append a token to the chunk in the making."""
        self.partial[variant].add(event)
        self.bell.ring()

    def finish_chunk(self, variant: str, index: int) -> None:
        """Note that a chunk is stored."""
        with self.lock:
            self.finished[variant] = index + 1
            self.partial.pop(variant, None)
        self.bell.ring()

    def end(self) -> None:
        """Note that nothing will be added any more."""
        with self.lock:
            self.partial.clear()
        self.ended.set()
        self.bell.ring()
        self.end_bell.ring()

    async def wait(self) -> None:
        """Wait until the text has ended."""
        while not self.ended.is_set():
            await self.end_bell.wait(0)

    def progress(self) -> tuple[dict[str, int], dict[str, PartialChunk]]:
        """Return the finished chunks of each variant and the ones in the making, of one moment."""
        with self.lock:
            return dict(self.finished), dict(self.partial)
