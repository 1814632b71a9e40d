"""Text that was written before, with the neighbors it was written from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retro.errors import InputError
from retro.generation.events import ShownNeighbor
from retro.generation.finder import stored_neighbors


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefixChunk:
    """One chunk of it."""

    token_ids: list[int]
    is_prompt: bool
    logprobs: list[float | None]
    other_logprobs: list[float | None] | None
    neighbors: list[ShownNeighbor]
    """Those it was written from."""
    shares: list[tuple[float, float]]
    """Share of its attention that each neighbor's text and continuation got."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """The chunks of a text, from the first one on."""

    chunks: tuple[PrefixChunk, ...]

    @classmethod
    def from_chunks(cls, chunks: Sequence[Mapping[str, Any]], stop: int | None = None) -> "Prefix":
        """Make a prefix of chunks as they were stored.

        Args:
            chunks: What ``OutputChunk.to_dict`` returned, from the first one on.
            stop: Chunks to keep; None keeps all, an unfinished last one included.

        Raises:
            InputError: There is no chunk to keep, or the chunks lack what is needed.
        """
        kept = chunks[:stop]
        indices = [chunk["index"] for chunk in kept]
        if not kept or indices != list(range(len(kept))):
            raise InputError(
                f"A text goes on after at least one chunk, counted from 0 without a gap, got "
                f"{indices}. Generate it again."
            )
        return cls(tuple(_chunk(chunk) for chunk in kept))

    @property
    def token_ids(self) -> list[int]:
        """All tokens."""
        return [token for chunk in self.chunks for token in chunk.token_ids]

    @property
    def has_neighbors(self) -> bool:
        """Whether it was written with retrieval."""
        return any(chunk.neighbors for chunk in self.chunks)

    def unfinished(self, chunk_size: int) -> PrefixChunk | None:
        """Return the last chunk if it is not complete."""
        last = self.chunks[-1]
        return last if len(self.chunks) > 1 and len(last.token_ids) < chunk_size else None


def _chunk(chunk: Mapping[str, Any]) -> PrefixChunk:
    neighbors = stored_neighbors(chunk["neighbors"])
    tokens: list[int] = list(chunk["token_ids"])
    return PrefixChunk(
        token_ids=tokens,
        is_prompt=chunk["is_prompt"],
        logprobs=list(chunk.get("logprobs") or [None] * len(tokens)),
        other_logprobs=chunk.get("other_logprobs"),
        neighbors=neighbors,
        shares=[_share(item) for item in chunk["neighbors"]],
    )


def _share(neighbor: Mapping[str, Any]) -> tuple[float, float]:
    whole, continuation = neighbor.get("attention_share"), neighbor.get("continuation_share")
    return (whole or 0.0) - (continuation or 0.0), continuation or 0.0
