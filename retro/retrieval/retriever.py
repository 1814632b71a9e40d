"""The retriever: embedder, index and database together.

Encoder and index are loaded when the first search needs them, so describing chunks is
cheap and needs neither torch nor FAISS.

Shape suffixes: N chunks or queries, M tokens per chunk, K neighbors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro.config.checks import MOST_NEIGHBORS
from retro.data.database import RetrievalDatabase
from retro.data.tokenizer import Tokenizer
from retro.errors import ConfigError, InputError, ShapeError
from retro.retrieval.scores import ChunkSearch, Score


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbor:
    """One chunk that was found, and where it comes from."""

    rank: int
    """Position among the neighbors, from 1."""

    chunk_id: int
    """Row in the retrieval database."""

    document: str
    """Relative path of its document."""

    document_id: int
    """Row of its document."""

    start: int
    """First character of the chunk in its document."""

    end: int
    """Character after the last one of the chunk."""

    score: float
    """How near it is, see ``score_kind``."""

    score_kind: Score
    """What the score means."""

    text: str
    """The chunk."""

    continuation: str
    """The chunk after it in its document; empty where there is none."""

    chunk_index: int
    """Position of the chunk in its document, from 0."""

    num_chunks: int
    """Chunks of the document."""


class Retriever:
    """Finds chunks and says where they come from.

    Args:
        database: The chunks.
        tokenizer: Their tokenizer.
        score: What the search orders chunks by.
        open_search: Loads what the search needs, at the first one.
    """

    def __init__(
        self,
        database: RetrievalDatabase,
        tokenizer: Tokenizer,
        score: Score,
        open_search: Callable[[], ChunkSearch],
    ) -> None:
        self.database = database
        self.tokenizer = tokenizer
        self.score = score
        self._open_search = open_search
        self._search: ChunkSearch | None = None
        # FAISS on a GPU serves one search at a time, and loading must happen once.
        self._lock = Lock()

    def search_chunks(
        self,
        chunks_NM: NDArray[Any],
        k: int,
        exclude_documents: Sequence[int] = (),
        exclude_chunks: Sequence[int] = (),
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the nearest retrievable chunks.

        Args:
            chunks_NM: Token ids, (chunks, tokens), padded where a chunk is shorter.
            k: Neighbors per chunk.
            exclude_documents: Ids of documents whose chunks are not found.
            exclude_chunks: Ids of chunks whose text is in no retrieved value: the chunk before
                is not found either, because its continuation would bring it.

        Returns:
            Ids, (chunks, k), -1 where there is no further one, and their scores,
            ``score.missing`` there.

        Raises:
            ConfigError: ``k`` is outside its range.
            ShapeError: The chunks have another number of dimensions.
        """
        if not 1 <= k <= MOST_NEIGHBORS:
            raise ConfigError(f"k must be between 1 and {MOST_NEIGHBORS}, got {k}.")
        if chunks_NM.ndim != 2:
            raise ShapeError(f"Chunks must have the shape (chunks, tokens), got {chunks_NM.shape}.")
        ranges = [self.database.document_chunks(document)[0] for document in exclude_documents]
        ranges += [self._values_with(id) for id in exclude_chunks]
        excluded_X2 = _disjoint(ranges)
        with self._lock:
            return self._opened().nearest(chunks_NM.astype(np.int32), k, excluded_X2)

    def open(self) -> None:
        """Load encoder and index now instead of with the first search."""
        with self._lock:
            self._opened()

    def _opened(self) -> ChunkSearch:
        if self._search is None:
            self._search = self._open_search()
            assert self._search.score == self.score, "a search that orders otherwise"
        return self._search

    def _values_with(self, chunk_id: int) -> range:
        """Return the retrievable chunks whose retrieved value holds a chunk."""
        if not 0 <= chunk_id < self.database.num_retrievable:
            return range(0)
        before = max(0, chunk_id - 1)
        brings = int(self.database.continuation_ids(np.array(before))) == chunk_id
        return range(before if brings else chunk_id, chunk_id + 1)

    def search_text(self, text: str, k: int) -> list[Neighbor]:
        """Find the retrievable chunks that are nearest to a text.

        Args:
            text: Of any length; an encoder reads no more than its longest input.
            k: Most neighbors to return.

        Raises:
            InputError: The text is empty or cannot be encoded.
            ConfigError: ``k`` is outside its range.
        """
        if not text.strip():
            raise InputError("A search needs some text, got none. Enter a few words.")
        ids = self.tokenizer.encode(text)
        ids_NK, scores_NK = self.search_chunks(np.array([ids], dtype=np.int32), k)
        return self.describe(ids_NK[0], scores_NK[0])

    def describe(self, ids_K: NDArray[Any], scores_K: NDArray[Any]) -> list[Neighbor]:
        """Return where chunks come from, in the given order; -1 is left out."""
        found = [
            (int(id), float(score)) for id, score in zip(ids_K, scores_K, strict=True) if id >= 0
        ]
        return [self._describe(rank, id, score) for rank, (id, score) in enumerate(found, start=1)]

    def _describe(self, rank: int, chunk_id: int, score: float) -> Neighbor:
        database = self.database
        document_id = int(database.documents_C[chunk_id])
        start, end = database.spans_C2[chunk_id].tolist()
        continuation = int(database.continuation_ids(np.array(chunk_id)))
        chunk_index, num_chunks = database.chunk_position(chunk_id)
        return Neighbor(
            rank=rank,
            chunk_id=chunk_id,
            document=database.documents[document_id].path,
            document_id=document_id,
            start=start,
            end=end,
            score=score,
            score_kind=self.score,
            text=self.chunk_text(chunk_id),
            continuation="" if continuation < 0 else self.chunk_text(continuation),
            chunk_index=chunk_index,
            num_chunks=num_chunks,
        )

    def chunk_text(self, chunk_id: int) -> str:
        """Return the characters of the document that the chunk's span covers.

        The tokens hold the whole text, so the document itself is not read: a character
        cut by a border is put together from both chunks, and belongs to the first.
        """
        following = chunk_id + 1
        database = self.database
        text = self._chunk_bytes(chunk_id)
        while (
            following < database.num_chunks
            and database.documents_C[following] == database.documents_C[chunk_id]
        ):
            rest = self._chunk_bytes(following)
            head = rest[: len(rest) - len(_without_head(rest))]
            text += head
            if len(head) < len(rest):
                break
            following += 1
        if chunk_id > 0 and database.documents_C[chunk_id - 1] == database.documents_C[chunk_id]:
            text = _without_head(text)
        return text.decode("utf-8", errors="replace")

    def _chunk_bytes(self, chunk_id: int) -> bytes:
        ids = self.database.chunks_CM[chunk_id].tolist()
        return b"".join([self.tokenizer.token_bytes(id) for id in ids])


def _disjoint(ranges: Sequence[range]) -> NDArray[np.int64]:
    """Return the same ids as ranges that do not overlap, (ranges, 2)."""
    merged: list[tuple[int, int]] = []
    for ids in sorted(ranges, key=lambda ids: ids.start):
        if merged and ids.start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], ids.stop))
        elif len(ids) > 0:
            merged.append((ids.start, ids.stop))
    return np.array(merged, np.int64).reshape(-1, 2)


CONTINUATION_BYTES = bytes(range(0x80, 0xC0))


def _without_head(data: bytes) -> bytes:
    """Return UTF-8 without the bytes of a character that began before it."""
    return data.lstrip(CONTINUATION_BYTES)
