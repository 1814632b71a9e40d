"""The neighbors of the chunks of a text: found by the retriever or given by hand.

Shape suffixes: L chunks, M tokens per chunk, K neighbors, R tokens per retrieved value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from retro.corpus.corpus import Corpus
from retro.data.tokenizer import Tokenizer
from retro.errors import InputError, shown
from retro.generation.events import NeighborSource, ShownNeighbor, uncolored
from retro.generation.reader import NO_TOKEN
from retro.generation.steering import GivenNeighbor, Steering
from retro.generation.text import pieces
from retro.retrieval.retriever import Neighbor


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The neighbors that were found with one chunk, for the chunk after it."""

    neighbors: list[ShownNeighbor]
    """Not compared with any chunk yet."""
    values_KR: NDArray[np.int32] | None
    """Retrieved values as the model reads them; None where there is nothing to read."""


NOTHING = Found(neighbors=[], values_KR=None)


def make_found(neighbors: Sequence[ShownNeighbor], chunk_size: int) -> Found:
    """Put neighbors together with the retrieved values that the model reads."""
    if not neighbors:
        return NOTHING
    values_KR = np.full((len(neighbors), 2 * chunk_size), NO_TOKEN, dtype=np.int32)
    for row, neighbor in enumerate(neighbors):
        own, rest = neighbor.token_ids, neighbor.continuation_token_ids
        values_KR[row, : len(own)] = own
        values_KR[row, chunk_size : chunk_size + len(rest)] = rest
    return Found(neighbors=list(neighbors), values_KR=values_KR)


class NeighborFinder:
    """Finds neighbors in a corpus, as a person steers it.

    Args:
        corpus: Where to look.
        tokenizer: That of the model.
        chunk_size: Tokens per chunk of the model.
        num_neighbors: Neighbors per chunk.
        steering: What is left out, and what is given by hand.
        device: Where keys are computed.

    Raises:
        InputError: Something is left out that is not in the corpus.
    """

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: Tokenizer,
        chunk_size: int,
        num_neighbors: int,
        steering: Steering,
        device: torch.device,
    ) -> None:
        self._corpus = corpus
        self._tokenizer = tokenizer
        self._size = chunk_size
        self._is_own = (
            corpus.tokenizer.fingerprint == tokenizer.fingerprint
            and corpus.database.chunk_size == chunk_size
        )
        """Whether the corpus was cut for the model; else texts go between them."""
        self._num_neighbors = num_neighbors
        self._steering = steering
        self._device = device
        rows = {record.path: row for row, record in enumerate(corpus.database.documents)}
        for path in steering.exclude_documents:
            if path not in rows:
                raise InputError(
                    f"exclude_documents must name documents of the corpus, got {shown(path)}. "
                    f"Give the relative path as it stands beside a neighbor."
                )
        self._exclude_documents = [rows[path] for path in steering.exclude_documents]
        for chunk_id in steering.exclude_chunks:
            self._check_chunk(chunk_id)

    def find(self, chunks_LM: NDArray[np.int32], reader_indices: Sequence[int]) -> list[Found]:
        """Return the neighbors of complete chunks.

        Args:
            chunks_LM: Token ids, ``NO_TOKEN`` on the left where a chunk lacks its start.
            reader_indices: Position of the chunk that will read those of each.
        """
        found: list[Found | None] = [
            self._given(self._steering.given[index]) if index in self._steering.given else None
            for index in reader_indices
        ]
        wanted = [row for row, item in enumerate(found) if item is None]
        if wanted:
            for row, item in zip(wanted, self._search(chunks_LM[wanted]), strict=True):
                found[row] = item
        return [item or NOTHING for item in found]

    def _search(self, chunks_LM: NDArray[np.int32]) -> list[Found]:
        retriever = self._corpus.retriever(self._device)
        ids_LK, scores_LK = retriever.search_chunks(
            self._queries(chunks_LM),
            self._num_neighbors,
            exclude_documents=self._exclude_documents,
            exclude_chunks=self._steering.exclude_chunks,
        )
        return [
            self._make(
                [
                    self._shown(neighbor, "retrieved", neighbor.score)
                    for neighbor in retriever.describe(ids_K, scores_K)
                ]
            )
            for ids_K, scores_K in zip(ids_LK, scores_LK, strict=True)
        ]

    def _queries(self, chunks_LM: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return chunks of the text in the tokens of the corpus."""
        pad_id = self._corpus.database.pad_id
        if self._is_own:
            return np.where(chunks_LM == NO_TOKEN, pad_id, chunks_LM)
        rows = [
            self._corpus.tokenizer.encode(self._tokenizer.decode(row[row != NO_TOKEN].tolist()))
            for row in chunks_LM
        ]
        queries = np.full((len(rows), max(1, *map(len, rows))), pad_id, dtype=np.int32)
        for query, row in zip(queries, rows, strict=True):
            query[: len(row)] = row
        return queries

    def _given(self, given: Sequence[GivenNeighbor]) -> Found:
        neighbors = []
        for rank, item in enumerate(given, start=1):
            place = None if item.chunk_id is None else self._place(item.chunk_id, rank)
            if item.text is None:
                assert place is not None, "a given neighbor has a chunk or a text"
                neighbors.append(self._shown(place, "chosen", None))
            else:
                neighbors.append(self._by_hand(item, place, rank))
        return self._make(neighbors)

    def _make(self, neighbors: Sequence[ShownNeighbor]) -> Found:
        return make_found(neighbors, self._size)

    def open(self) -> None:
        """Load encoder and index now instead of with the first search."""
        self._corpus.retriever(self._device).open()

    def _check_chunk(self, chunk_id: int) -> None:
        num_chunks = self._corpus.database.num_chunks
        if chunk_id >= num_chunks:
            raise InputError(
                f"chunk_id must be between 0 and {num_chunks - 1}, got {chunk_id}. "
                f"Choose a chunk of the corpus that is read."
            )

    def _place(self, chunk_id: int, rank: int) -> Neighbor:
        self._check_chunk(chunk_id)
        described = self._corpus.retriever(self._device).describe(
            np.array([chunk_id]), np.array([0.0])
        )
        values = {name: getattr(described[0], name) for name in Neighbor.__slots__}
        return Neighbor(**{**values, "rank": rank})

    def _shown(
        self, place: Neighbor, source: NeighborSource, distance: float | None
    ) -> ShownNeighbor:
        if not self._is_own:
            own, rest = self._encoded(place.text, place.continuation)
            parts = pieces([*own, *rest], self._tokenizer)
            return _neighbor(
                self._tokenizer, place.rank, source, place, distance, own, rest,
                "".join(parts[: len(own)]), "".join(parts[len(own) :]),
            )  # fmt: skip
        database = self._corpus.database
        continuation = int(database.continuation_ids(np.array(place.chunk_id)))
        own = self._chunk_tokens(place.chunk_id)
        rest = [] if continuation < 0 else self._chunk_tokens(continuation)
        return _neighbor(
            self._tokenizer, place.rank, source, place, distance, own, rest,
            place.text, place.continuation,
        )  # fmt: skip

    def _encoded(self, text: str, continuation: str) -> tuple[list[int], list[int]]:
        """Return a chunk of the corpus and what follows in the model's tokens, cut to two chunks.

        A chunk that is longer than the model's goes on in the continuation's place.
        """
        own = self._tokenizer.encode(text)
        rest = own[self._size :] + self._tokenizer.encode(continuation)
        return own[: self._size], rest[: self._size]

    def _chunk_tokens(self, chunk_id: int) -> list[int]:
        row: list[int] = self._corpus.database.chunks_CM[chunk_id].tolist()
        return [token for token in row if token != self._corpus.database.pad_id]

    def _by_hand(self, item: GivenNeighbor, place: Neighbor | None, rank: int) -> ShownNeighbor:
        size = self._size
        own = self._tokenizer.encode(item.text or "")
        rest = self._tokenizer.encode(item.continuation)
        text, continuation = item.text or "", item.continuation
        if not rest and len(own) > size:
            # A longer text goes on in the continuation's place.
            own, rest = own[:size], own[size:]
            parts = pieces([*own, *rest], self._tokenizer)
            text, continuation = "".join(parts[:size]), "".join(parts[size:])
        for name, tokens in (("text", own), ("continuation", rest)):
            if len(tokens) > size:
                raise InputError(
                    f"The {name} of a neighbor may have at most {size} tokens, the model's "
                    f"chunk size, got {len(tokens)}. Shorten it."
                )
        source: NeighborSource = "written" if place is None else "edited"
        return _neighbor(self._tokenizer, rank, source, place, None, own, rest, text, continuation)


def _neighbor(
    tokenizer: Tokenizer,
    rank: int,
    source: NeighborSource,
    place: Neighbor | None,
    distance: float | None,
    own: list[int],
    rest: list[int],
    text: str,
    continuation: str,
) -> ShownNeighbor:
    parts = pieces([*own, *rest], tokenizer)
    return ShownNeighbor(
        rank=rank,
        source=source,
        chunk_id=None if place is None else place.chunk_id,
        document="" if place is None else place.document,
        document_id=None if place is None else place.document_id,
        start=None if place is None else place.start,
        end=None if place is None else place.end,
        chunk_index=None if place is None else place.chunk_index,
        num_chunks=None if place is None else place.num_chunks,
        distance=distance,
        text=text,
        continuation=continuation,
        token_ids=own,
        continuation_token_ids=rest,
        text_segments=uncolored(parts[: len(own)]),
        continuation_segments=uncolored(parts[len(own) :]),
    )
