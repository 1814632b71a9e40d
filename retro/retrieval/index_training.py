"""Training an index: inverted lists need centers, and short codes need a code book.

Shape suffixes: L inverted lists, N keys that are trained on, Z key width.
"""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from retro.config.corpus import IndexKind
from retro.progress import Progress
from retro.retrieval.exact import Keys
from retro.retrieval.index_info import HNSW_LINKS, IndexPlan, KeyCode

CLUSTERING_ROUNDS = 10
"""As FAISS does by itself."""


class Steps:
    """Reports how far an index is.

    Comparing a key with the centers takes as long in training, once per round, as when the key
    is added, so both count the same, and time grows evenly with what is reported.
    """

    def __init__(self, plan: IndexPlan, num_keys: int, on_progress: Progress) -> None:
        rounds = CLUSTERING_ROUNDS if plan.num_lists else 0
        self._total = num_keys + rounds * plan.num_training
        self._num_keys = num_keys
        self._on_progress = on_progress
        self._done = 0
        on_progress("index", 0, num_keys)

    def take(self, num_compared: int) -> None:
        """Report how many more keys were compared with the centers, or added."""
        self._done += num_compared
        # The end is reported when the recall has been measured too.
        share = min(self._done / self._total, 0.99)
        self._on_progress("index", int(share * self._num_keys), self._num_keys)


def train_index(
    keys: Keys, num_keys: int, plan: IndexPlan, rng: np.random.Generator, steps: Steps
) -> Any:
    """Return an index of FAISS that is ready for keys.

    Args:
        keys: Where keys come from.
        num_keys: The ids 0 to ``num_keys - 1`` are trained on.
        plan: What index.
        rng: Chooses the keys that are trained on.
        steps: Called after each round.
    """
    if plan.kind is IndexKind.FLAT:
        return faiss.IndexFlatL2(keys.width)
    if plan.kind is IndexKind.HNSW:
        return faiss.IndexHNSWFlat(keys.width, HNSW_LINKS)
    seed = int(rng.integers(2**31))
    sample = np.sort(rng.choice(num_keys, plan.num_training, replace=False))
    keys_NZ = keys.gather(sample)
    backend = _inverted_lists(keys.width, plan)
    backend.quantizer.add(_centers(keys_NZ, plan.num_lists, seed, steps))
    # The lists are trained already; what is left are codes.
    backend.train(keys_NZ)
    return backend


def _centers(
    keys_NZ: NDArray[np.float32], num_lists: int, seed: int, steps: Steps
) -> NDArray[np.float32]:
    """Cluster keys round by round, which gives what all rounds at once would."""
    width = keys_NZ.shape[1]
    centers_LZ = np.empty((0, width), dtype=np.float32)
    for _ in range(CLUSTERING_ROUNDS):
        clustering = faiss.Clustering(width, num_lists)
        clustering.niter = 1
        clustering.seed = seed
        # FAISS would print a warning for a corpus too small to train on.
        clustering.min_points_per_centroid = 1
        faiss.copy_array_to_vector(centers_LZ.reshape(-1), clustering.centroids)
        clustering.train(keys_NZ, faiss.IndexFlatL2(width))
        centers_LZ = faiss.vector_to_array(clustering.centroids).reshape(num_lists, width)
        steps.take(len(keys_NZ))
    return centers_LZ


def _inverted_lists(width: int, plan: IndexPlan) -> Any:
    centers = faiss.IndexFlatL2(width)
    if plan.code is KeyCode.FULL:
        return faiss.IndexIVFFlat(centers, width, plan.num_lists)
    if plan.code is KeyCode.SCALAR:
        return faiss.IndexIVFScalarQuantizer(
            centers, width, plan.num_lists, faiss.ScalarQuantizer.QT_8bit
        )
    backend = faiss.IndexIVFPQ(centers, width, plan.num_lists, plan.code_bytes, 8)
    backend.use_precomputed_table = -1
    backend.pq.cp.min_points_per_centroid = 1
    return backend
