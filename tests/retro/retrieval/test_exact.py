"""Exact search equals a literal loop."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from retro.retrieval import exact as module
from retro.retrieval.exact import choose_nearest, exact_search


class ArrayKeys:
    """Keys in memory."""

    def __init__(self, keys_NZ: NDArray[np.float32]) -> None:
        self.keys_NZ = keys_NZ
        self.width: int = keys_NZ.shape[1]

    def gather(self, ids: NDArray[Any]) -> NDArray[np.float32]:
        return self.keys_NZ[ids]

    def blocks(self, start: int, stop: int, size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for first in range(start, stop, size):
            yield first, self.keys_NZ[first : min(first + size, stop)]


def literal_search(
    query_Z: NDArray[np.float32], keys_NZ: NDArray[np.float32], count: int, excluded: list[range]
) -> tuple[list[int], list[float]]:
    """Sort all allowed keys by distance, then id."""
    found = sorted(
        (np.float32(sum((float(a) - float(b)) ** 2 for a, b in zip(query_Z, key, strict=True))), id)
        for id, key in enumerate(keys_NZ)
        if not any(id in ids for ids in excluded)
    )[:count]
    missing = count - len(found)
    return [id for _, id in found] + [-1] * missing, [float(d) for d, _ in found] + [
        np.inf
    ] * missing


@pytest.mark.parametrize("block", [3, 8, 1000])
@pytest.mark.parametrize("count", [1, 4, 60])
def test_results_equal_a_literal_loop(
    monkeypatch: pytest.MonkeyPatch, block: int, count: int
) -> None:
    monkeypatch.setattr(module, "KEYS_PER_BLOCK", block)
    monkeypatch.setattr(module, "QUERIES_PER_BLOCK", 4)
    rng = np.random.default_rng(0)
    keys_NZ = rng.standard_normal((50, 6)).astype(np.float32)
    queries_QZ = rng.standard_normal((9, 6)).astype(np.float32)
    first_Q2 = np.stack([np.arange(9) * 4, np.arange(9) * 4 + 10], axis=1)
    excluded_QX2 = np.stack([first_Q2, np.tile([45, 47], (9, 1))], axis=1)

    ids_QK, distances_QK = exact_search(
        queries_QZ, ArrayKeys(keys_NZ), 50, count, excluded_QX2=excluded_QX2
    )

    for row in range(9):
        excluded = [range(*bounds) for bounds in excluded_QX2[row].tolist()]
        ids, distances = literal_search(queries_QZ[row], keys_NZ, count, excluded)
        assert ids_QK[row].tolist() == ids
        assert distances_QK[row].tolist() == pytest.approx(distances, rel=1e-6)
    assert (ids_QK == -1).any() == (count == 60)


@pytest.mark.parametrize("block", [16, 1000])
def test_many_equal_keys_are_ordered_by_id(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(module, "KEYS_PER_BLOCK", block)
    keys_NZ = np.tile(np.array([[0.1, 0.7, 0.3]], np.float32), (200, 1))
    keys_NZ[7] += 1
    excluded_QX2 = np.array([[[0, 2]], [[3, 150]], [[0, 0]]])

    ids_QK, distances_QK = exact_search(
        keys_NZ[:3], ArrayKeys(keys_NZ), 200, 3, excluded_QX2=excluded_QX2
    )

    assert ids_QK.tolist() == [[2, 3, 4], [0, 1, 2], [0, 1, 2]]
    assert not distances_QK.any()


def test_a_key_finds_itself_at_distance_exactly_zero() -> None:
    keys_NZ = np.random.default_rng(0).standard_normal((300, 24)).astype(np.float32) * 10

    ids_QK, distances_QK = exact_search(keys_NZ, ArrayKeys(keys_NZ), 300, 2)

    assert ids_QK[:, 0].tolist() == list(range(300))
    assert not distances_QK[:, 0].any()
    assert (distances_QK[:, 1] > 0).all()


def test_keys_beyond_the_searched_ones_are_never_found() -> None:
    keys_NZ = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)

    ids_QK, _ = exact_search(keys_NZ[20:], ArrayKeys(keys_NZ), 20, 5)

    assert ids_QK.max() < 20
    assert ids_QK.min() >= 0


def test_candidates_at_one_distance_are_ordered_by_id() -> None:
    keys_NZ = np.ones((40, 3), np.float32)
    found_QS = np.array([[30, 4, 17, -1, 9]])

    ids_QK, distances_QK, sure_Q = choose_nearest(
        keys_NZ[:1], ArrayKeys(keys_NZ), found_QS, 6, np.array([np.inf], np.float32)
    )

    assert ids_QK.tolist() == [[4, 9, 17, 30, -1, -1]]
    assert distances_QK.tolist() == [[0, 0, 0, 0, np.inf, np.inf]]
    assert sure_Q.tolist() == [True]


def test_a_result_as_near_as_what_was_left_out_is_not_sure() -> None:
    keys_NZ = np.arange(6, dtype=np.float32)[:, None]
    beyond_Q = np.array([1.0, 1.1], np.float32)

    _, _, sure_Q = choose_nearest(
        keys_NZ[[0, 0]], ArrayKeys(keys_NZ), np.array([[0, 1], [0, 1]]), 2, beyond_Q
    )

    assert sure_Q.tolist() == [False, True]
