"""Events of a generation while it writes, and what it leaves behind for every chunk."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from retro.generation.overlap import SharedRun, copied_fraction

FinishReason = Literal["length", "end", "stop", "stopped"]
"""The length was reached, the end token was drawn, a stop string appeared, a person stopped it."""
NeighborSource = Literal["retrieved", "chosen", "edited", "written"]
"""Found by the retriever; a chunk chosen by hand; one with a changed text; written by hand."""
Segments = list[tuple[str, int]]
"""Pieces of a text, one per token, each with the length of the run that ends there."""
NOT_KEPT: Mapping[str, Any] = {
    "source": "retrieved",
    "document_id": None,
    "token_ids": [],
    "continuation_token_ids": [],
    "text_segments": [],
    "continuation_segments": [],
}
"""Fields of neighbors that earlier versions did not keep, and what stands for them."""


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

    @property
    def has_tokens(self) -> bool:
        """Whether its tokens are known; earlier versions did not keep them."""
        return bool(self.token_ids) or not self.text

    @property
    def shares(self) -> tuple[float, float]:
        """Shares of attention of its own text and of its continuation; 0 where not known."""
        after = self.continuation_share or 0.0
        return (self.attention_share or 0.0) - after, after

    def unread(self) -> "ShownNeighbor":
        """Return it as it was before a chunk was written from it."""
        return replace(
            self,
            text_segments=uncolored([text for text, _ in self.text_segments]),
            continuation_segments=uncolored([text for text, _ in self.continuation_segments]),
            attention_share=None,
            continuation_share=None,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ShownNeighbor":
        """Undo ``to_dict``; pairs may have become lists in JSON."""
        known = {name: values[name] for name in cls.__slots__ if name in values}
        return cls(**{**NOT_KEPT, **known})

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
    token of the text. Empty where an earlier version did not keep them."""
    other_logprobs: list[float | None] | None
    """The same with retrieval switched the other way; None where that was not asked for."""
    runs: list[SharedRun]
    """Runs of tokens that occur in the neighbors, and where."""
    neighbors: list[ShownNeighbor]
    """Those that conditioned this chunk: retrieved with the chunk before. The first has none."""
    stored_nll: float | None = None
    """What ``mean_nll`` was where the log-probabilities were not kept."""

    @property
    def text(self) -> str:
        """Text of the chunk."""
        return "".join(text for text, _ in self.segments)

    @property
    def mean_nll(self) -> float | None:
        """Mean negative log-probability of the tokens in nats."""
        known = [value for value in self.logprobs if value is not None]
        return -sum(known) / len(known) if known else self.stored_nll

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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "OutputChunk":
        """Undo ``to_dict``; pairs may have become lists in JSON."""
        return cls(
            index=values["index"],
            token_ids=values["token_ids"],
            segments=values["segments"],
            is_prompt=values["is_prompt"],
            logprobs=values.get("logprobs") or [],
            other_logprobs=values.get("other_logprobs"),
            runs=[SharedRun.from_dict(run) for run in values.get("runs") or ()],
            neighbors=[ShownNeighbor.from_dict(one) for one in values["neighbors"]],
            stored_nll=values.get("mean_nll"),
        )


def uncolored(parts: Sequence[str]) -> Segments:
    """Return pieces of text that were compared with nothing yet."""
    return [(part, 0) for part in parts]


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
