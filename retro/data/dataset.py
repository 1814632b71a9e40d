"""Training batches: pieces of documents with the retrieved values of their chunks.

Shape suffixes: B rows of a batch, T tokens, L chunks of a row, C complete chunks of a whole
batch, M tokens per chunk, K neighbors per chunk, R tokens per retrieved value, P pieces, N any
number.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from retro.data.database import NO_NEIGHBOR, RetrievalDatabase
from retro.data.packing import one_per_row, pack_pieces
from retro.errors import ConfigError, InputError

Split = Literal["train", "validation"]
UNKNOWN_LABEL = -1
BATCHES_PER_POOL = 64
"""Batches whose rows are sorted by length together, so that those of a batch are equally long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Rows of tokens for one step."""

    seq_BT: NDArray[np.int64]
    """Token ids; any behind the end of a row."""

    labels_BT: NDArray[np.int64]
    """The token after each; the end token after a document."""

    counted_BT: NDArray[np.bool_]
    """True where the label is known; elsewhere any id stands."""

    retrieved: NDArray[np.int64]
    """Retrieved values. One piece per row: (batch, chunks, neighbors, 2 * chunk_size). Packed:
    (chunks, neighbors, 2 * chunk_size)."""

    exists: NDArray[np.bool_]
    """True where a retrieved value has a token, of the same shape; elsewhere any id stands."""

    pieces_BT: NDArray[np.int64] | None
    """Number of the piece each token belongs to, if some row holds several."""

    chunk_starts_C: NDArray[np.int64] | None
    """First token of each complete chunk as ``row * tokens + token``, if rows are packed."""

    num_labels: int
    """Labels that count."""


class SequenceDataset:
    """Rows of at most ``sequence_length`` tokens, from the documents of one split.

    Documents are cut into pieces of ``sequence_length`` tokens; a shorter piece is the end of its
    document. A row holds one piece, or, packed, several. After the last token of a document
    stands the end token as label, so the model learns where texts end.
    """

    def __init__(
        self,
        database: RetrievalDatabase,
        neighbors_CK: NDArray[np.int32],
        *,
        split: Split,
        sequence_length: int,
        num_neighbors: int,
        packing: bool = True,
    ) -> None:
        if sequence_length % database.chunk_size != 0:
            raise ConfigError(
                f"sequence_length must be a multiple of the corpus's chunk size of "
                f"{database.chunk_size} tokens, got {sequence_length}."
            )
        if num_neighbors > neighbors_CK.shape[1]:
            raise ConfigError(
                f"num_neighbors must be at most the {neighbors_CK.shape[1]} that the corpus "
                f"stores for each chunk, got {num_neighbors}. Rebuild the corpus with more."
            )
        self.database = database
        # Where no token is, an id must stand that every vocabulary has.
        self.filler = max(0, database.pad_id)
        self.neighbors_CK = neighbors_CK
        self.num_neighbors = num_neighbors
        most_chunks = sequence_length // database.chunk_size
        self.starts_P = database.sequence_starts(most_chunks, split)
        if len(self.starts_P) == 0:
            raise InputError(
                f"The corpus has no {split} text to cut sequences from. Add documents and "
                f"build it again."
            )
        self.num_chunks_P = self._count_chunks(split)
        last_P = self.starts_P + self.num_chunks_P - 1
        in_last_P = (database.chunks_CM[last_P] != database.pad_id).sum(1)
        self.lengths_P = (self.num_chunks_P - 1) * database.chunk_size + in_last_P
        self.last_labels_P = self._last_labels(last_P)
        if packing:
            self.rows = pack_pieces(self.lengths_P, sequence_length)
        else:
            self.rows = one_per_row(len(self.starts_P))
        lengths_N = self.lengths_P[self.rows.pieces_N]
        self.row_lengths_N = np.add.reduceat(lengths_N, self.rows.offsets[:-1])
        self.is_packed_N = self.rows.counts > 1

    def __len__(self) -> int:
        return len(self.rows)

    def _count_chunks(self, split: Split) -> NDArray[np.int64]:
        """Return the chunks of each piece: those before the next piece, as pieces touch."""
        database = self.database
        stop = database.num_retrievable if split == "train" else database.num_chunks
        count_P: NDArray[np.int64] = np.diff(self.starts_P, append=stop)
        return count_P

    def _last_labels(self, last_P: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the token after each piece: the end token at the end of a document, -1 unknown."""
        database = self.database
        next_P = np.minimum(last_P + 1, database.num_chunks - 1)
        same_P = (next_P > last_P) & (database.documents_C[next_P] == database.documents_C[last_P])
        label_P = np.where(same_P, database.chunks_CM[next_P, 0], database.eos_id)
        # Held-out text is no label of training text.
        border_P = same_P & (next_P == database.num_retrievable)
        return np.where(border_P, UNKNOWN_LABEL, label_P).astype(np.int64)

    def batch(self, rows_B: NDArray[Any]) -> Batch:
        """Return rows and the retrieved values of their complete chunks.

        Args:
            rows_B: Numbers of the rows, counted from 0.

        Returns:
            A batch that is as wide as its longest row.
        """
        database, size = self.database, self.database.chunk_size
        width = int(self.row_lengths_N[rows_B].max())
        seq_BT = np.full((len(rows_B), width), self.filler, dtype=np.int64)
        labels_BT = np.full_like(seq_BT, UNKNOWN_LABEL)
        # Padding comes after the pieces of its row, so its number must be the highest.
        pieces_BT = np.full((len(rows_B), width), len(self.starts_P), dtype=np.int64)
        starts: list[NDArray[np.int64]] = []
        chunks: list[NDArray[np.int64]] = []
        for row, number in enumerate(rows_B):
            place = 0
            for piece in self.rows[number]:
                length, first = int(self.lengths_P[piece]), int(self.starts_P[piece])
                stop = first + int(self.num_chunks_P[piece])
                tokens_T = database.chunks_CM[first:stop].reshape(-1)[:length]
                seq_BT[row, place : place + length] = tokens_T
                labels_BT[row, place : place + length - 1] = tokens_T[1:]
                labels_BT[row, place + length - 1] = self.last_labels_P[piece]
                pieces_BT[row, place : place + length] = piece
                complete = np.arange(length // size)
                starts.append(row * width + place + complete * size)
                chunks.append(first + complete)
                place += length
        start_C, chunk_C = np.concatenate(starts), np.concatenate(chunks)
        is_packed = bool(self.is_packed_N[rows_B].any())
        if not is_packed:
            chunk_C = _by_row(start_C, chunk_C, len(rows_B), width, size)
        counted_BT = labels_BT != UNKNOWN_LABEL
        retrieved, exists = self._retrieved(chunk_C)
        return Batch(
            seq_BT=seq_BT,
            labels_BT=np.where(counted_BT, labels_BT, self.filler),
            counted_BT=counted_BT,
            retrieved=retrieved,
            exists=exists,
            pieces_BT=pieces_BT if is_packed else None,
            chunk_starts_C=start_C if is_packed else None,
            num_labels=int(counted_BT.sum()),
        )

    def _retrieved(self, chunks: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the retrieved values of chunks, and where they have tokens; -1 has none."""
        neighbors = self.neighbors_CK[np.maximum(chunks, 0)][..., : self.num_neighbors]
        neighbors = np.where(chunks[..., None] >= 0, neighbors, NO_NEIGHBOR)
        values = self.database.retrieved_values(neighbors).astype(np.int64)
        exists: NDArray[np.bool_] = values != self.database.pad_id
        return np.where(exists, values, self.filler), exists


def _by_row(
    start_C: NDArray[np.int64], chunk_C: NDArray[np.int64], num_rows: int, width: int, size: int
) -> NDArray[np.int64]:
    """Return the chunk ids by row and place, (rows, chunks), -1 where a row is shorter."""
    chunk_BL = np.full((num_rows, width // size), NO_NEIGHBOR, dtype=np.int64)
    row_C, place_C = np.divmod(start_C, width)
    chunk_BL[row_C, place_C // size] = chunk_C
    return chunk_BL


class SequenceOrder:
    """An endless order of rows: one permutation per epoch, from seed and epoch alone.

    Rows of about the same length come together, so that a batch has little padding; which
    batch comes when is left to chance. The place in the order is one number, so a resumed run
    goes on where it stopped.
    """

    def __init__(self, dataset: SequenceDataset, batch_size: int, seed: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self._epoch = -1
        self._order_N = np.empty(0, dtype=np.int64)

    def take(self, position: int, count: int) -> NDArray[np.int64]:
        """Return the rows at ``position`` (counted from 0) and the ``count - 1`` after."""
        return np.array([self._at(position + i) for i in range(count)], dtype=np.int64)

    def _at(self, position: int) -> int:
        epoch, index = divmod(position, len(self.dataset))
        if epoch != self._epoch:
            self._order_N = self._shuffle(np.random.default_rng([self.seed, epoch]))
            self._epoch = epoch
        return int(self._order_N[index])

    def _shuffle(self, rng: np.random.Generator) -> NDArray[np.int64]:
        dataset = self.dataset
        order_N = rng.permutation(len(dataset))
        pool = BATCHES_PER_POOL * self.batch_size
        parts = []
        for start in range(0, len(order_N), pool):
            pool_N = order_N[start : start + pool]
            keys = (dataset.row_lengths_N[pool_N], dataset.is_packed_N[pool_N])
            pool_N = pool_N[np.lexsort(keys)]
            batches = np.array_split(pool_N, range(self.batch_size, len(pool_N), self.batch_size))
            parts += [batches[i] for i in rng.permutation(len(batches))]
        return np.concatenate(parts)
