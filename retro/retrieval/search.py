"""Search with chunks: what the retriever loads when it is first needed.

Shape suffixes: N queries, M tokens per chunk, K neighbors, X excluded ranges. A trailing
2 is (first chunk id, id after the last).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from retro.errors import ArtifactMismatchError
from retro.retrieval.embedder import Embedder
from retro.retrieval.exact import SPARE_RESULTS
from retro.retrieval.index import Index
from retro.retrieval.index_info import IndexInfo
from retro.retrieval.keys import KeyStore
from retro.retrieval.neighbors import nearest_allowed
from retro.retrieval.scores import SQUARED_L2, Score

NOTHING_EXCLUDED = np.empty((0, 2), dtype=np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class KeySearch:
    """Embedder, keys and index of one corpus."""

    embedder: Embedder
    keys: KeyStore
    index: Index
    info: IndexInfo
    device: torch.device

    def __post_init__(self) -> None:
        """Refuse parts that do not belong together."""
        if self.embedder.fingerprint != self.keys.embedder:
            raise ArtifactMismatchError(
                f"The keys were made by the encoder {self.keys.embedder[:12]!r}, "
                f"but the encoder is now {self.embedder.fingerprint[:12]!r}. "
                f"Build the corpus again, or bring the old encoder back."
            )

    @property
    def score(self) -> Score:
        """Keys are ordered by their distance."""
        return SQUARED_L2

    def nearest(
        self,
        chunks_NM: NDArray[np.int32],
        num_neighbors: int,
        excluded_X2: NDArray[np.int64] = NOTHING_EXCLUDED,
        num_extra: int = SPARE_RESULTS,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return ids and squared distances of the nearest retrievable chunks.

        Args:
            chunks_NM: Token ids, (chunks, tokens).
            num_neighbors: Neighbors per chunk.
            excluded_X2: Ranges of ids that are not found, (ranges, 2).
            num_extra: See ``nearest_allowed``.
        """
        return nearest_allowed(
            self.embedder.embed(chunks_NM),
            self.keys,
            self.index,
            self.info,
            num_neighbors,
            excluded_QX2=np.broadcast_to(excluded_X2, (len(chunks_NM), *excluded_X2.shape)),
            num_extra=num_extra,
            device=self.device,
        )
