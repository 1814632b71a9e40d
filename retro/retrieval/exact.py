"""Exact search by brute force: what every index is compared with, and falls back to.

Distances are squared L2. Candidates are found with a matrix product, whose rounding
depends on the block; the distances of the best are then computed directly, so they do
not depend on how the search was divided, and equal keys have equal distances.

Shape suffixes: Q queries, S search results per query, K neighbors, X excluded ranges per
query, N any number of keys, Z key width. A trailing 2 is (first chunk id, id after the
last).
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from retro.data.database import NO_NEIGHBOR

QUERIES_PER_BLOCK = 1024
KEYS_PER_BLOCK = 8192
SPARE_RESULTS = 8
"""Candidates beyond the wanted ones; more keys than this at one distance are looked up."""
ROUNDING = 1e-5
"""Bound on the error of a distance from a matrix product, as a share of the squared norms."""


class Keys(Protocol):
    """Keys by chunk id."""

    @property
    def width(self) -> int:
        """Key width."""
        ...

    def gather(self, ids: NDArray[Any]) -> NDArray[np.float32]:
        """Return keys by chunk id, (..., width)."""
        ...

    def blocks(self, start: int, stop: int, size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first chunk id, keys) of at most ``size`` chunks at a time, in order."""
        ...


def exact_search(
    queries_QZ: NDArray[np.float32],
    keys: Keys,
    num_keys: int,
    num_neighbors: int,
    *,
    excluded_QX2: NDArray[np.int64] | None = None,
    device: torch.device | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest keys, equal distances ordered by id.

    Args:
        queries_QZ: Queries, (queries, width).
        keys: Where keys come from; they may be more than memory holds.
        num_keys: The ids 0 to ``num_keys - 1`` are searched.
        num_neighbors: Results per query.
        excluded_QX2: Ranges of ids that are not results, (queries, ranges, 2).
        device: Where the matrix product is computed; None is the CPU.

    Returns:
        Ids, (queries, num_neighbors), -1 where there is no further one, and squared
        distances, infinity there.
    """
    ids_QK = np.full((len(queries_QZ), num_neighbors), NO_NEIGHBOR, dtype=np.int64)
    distances_QK = np.full((len(queries_QZ), num_neighbors), np.inf, dtype=np.float32)
    for start in range(0, len(queries_QZ), QUERIES_PER_BLOCK):
        rows = slice(start, start + QUERIES_PER_BLOCK)
        excluded = None if excluded_QX2 is None else excluded_QX2[rows]
        block_QZ = np.ascontiguousarray(queries_QZ[rows], dtype=np.float32)
        found_QS, rough_QS = _candidates(block_QZ, keys, num_keys, num_neighbors, excluded, device)
        # A list that is not full, or holds all keys, has left none out.
        full_Q = (found_QS[:, -1] >= 0) & (found_QS.shape[1] < num_keys)
        ids_QK[rows], distances_QK[rows], sure_Q = choose_nearest(
            block_QZ, keys, found_QS, num_neighbors, np.where(full_Q, rough_QS[:, -1], np.inf)
        )
        for row in np.flatnonzero(~sure_Q).tolist():
            ids_QK[start + row], distances_QK[start + row] = _search_ties(
                block_QZ[row],
                keys,
                num_keys,
                float(distances_QK[start + row, -1]),
                num_neighbors,
                None if excluded is None else excluded[row],
            )
    return ids_QK, distances_QK


def choose_nearest(
    queries_QZ: NDArray[np.float32],
    keys: Keys,
    ids_QS: NDArray[np.int64],
    num_neighbors: int,
    beyond_Q: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """Compute the distances of candidates and keep the nearest.

    Args:
        queries_QZ: Queries, (queries, width).
        keys: Where keys come from.
        ids_QS: Candidates, (queries, candidates), -1 where there is none.
        num_neighbors: Results per query.
        beyond_Q: Distance from a matrix product, (queries,), below which no key was left
            out; infinity where none was left out at all.

    Returns:
        Ids and squared distances, (queries, num_neighbors), and whether no key beyond the
        candidates can belong to the results, (queries,).
    """
    exists_QS = ids_QS >= 0
    keys_QSZ = keys.gather(np.where(exists_QS, ids_QS, 0))
    difference_QSZ = keys_QSZ.astype(np.float64) - queries_QZ[:, None]
    distances_QS = np.square(difference_QSZ).sum(-1).astype(np.float32)
    distances_QS[~exists_QS] = np.inf
    order_QK = np.lexsort((ids_QS, distances_QS), axis=1)[:, :num_neighbors]
    ids_QK = np.take_along_axis(ids_QS, order_QK, axis=1)
    distances_QK = np.take_along_axis(distances_QS, order_QK, axis=1)
    missing = num_neighbors - ids_QK.shape[1]
    ids_QK = np.pad(ids_QK, ((0, 0), (0, missing)), constant_values=NO_NEIGHBOR)
    distances_QK = np.pad(distances_QK, ((0, 0), (0, missing)), constant_values=np.inf)

    norm_Q = np.square(queries_QZ).sum(-1) + np.square(keys_QSZ).sum(-1).max(-1, initial=0)
    sure_Q = np.isinf(beyond_Q) | (beyond_Q > distances_QK[:, -1] + 2 * ROUNDING * norm_Q)
    return ids_QK, distances_QK, sure_Q


def is_excluded(ids_QS: NDArray[np.int64], excluded_QX2: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which ids lie in one of their query's excluded ranges, (queries, results)."""
    excluded_QS = np.zeros(ids_QS.shape, dtype=bool)
    for excluded_Q2 in np.moveaxis(excluded_QX2, 1, 0):
        excluded_QS |= (ids_QS >= excluded_Q2[:, :1]) & (ids_QS < excluded_Q2[:, 1:])
    return excluded_QS


def _candidates(
    queries_QZ: NDArray[np.float32],
    keys: Keys,
    num_keys: int,
    num_neighbors: int,
    excluded_QX2: NDArray[np.int64] | None,
    device: torch.device | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    wanted = min(num_neighbors + SPARE_RESULTS, num_keys)
    query_QZ = torch.from_numpy(queries_QZ).to(device)
    query_norm_Q1 = query_QZ.square().sum(-1, keepdim=True)
    best_QS = torch.full((len(queries_QZ), wanted), torch.inf, device=device)
    ids_QS = torch.full((len(queries_QZ), wanted), NO_NEIGHBOR, device=device)
    for first, keys_NZ in keys.blocks(0, num_keys, KEYS_PER_BLOCK):
        key_NZ = torch.from_numpy(keys_NZ).to(device)
        distance_QN = query_norm_Q1 + key_NZ.square().sum(-1) - 2 * query_QZ @ key_NZ.T
        if excluded_QX2 is not None:
            _exclude(distance_QN, first, excluded_QX2)
        nearest = distance_QN.topk(min(wanted, len(key_NZ)), largest=False)
        both_QS = torch.cat([best_QS, nearest.values], 1)
        both_ids_QS = torch.cat([ids_QS, nearest.indices + first], 1)
        best_QS, chosen_QS = both_QS.topk(wanted, largest=False)
        ids_QS = both_ids_QS.gather(1, chosen_QS)
    ids_QS[best_QS.isinf()] = NO_NEIGHBOR
    return ids_QS.cpu().numpy(), best_QS.cpu().numpy()


def _exclude(distance_QN: torch.Tensor, first: int, excluded_QX2: NDArray[np.int64]) -> None:
    ranges_QX2 = torch.from_numpy(excluded_QX2).to(distance_QN.device)
    id_N = torch.arange(first, first + distance_QN.shape[1], device=distance_QN.device)
    for ranges_Q2 in ranges_QX2.unbind(1):
        inside_QN = (id_N >= ranges_Q2[:, :1]) & (id_N < ranges_Q2[:, 1:])
        distance_QN.masked_fill_(inside_QN, torch.inf)


def _search_ties(
    query_Z: NDArray[np.float32],
    keys: Keys,
    num_keys: int,
    limit: float,
    num_neighbors: int,
    excluded_X2: NDArray[np.int64] | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Look at every key that is as near as the last result, of which there are many."""
    ids: list[NDArray[np.int64]] = []
    distances: list[NDArray[np.float32]] = []
    for first, keys_NZ in keys.blocks(0, num_keys, KEYS_PER_BLOCK):
        rough_N = np.square(keys_NZ - query_Z).sum(-1)
        near_N = np.flatnonzero(rough_N <= limit * (1 + ROUNDING) + ROUNDING * ROUNDING)
        ids.append(near_N + first)
        exact_NZ = keys_NZ[near_N].astype(np.float64) - query_Z
        distances.append(np.square(exact_NZ).sum(-1).astype(np.float32))
    id_N, distance_N = np.concatenate(ids), np.concatenate(distances)
    if excluded_X2 is not None:
        allowed_N = ~is_excluded(id_N[None], excluded_X2[None])[0]
        id_N, distance_N = id_N[allowed_N], distance_N[allowed_N]
    order = np.lexsort((id_N, distance_N))[:num_neighbors]
    return id_N[order], distance_N[order]
