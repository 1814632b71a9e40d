"""Events of a generation while it writes, and what it leaves behind for every chunk."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from retro.generation.overlap import SharedRun, copied_fraction

FinishReason = Literal["length", "end", "stop", "stopped"]
"""The length was reached, the end token was drawn, a stop string appeared, a person stopped it."""
NeighborSource = Literal["retrieved", "chosen", "edited", "written"]
"""Found by the retriever; a chunk chosen by hand; one with a changed text; written by hand."""
Segments = list[tuple[str, int]]
"""Pieces of a text, one per token, each with the length of the run that ends there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownNeighbor:
    """A neighbor: where it comes from, and what it shares with the chunk that reads it."""

    rank: int
    """Position among the neighbors, from 1."""
    source: NeighborSource
    chunk_id: int | None
    """Row in the retrieval database; None for one written by hand, like the next fields."""
    document: str
    """Relative path of its document, empty for one written by hand."""
    document_id: int | None
    start: int | None
    """First character of the chunk in its document."""
    end: int | None
    """Character after its last one."""
    chunk_index: int | None
    """Position of the chunk in its document, from 0."""
    num_chunks: int | None
    """Chunks of the document."""
    distance: float | None
    """Squared L2 distance between the keys; None unless it was retrieved."""
    text: str
    continuation: str
    """What follows in its document; empty where there is nothing."""
    token_ids: list[int]
    """What the model read of the text; its retrieved value is this and the continuation's."""
    continuation_token_ids: list[int]
    text_segments: Segments
    continuation_segments: Segments
    attention_share: float | None = None
    """Share of the chunk's cross-attention mass, over layers, heads and tokens."""
    continuation_share: float | None = None
    """The part of that share which fell on the continuation."""

    @property
    def value_ids(self) -> list[int]:
        """Token ids of the retrieved value, without padding."""
        return self.token_ids + self.continuation_token_ids

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = asdict(self)
        for name in ("text_segments", "continuation_segments"):
            values[name] = [list(piece) for piece in values[name]]
        return values


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputChunk:
    """One chunk of prompt or output."""

    index: int
    """Position in the text, counted from 0; the prompt's chunks come first."""
    token_ids: list[int]
    segments: Segments
    """One piece of text per token; the run occurs in the neighbors."""
    is_prompt: bool
    logprobs: list[float | None]
    """Log-probability of each token in nats, before temperature and filters; None for the first
    token of the text."""
    other_logprobs: list[float | None] | None
    """The same with retrieval switched the other way; None where that was not asked for."""
    runs: list[SharedRun]
    """Runs of tokens that occur in the neighbors, and where."""
    neighbors: list[ShownNeighbor]
    """Those that conditioned this chunk: retrieved with the chunk before. The first has none."""

    @property
    def text(self) -> str:
        """Text of the chunk."""
        return "".join(text for text, _ in self.segments)

    @property
    def mean_nll(self) -> float | None:
        """Mean negative log-probability of the tokens in nats."""
        known = [value for value in self.logprobs if value is not None]
        return -sum(known) / len(known) if known else None

    @property
    def copied_fraction(self) -> float:
        """Share of tokens in runs of five or more that occur in the neighbors."""
        return copied_fraction([run for _, run in self.segments])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "index": self.index,
            "text": self.text,
            "token_ids": self.token_ids,
            "segments": [list(piece) for piece in self.segments],
            "is_prompt": self.is_prompt,
            "logprobs": self.logprobs,
            "other_logprobs": self.other_logprobs,
            "mean_nll": self.mean_nll,
            "copied_fraction": self.copied_fraction,
            "runs": [run.to_dict() for run in self.runs],
            "neighbors": [neighbor.to_dict() for neighbor in self.neighbors],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkStart:
    """A chunk begins; its neighbors are known."""

    sample: int
    index: int
    is_prompt: bool
    neighbors: list[ShownNeighbor]


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenEvent:
    """A token was written."""

    sample: int
    chunk_index: int
    token_id: int
    text: str
    """May be empty while a character of several bytes is incomplete."""
    logprob: float
    """Log-probability in nats, before temperature and filters."""
    run: int
    """Length of the longest run ending here that occurs in the chunk's neighbors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkEvent:
    """A chunk is finished, or is the last and incomplete."""

    sample: int
    chunk: OutputChunk


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishEvent:
    """Nothing more will be written in this sample."""

    sample: int
    reason: FinishReason
    num_tokens: int
    """Tokens written, those of the prompt not counted."""
    seconds: float
    slid: bool
    """Whether the text outgrew the model's window, so that it forgot the beginning."""


Event = ChunkStart | TokenEvent | ChunkEvent | FinishEvent
