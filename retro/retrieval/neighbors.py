"""Neighbors of chunks, under the rule that excludes what would give the answer away.

The chunks of a document have consecutive ids, so what is excluded for a query is a range
of ids.

Shape suffixes: C chunks, Q queries, S search results per query, K neighbors, X excluded
ranges per query, Z key width. A trailing 2 is (first chunk id, id after the last).
"""

import math
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from retro.config.corpus import CorpusConfig, Exclusion
from retro.data.database import NO_NEIGHBOR
from retro.progress import Progress, no_progress
from retro.retrieval.exact import (
    QUERIES_PER_BLOCK,
    SPARE_RESULTS,
    Keys,
    choose_nearest,
    exact_search,
    is_excluded,
)
from retro.retrieval.index import Index
from retro.retrieval.index_info import IndexInfo

LARGEST_OVERFETCH = 128
"""Excluded results that are asked for in vain; beyond it, exact search is cheaper."""
LARGEST_SHARE = 0.5


class ChunkedDocuments(Protocol):
    """Which document each chunk is of; a retrieval database, for example."""

    @property
    def documents_C(self) -> NDArray[np.int32]:  # noqa: N802  # as the field it stands for
        """Document id of each chunk, never falling."""
        ...

    @property
    def num_retrievable(self) -> int:
        """Chunks that can be found; they come first."""
        ...

    @property
    def num_chunks(self) -> int:
        """All chunks."""
        ...

    @property
    def chunk_size(self) -> int:
        """Tokens per chunk."""
        ...


def resolve_exclusion(database: ChunkedDocuments, config: CorpusConfig) -> Exclusion:
    """Return the rule to use, never ``AUTO``.

    Where one document holds most of the corpus, its chunks would have few neighbors or
    none, so ``AUTO`` then excludes only what is near in the same document.
    """
    if config.exclusion is not Exclusion.AUTO:
        return config.exclusion
    counts = np.bincount(database.documents_C[: database.num_retrievable])
    most = counts.max() > LARGEST_SHARE * database.num_retrievable
    return Exclusion.WINDOW if most else Exclusion.DOCUMENT


def excluded_ranges(
    database: ChunkedDocuments, ids_Q: NDArray[Any], exclusion: Exclusion, window: int
) -> NDArray[np.int64]:
    """Return the chunk ids that may not be neighbors of chunks.

    Args:
        database: Whose chunks they are.
        ids_Q: The chunks.
        exclusion: ``DOCUMENT`` or ``WINDOW``.
        window: Tokens on either side that ``WINDOW`` excludes. A neighbor's continuation
            stays out of the window too.

    Returns:
        One range of retrievable ids per chunk, (queries, 1, 2).
    """
    ids_Q = np.asarray(ids_Q, dtype=np.int64)
    documents_Q = database.documents_C[ids_Q]
    first_Q = np.searchsorted(database.documents_C, documents_Q, side="left")
    stop_Q = np.searchsorted(database.documents_C, documents_Q, side="right")
    if exclusion is Exclusion.WINDOW:
        radius = min(math.ceil(window / database.chunk_size) + 1, database.num_chunks)
        first_Q = np.maximum(first_Q, ids_Q - radius)
        stop_Q = np.minimum(stop_Q, ids_Q + radius + 1)
    ranges_Q2 = np.stack([first_Q, stop_Q], axis=-1)
    ranges_QX2: NDArray[np.int64] = np.minimum(ranges_Q2, database.num_retrievable)[:, None]
    return ranges_QX2


def find_neighbors(
    database: ChunkedDocuments,
    keys: Keys,
    index: Index,
    info: IndexInfo,
    *,
    num_neighbors: int,
    exclusion: Exclusion,
    window: int,
    chunks: range | None = None,
    num_extra: int = SPARE_RESULTS,
    device: torch.device | None = None,
    on_progress: Progress = no_progress,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the neighbors of chunks, held-out ones included, among retrievable ones.

    Args:
        database: The chunks.
        keys: Their keys, by chunk id.
        index: The index over the retrievable ones.
        info: Facts about the index.
        num_neighbors: Neighbors per chunk.
        exclusion: ``DOCUMENT`` or ``WINDOW``.
        window: Tokens on either side that ``WINDOW`` excludes.
        chunks: The chunks, with consecutive ids; None is every chunk.
        num_extra: Fewest allowed candidates beyond the wanted ones that are compared by
            their true keys.
        device: Where exact search computes; None is the CPU.
        on_progress: Called with the progress of the stage ``neighbors`` in chunks.

    Returns:
        Ids, (chunks, num_neighbors), -1 where there is none, and squared L2 distances,
        infinity there.
    """
    wanted = range(database.num_chunks) if chunks is None else chunks
    ids_CK = np.full((len(wanted), num_neighbors), NO_NEIGHBOR, dtype=np.int32)
    distances_CK = np.full((len(wanted), num_neighbors), np.inf, dtype=np.float32)
    for start in range(0, len(wanted), QUERIES_PER_BLOCK):
        on_progress("neighbors", wanted.start + start, database.num_chunks)
        rows = slice(start, start + QUERIES_PER_BLOCK)
        ids_Q = np.arange(wanted[rows].start, wanted[rows].stop)
        ids_CK[rows], distances_CK[rows] = nearest_allowed(
            keys.gather(ids_Q),
            keys,
            index,
            info,
            num_neighbors,
            excluded_QX2=excluded_ranges(database, ids_Q, exclusion, window),
            num_extra=num_extra,
            device=device,
        )
    on_progress("neighbors", wanted.stop, database.num_chunks)
    return ids_CK, distances_CK


def nearest_allowed(
    queries_QZ: NDArray[np.float32],
    keys: Keys,
    index: Index,
    info: IndexInfo,
    num_neighbors: int,
    *,
    excluded_QX2: NDArray[np.int64],
    num_extra: int = SPARE_RESULTS,
    device: torch.device | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest keys outside the excluded ranges, equal distances by id.

    With an exact index the result is that of brute force. With an approximate one, a
    query that comes up short is searched by brute force.

    Args:
        queries_QZ: Queries, (queries, width).
        keys: Keys by chunk id.
        index: The index over them.
        info: Facts about the index.
        num_neighbors: Results per query.
        excluded_QX2: Ranges of ids that are not results, (queries, ranges, 2).
        num_extra: Fewest allowed candidates beyond the wanted ones that are compared by
            their true keys; an index of short codes needs more than one of full keys.
        device: Where exact search computes; None is the CPU.

    Returns:
        Ids, (queries, num_neighbors), -1 where there is none, and squared L2 distances,
        infinity there.
    """
    num_excluded_Q = (excluded_QX2[..., 1] - excluded_QX2[..., 0]).clip(0).sum(-1)
    overfetch = int(min(num_excluded_Q.max(initial=0), LARGEST_OVERFETCH))
    kept = num_neighbors + max(num_extra, SPARE_RESULTS)
    wanted = min(kept + overfetch, info.num_keys)
    found_QS, rough_QS = index.search(queries_QZ, wanted)
    # Beyond the last result there may be nearer keys only if there are more keys.
    complete_Q = (found_QS[:, -1] < 0) | (wanted == info.num_keys)
    beyond_Q = np.where(complete_Q, np.inf, rough_QS[:, -1])
    rough_QS[is_excluded(found_QS, excluded_QX2)] = np.inf
    order_QS = np.argsort(rough_QS, axis=1, kind="stable")
    rough_QS = np.take_along_axis(rough_QS, order_QS, axis=1)
    found_QS = np.take_along_axis(found_QS, order_QS, axis=1)
    found_QS[np.isinf(rough_QS)] = NO_NEIGHBOR
    if wanted > kept:
        beyond_Q = np.minimum(beyond_Q, rough_QS[:, kept])
    ids_QK, distances_QK, sure_Q = choose_nearest(
        queries_QZ, keys, found_QS[:, :kept], num_neighbors, beyond_Q
    )
    if not info.is_exact:
        num_allowed_Q = info.num_keys - num_excluded_Q
        sure_Q = (ids_QK >= 0).sum(1) >= np.minimum(num_neighbors, num_allowed_Q)
    again_Q = np.flatnonzero(~sure_Q)
    if len(again_Q) > 0:
        ids_QK[again_Q], distances_QK[again_Q] = exact_search(
            queries_QZ[again_Q],
            keys,
            info.num_keys,
            num_neighbors,
            excluded_QX2=excluded_QX2[again_Q],
            device=device,
        )
    return ids_QK, distances_QK
