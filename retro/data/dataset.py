"""Training sequences: chunks of one document in order, each with its retrieved values.

Shape suffixes: B sequences, T tokens, L chunks of a sequence, M tokens per chunk, K
neighbors per chunk, R tokens per retrieved value, C chunks of the corpus, N any rows.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retro.data.database import NO_NEIGHBOR, RetrievalDatabase
from retro.errors import ConfigError, InputError

Split = Literal["train", "validation"]


class SequenceDataset:
    """Sequences of ``sequence_length`` tokens, cut from the documents of one split.

    A sequence never crosses the end of a document; what is left at the end is padding. After
    the last token of a document stands the end token, so the model learns where texts end.
    """

    def __init__(
        self,
        database: RetrievalDatabase,
        neighbors_CK: NDArray[np.int32],
        *,
        split: Split,
        sequence_length: int,
        num_neighbors: int,
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
        self.neighbors_CK = neighbors_CK
        self.num_neighbors = num_neighbors
        self.num_chunks = sequence_length // database.chunk_size
        self.starts_N = database.sequence_starts(self.num_chunks, split)
        if len(self.starts_N) == 0:
            raise InputError(
                f"The corpus has no {split} text to cut sequences from. Add documents and "
                f"build it again."
            )

    def __len__(self) -> int:
        return len(self.starts_N)

    def batch(self, sequences_B: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return sequences and the retrieved values of their chunks.

        Args:
            sequences_B: Numbers of the sequences, counted from 0.

        Returns:
            Token ids, (batch, sequence_length + 1), and retrieved token ids, (batch, chunks,
            neighbors, 2 * chunk_size); pad id where there is nothing.
        """
        database = self.database
        start_B1 = self.starts_N[sequences_B][:, None]
        chunk_BL = start_B1 + np.arange(self.num_chunks)
        # One chunk more: its first token is the label of the sequence's last.
        exists_BL = self._in_document(start_B1, np.append(chunk_BL, chunk_BL[:, -1:] + 1, axis=1))
        next_exists_B, exists_BL = exists_BL[:, -1], exists_BL[:, :-1]
        safe_BL = np.where(exists_BL, chunk_BL, 0)

        tokens_BLM = np.where(exists_BL[..., None], database.chunks_CM[safe_BL], database.pad_id)
        sequence_BT = np.full(
            (len(sequences_B), self.num_chunks * database.chunk_size + 1),
            database.pad_id,
            dtype=np.int64,
        )
        sequence_BT[:, :-1] = tokens_BLM.reshape(len(sequences_B), -1)
        next_B = np.where(next_exists_B, chunk_BL[:, -1] + 1, 0)
        sequence_BT[:, -1] = np.where(next_exists_B, database.chunks_CM[next_B, 0], database.pad_id)
        for row in np.flatnonzero(~next_exists_B):
            last = int(chunk_BL[row][exists_BL[row]][-1])
            position, total = database.chunk_position(last)
            if position == total - 1:
                length = int((sequence_BT[row] != database.pad_id).sum())
                sequence_BT[row, length] = database.eos_id

        neighbors_BLK = self.neighbors_CK[safe_BL][..., : self.num_neighbors]
        neighbors_BLK = np.where(exists_BL[..., None], neighbors_BLK, NO_NEIGHBOR)
        retrieved_NKR = database.retrieved_values(neighbors_BLK.reshape(-1, self.num_neighbors))
        return sequence_BT, retrieved_NKR.astype(np.int64).reshape(
            *chunk_BL.shape, *retrieved_NKR.shape[1:]
        )

    def _in_document(
        self, start_B1: NDArray[np.int64], chunk_BL: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return which chunks belong to the document and the split of the first one."""
        database = self.database
        in_database = chunk_BL < database.num_chunks
        safe_BL = np.where(in_database, chunk_BL, 0)
        same_document = database.documents_C[safe_BL] == database.documents_C[start_B1]
        same_split = (chunk_BL < database.num_retrievable) == (start_B1 < database.num_retrievable)
        inside: NDArray[np.bool_] = in_database & same_document & same_split
        return inside


class SequenceOrder:
    """An endless order of sequences: one permutation per epoch, from seed and epoch alone.

    The place in it is one number, so a resumed run goes on where it stopped.
    """

    def __init__(self, num_sequences: int, seed: int) -> None:
        self.num_sequences = num_sequences
        self.seed = seed
        self._epoch = -1
        self._order_N = np.empty(0, dtype=np.int64)

    def take(self, position: int, count: int) -> NDArray[np.int64]:
        """Return the sequences at ``position`` (counted from 0) and the ``count - 1`` after."""
        return np.array([self._at(position + i) for i in range(count)], dtype=np.int64)

    def _at(self, position: int) -> int:
        epoch, index = divmod(position, self.num_sequences)
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            self._order_N = rng.permutation(self.num_sequences)
            self._epoch = epoch
        return int(self._order_N[index])
