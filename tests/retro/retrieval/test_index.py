"""Every index is compared with exact search."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retro.config.corpus import IndexKind
from retro.errors import ArtifactMismatchError, ArtifactMissingError, ShapeError
from retro.retrieval.exact import exact_search
from retro.retrieval.index import FIRST_EFFORT, WANTED_RECALL, build_index, open_index
from retro.retrieval.index_info import LARGEST_FLAT, choose_kind
from tests.retro.retrieval.test_exact import ArrayKeys


def clustered_keys(num_keys: int, width: int = 16) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((20, width))
    keys_NZ = centers[rng.integers(20, size=num_keys)] + rng.standard_normal((num_keys, width)) / 3
    return keys_NZ.astype(np.float32)


def test_flat_equals_exact_search() -> None:
    keys = ArrayKeys(clustered_keys(500))

    index, info = build_index(keys, 500, IndexKind.FLAT)

    ids_QS, distances_QS = index.search(keys.keys_NZ[:50], 7)
    true_QS, true_distances_QS = exact_search(keys.keys_NZ[:50], keys, 500, 7)
    assert np.array_equal(ids_QS, true_QS)
    np.testing.assert_allclose(distances_QS, true_distances_QS, atol=1e-4)
    assert (info.recall, info.is_exact) == (1.0, True)


@pytest.mark.parametrize("kind", [IndexKind.IVF, IndexKind.HNSW])
def test_approximate_indexes_reach_the_stated_recall(kind: IndexKind) -> None:
    # Without clusters, the first effort finds too little.
    all_NZ = np.random.default_rng(0).standard_normal((3200, 24)).astype(np.float32)
    keys = ArrayKeys(all_NZ[:3000])

    index, info = build_index(keys, 3000, kind)

    queries_QZ = all_NZ[3000:]
    found_QS, _ = index.search(queries_QZ, 10)
    true_QS, _ = exact_search(queries_QZ, keys, 3000, 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found_QS, true_QS, strict=True)])
    assert info.recall >= WANTED_RECALL
    assert info.effort > FIRST_EFFORT[kind] or kind is IndexKind.HNSW
    assert not info.is_exact
    # The measured recall is that of a sample of the keys; these are other queries.
    assert recall == pytest.approx(info.recall, abs=0.05)


@pytest.mark.parametrize("kind", [IndexKind.FLAT, IndexKind.IVF, IndexKind.HNSW])
@pytest.mark.parametrize("num_keys", [2, 3, 70])
def test_every_kind_works_on_a_small_corpus(
    kind: IndexKind, num_keys: int, capfd: pytest.CaptureFixture[str]
) -> None:
    keys = ArrayKeys(clustered_keys(num_keys))

    index, _ = build_index(keys, num_keys, kind)
    ids_QS, distances_QS = index.search(keys.keys_NZ, num_keys + 2)

    assert ids_QS[:, 0].tolist() == list(range(num_keys))
    assert (ids_QS[:, num_keys:] == -1).all()
    assert np.isinf(distances_QS[ids_QS < 0]).all()
    assert np.isfinite(distances_QS[ids_QS >= 0]).all()
    assert capfd.readouterr() == ("", "")


def test_what_the_probed_lists_do_not_hold_is_missing() -> None:
    keys = ArrayKeys(clustered_keys(1000))
    index, _ = build_index(keys, 1000, IndexKind.IVF)
    index.set_effort(1)

    ids_QS, distances_QS = index.search(keys.keys_NZ[:5], 1000)

    assert (ids_QS == -1).any()
    assert np.array_equal(ids_QS == -1, np.isinf(distances_QS))


@pytest.mark.parametrize("kind", [IndexKind.FLAT, IndexKind.IVF, IndexKind.HNSW])
def test_saving_and_opening_changes_no_result(kind: IndexKind, tmp_path: Path) -> None:
    keys = ArrayKeys(clustered_keys(1000))
    index, info = build_index(keys, 1000, kind)
    index.save(tmp_path)

    reopened = open_index(tmp_path, info)

    for before, after in zip(
        index.search(keys.keys_NZ[:20], 5), reopened.search(keys.keys_NZ[:20], 5), strict=True
    ):
        assert np.array_equal(before, after)


def test_the_same_seed_builds_the_same_index(tmp_path: Path) -> None:
    keys = ArrayKeys(clustered_keys(1000))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        build_index(keys, 1000, IndexKind.IVF, seed=3)[0].save(tmp_path / name)

    first, second = ((tmp_path / name / "index.faiss").read_bytes() for name in ("a", "b"))
    assert first == second


def test_files_that_are_no_index_are_refused(tmp_path: Path) -> None:
    keys = ArrayKeys(clustered_keys(100))
    index, info = build_index(keys, 100, IndexKind.FLAT)
    with pytest.raises(ArtifactMissingError, match=r"no index\.faiss"):
        open_index(tmp_path, info)
    index.save(tmp_path)

    with pytest.raises(ArtifactMismatchError, match="must hold 99 keys, got 100"):
        open_index(tmp_path, replace(info, num_keys=99))
    (tmp_path / "index.faiss").write_bytes((tmp_path / "index.faiss").read_bytes()[:200])
    with pytest.raises(ArtifactMismatchError, match=r"index\.faiss is damaged"):
        open_index(tmp_path, info)


def test_queries_of_another_width_are_refused() -> None:
    index, _ = build_index(ArrayKeys(clustered_keys(10)), 10, IndexKind.FLAT)

    with pytest.raises(ShapeError, match=r"\(queries, 16\), got \(1, 15\)"):
        index.search(np.zeros((1, 15), np.float32), 1)


def test_the_kind_is_chosen_by_size_unless_a_person_chose() -> None:
    assert choose_kind(IndexKind.AUTO, LARGEST_FLAT) is IndexKind.FLAT
    assert choose_kind(IndexKind.AUTO, LARGEST_FLAT + 1) is IndexKind.IVF
    assert choose_kind(IndexKind.HNSW, 5) is IndexKind.HNSW
