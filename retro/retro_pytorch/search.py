"""Search with chunks that are being written, among the chunks of raw files.

Shape suffixes: L chunks that are given, M tokens per chunk, K neighbors per chunk.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro.data.database import NO_NEIGHBOR
from retro.retro_pytorch.dataset import retrieved_rows
from retro.retro_pytorch.index import IndexedChunks


class ChunkSearch:
    """Finds the retrieved values of chunks that are being written."""

    def __init__(self, made: IndexedChunks, *, num_neighbors: int, num_extra: int) -> None:
        self.made = made
        self.num_neighbors = num_neighbors
        self.num_extra = num_extra
        _, self.eos_id, self.pad_id = made.encoder.special_ids

    def retrieved(self, chunks_LM: NDArray[Any]) -> NDArray[np.int64]:
        """Return the neighbors of chunks with their continuations.

        Args:
            chunks_LM: Token ids, (chunks, chunk_size), padded where one is shorter. A chunk
                that is all padding has no neighbors. Ids beyond the encoder's vocabulary,
                which a model with a larger one may be given, are read as unknown tokens.

        Returns:
            Token ids, (chunks, num_neighbors, 2 * chunk_size).
        """
        ids_LK = np.full((len(chunks_LM), self.num_neighbors), NO_NEIGHBOR, dtype=np.int64)
        rows = np.flatnonzero((chunks_LM != self.pad_id).any(axis=1))
        if len(rows):
            encoder = self.made.encoder
            known_LM = chunks_LM[rows] < encoder.num_embeddings
            queries_LM = np.where(known_LM, chunks_LM[rows], encoder.unknown_id)
            ids_LK[rows], _ = self.made.search.nearest(
                queries_LM.astype(np.int32), self.num_neighbors, num_extra=self.num_extra
            )
        return retrieved_rows(self.made.rows_CW, ids_LK, eos_id=self.eos_id, pad_id=self.pad_id)
