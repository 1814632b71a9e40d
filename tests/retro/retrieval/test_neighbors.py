"""Neighbors keep to the exclusion rule, and are those of brute force."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retro.config.corpus import CorpusConfig, Exclusion, IndexKind
from retro.corpus.chunk_stage import build_database
from retro.corpus.embed_stage import embed_database
from retro.data.database import RetrievalDatabase
from retro.retrieval import neighbors as module
from retro.retrieval.index import Index, build_index
from retro.retrieval.index_info import IndexInfo
from retro.retrieval.keys import KeyStore
from retro.retrieval.neighbors import (
    excluded_ranges,
    find_neighbors,
    nearest_allowed,
    resolve_exclusion,
)
from tests.fakes import ByteTokenizer, HashEmbedder, random_texts, store_texts
from tests.retro.retrieval.test_exact import ArrayKeys, literal_search

SIZE = 4
WINDOW = 12


def built(corpus_dir: Path, texts: dict[str, str]) -> tuple[RetrievalDatabase, KeyStore]:
    store_texts(corpus_dir, texts)
    build_database(corpus_dir, CorpusConfig(chunk_size=SIZE), ByteTokenizer())
    embed_database(corpus_dir, HashEmbedder(258))
    return RetrievalDatabase.open(corpus_dir / "database"), KeyStore.open(corpus_dir / "keys")


def forbidden(database: RetrievalDatabase, chunk: int, rule: Exclusion) -> set[int]:
    """Return the ids a chunk may not have, derived from the words of the rule."""
    same = [
        other
        for other in range(database.num_retrievable)
        if database.documents_C[other] == database.documents_C[chunk]
    ]
    if rule is Exclusion.DOCUMENT:
        return set(same)
    # Neither the neighbor nor its continuation may lie within the window of the chunk.
    near = WINDOW // SIZE + 1
    return {other for other in same if abs(other - chunk) <= near}


@pytest.mark.parametrize("largest_overfetch", [0, 128])
@pytest.mark.parametrize("rule", [Exclusion.DOCUMENT, Exclusion.WINDOW])
@pytest.mark.parametrize("kind", [IndexKind.FLAT, IndexKind.IVF])
def test_neighbors_are_those_of_brute_force(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: IndexKind,
    rule: Exclusion,
    largest_overfetch: int,
) -> None:
    monkeypatch.setattr(module, "LARGEST_OVERFETCH", largest_overfetch)
    # The last words of the largest document are held out with whole documents before them.
    database, keys = built(tmp_path, random_texts(12, 10) | {"z.txt": "abcd efgh " * 12})
    index, info = build_index(keys, database.num_retrievable, kind)
    index.set_effort(10_000)

    ids_CK, distances_CK = find_neighbors(
        database, keys, index, info, num_neighbors=3, exclusion=rule, window=WINDOW
    )

    num_ties = 0
    keys_CZ = keys.gather(np.arange(database.num_retrievable))
    for chunk in range(database.num_chunks):
        banned = forbidden(database, chunk, rule)
        ranges = [range(id, id + 1) for id in banned]
        ids, distances = literal_search(keys.gather(np.array(chunk)), keys_CZ, 3, ranges)
        if kind is IndexKind.FLAT:
            assert ids_CK[chunk].tolist() == ids
        assert distances_CK[chunk].tolist() == pytest.approx(distances, rel=1e-5, abs=1e-7)
        assert not banned & set(ids_CK[chunk].tolist())
        num_ties += len(set(distances)) < 3
    assert num_ties > 0
    assert ids_CK.max() < database.num_retrievable
    assert any(forbidden(database, chunk, rule) for chunk in range(database.num_retrievable))


def test_missing_neighbors_are_minus_one_at_infinity(tmp_path: Path) -> None:
    database, keys = built(tmp_path, {"a.txt": "abcd" * 5, "b.txt": "xyzw"})
    index, info = build_index(keys, database.num_retrievable, IndexKind.FLAT)

    ids_CK, distances_CK = find_neighbors(
        database, keys, index, info, num_neighbors=2, exclusion=Exclusion.DOCUMENT, window=WINDOW
    )

    assert [record.path for record in database.documents] == ["a.txt", "b.txt"]
    assert database.documents[1].split == "validation"
    assert ids_CK[:5].tolist() == [[-1, -1]] * 5
    assert np.isinf(distances_CK[:5]).all()
    assert ids_CK[5].tolist() == [0, 1]


def test_held_out_chunks_have_neighbors_and_are_none(tmp_path: Path) -> None:
    database, keys = built(tmp_path, random_texts(20, 10))
    index, info = build_index(keys, database.num_retrievable, IndexKind.FLAT)

    ids_CK, _ = find_neighbors(
        database, keys, index, info, num_neighbors=2, exclusion=Exclusion.DOCUMENT, window=WINDOW
    )

    assert database.num_retrievable < database.num_chunks
    assert (ids_CK[database.num_retrievable :] >= 0).all()
    assert ids_CK.max() < database.num_retrievable


def test_a_window_larger_than_the_corpus_excludes_the_document(tmp_path: Path) -> None:
    database, _ = built(tmp_path, random_texts(6, 10))
    ids_C = np.arange(database.num_chunks)

    everything = excluded_ranges(database, ids_C, Exclusion.WINDOW, 2**53)

    assert np.array_equal(everything, excluded_ranges(database, ids_C, Exclusion.DOCUMENT, 1))


def test_only_retrievable_chunks_are_excluded(tmp_path: Path) -> None:
    database, _ = built(tmp_path, {"book.txt": "words " * 50})
    ids_C = np.arange(database.num_chunks)

    for rule in (Exclusion.DOCUMENT, Exclusion.WINDOW):
        ranges_C2 = excluded_ranges(database, ids_C, rule, WINDOW)[:, 0]
        assert ranges_C2.max() == database.num_retrievable
        assert (ranges_C2[: database.num_retrievable, 0] <= ids_C[: database.num_retrievable]).all()


def test_the_order_in_which_an_index_finds_equal_keys_does_not_matter() -> None:
    class BackwardIndex(Index):
        """Finds equal keys in falling order of their ids."""

        def __init__(self, keys_NZ: NDArray[np.float32]) -> None:
            self.keys_NZ = keys_NZ

        def search(
            self, queries_QZ: NDArray[np.float32], num_results: int
        ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            distances_QN = np.square(queries_QZ[:, None] - self.keys_NZ).sum(-1)[:, ::-1]
            order_QS = np.argsort(distances_QN, axis=1, kind="stable")[:, :num_results]
            found_QS = len(self.keys_NZ) - 1 - order_QS
            return found_QS, np.take_along_axis(distances_QN, order_QS, axis=1)

    # Fourteen equal keys: more than are kept, fewer than are fetched.
    keys_NZ = np.arange(40, dtype=np.float32)[:, None].repeat(3, axis=1)
    keys_NZ[:14] = 1
    info = IndexInfo(kind=IndexKind.FLAT, num_keys=40, recall=1.0, recall_at=10, effort=0)

    ids_QK, _ = nearest_allowed(
        keys_NZ[:1],
        ArrayKeys(keys_NZ),
        BackwardIndex(keys_NZ),
        info,
        2,
        excluded_QX2=np.array([[[30, 40]]]),
    )

    assert ids_QK.tolist() == [[0, 1]]


def test_the_rule_follows_the_largest_document(tmp_path: Path) -> None:
    many, _ = built(tmp_path / "many", random_texts(10, 10))
    single, _ = built(tmp_path / "single", {"book.txt": "words " * 50})
    mostly, _ = built(tmp_path / "mostly", random_texts(4, 5) | {"book.txt": "words " * 80})
    config = CorpusConfig(chunk_size=SIZE)

    assert resolve_exclusion(many, config) is Exclusion.DOCUMENT
    assert resolve_exclusion(single, config) is Exclusion.WINDOW
    assert resolve_exclusion(mostly, config) is Exclusion.WINDOW
    chosen = CorpusConfig(chunk_size=SIZE, exclusion=Exclusion.DOCUMENT)
    assert resolve_exclusion(single, chosen) is Exclusion.DOCUMENT
