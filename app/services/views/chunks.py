"""The chunks of a text, with the neighbors that they were written from.

What texts of earlier versions lack is not required.
"""

from app.services.views.base import View, left_out
from retro.generation.events import NeighborSource

Segment = tuple[str, int]
"""The text of a token and a length in tokens."""


class Place(View):
    """Where a shared run occurs."""

    rank: int
    """Rank of the neighbor that has it."""
    start: int
    """Position of its first token in that neighbor, counted from 0 over its text and then its
    continuation."""


class SharedRun(View):
    """Tokens in a row that a neighbor has as well, and that cannot be made longer."""

    start: int
    """Position of its first token in the chunk, counted from 0."""
    end: int
    """Position of the token after its last one."""
    places: list[Place]
    """Where neighbors have it; the first 8 places."""


class ReadNeighbor(View):
    """A neighbor that a chunk was written from."""

    rank: int
    """Position among the neighbors, counted from 1; the nearest, or the first given, is first."""
    source: NeighborSource = left_out()
    """``retrieved`` by the retriever, ``chosen`` by hand from the corpus, ``edited`` by hand, or
    ``written`` by hand."""
    chunk_id: int | None
    """Id of the chunk in the corpus, counted from 0; null, like the other facts of its place, for
    one written by hand."""
    document: str
    """Path of its document; empty for one written by hand."""
    document_id: int | None
    """Position of its document among those of the build, counted from 0."""
    start: int | None
    """Position of the chunk's first character in the document, counted from 0."""
    end: int | None
    """Position of the character after its last one."""
    chunk_index: int | None
    """Position of the chunk in its document, counted from 0."""
    num_chunks: int | None
    """Chunks of the document."""
    distance: float | None
    """Squared L2 distance between the keys, lower is nearer; null unless it was retrieved."""
    text: str
    """Its text."""
    continuation: str
    """What follows; empty where there is nothing."""
    token_ids: list[int] = left_out()
    """Tokens of the text, as the model read them."""
    continuation_token_ids: list[int] = left_out()
    """Tokens of the continuation, as the model read them."""
    text_segments: list[Segment]
    """Text of each token, and the length in tokens of the longest run that ends there and occurs
    in the chunk; 0 where there is none."""
    continuation_segments: list[Segment]
    """The same for the tokens of the continuation."""
    attention_share: float | None = left_out()
    """Share of the chunk's cross-attention that it got, over layers, heads and tokens, from 0 to
    1; null where the chunk did not read it."""
    continuation_share: float | None = left_out()
    """The part of that share that fell on the continuation."""


class Chunk(View):
    """A chunk of a text: of its prompt, or written."""

    index: int
    """Position in the text, counted from 0; the chunks of the prompt come first."""
    text: str
    """Its text."""
    token_ids: list[int]
    """Its tokens. The first chunk may have fewer than others, and so may the last."""
    segments: list[Segment]
    """Text of each token, and the length in tokens of the longest run that ends there and occurs
    in a neighbor; 0 where there is none."""
    is_prompt: bool
    """Whether it was read and not written."""
    logprobs: list[float | None] = left_out()
    """Log-probability of each token in nats, before temperature and filters; null where it is not
    known, as for the first token of the text."""
    other_logprobs: list[float | None] | None = left_out()
    """The same with retrieval the other way; null unless it was written with retrieval "both"."""
    mean_nll: float | None
    """Mean negative log-probability of its tokens, in nats per token; null where none is known."""
    copied_fraction: float
    """Share of its tokens in runs of five or more that occur in its neighbors, from 0 to 1."""
    runs: list[SharedRun] = left_out()
    """Runs of its tokens that occur in its neighbors, by position."""
    neighbors: list[ReadNeighbor]
    """What it was written from: retrieved with the chunk before it, or given by hand. The first
    chunk has none, and with retrieval off none has."""
