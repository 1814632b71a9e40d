"""Text that was written before, with the neighbors it was written from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retro.errors import InputError
from retro.generation.events import OutputChunk


@dataclass(frozen=True, slots=True)
class Prefix:
    """The chunks of a text, from the first one on."""

    chunks: tuple[OutputChunk, ...]

    @classmethod
    def from_chunks(cls, chunks: Sequence[Mapping[str, Any]], stop: int | None = None) -> "Prefix":
        """Make a prefix of chunks as they were stored.

        Args:
            chunks: What ``OutputChunk.to_dict`` returned, from the first one on.
            stop: Chunks to keep; None keeps all, an unfinished last one included.

        Raises:
            InputError: There is no chunk to keep, or the chunks lack what is needed.
        """
        kept = tuple(OutputChunk.from_dict(chunk) for chunk in chunks[:stop])
        indices = [chunk.index for chunk in kept]
        if not kept or indices != list(range(len(kept))):
            raise InputError(
                f"A text goes on after at least one chunk, counted from 0 without a gap, got "
                f"{indices}. Generate it again."
            )
        if not all(neighbor.has_tokens for chunk in kept for neighbor in chunk.neighbors):
            raise InputError(
                "A branch needs the tokens of the neighbors that were read, and this text was "
                "written before they were kept. Generate it again."
            )
        return cls(kept)

    @property
    def token_ids(self) -> list[int]:
        """All tokens."""
        return [token for chunk in self.chunks for token in chunk.token_ids]

    @property
    def has_neighbors(self) -> bool:
        """Whether it was written with retrieval."""
        return any(chunk.neighbors for chunk in self.chunks)

    def unfinished(self, chunk_size: int) -> OutputChunk | None:
        """Return the last chunk if it is not complete."""
        last = self.chunks[-1]
        return last if len(self.chunks) > 1 and len(last.token_ids) < chunk_size else None
