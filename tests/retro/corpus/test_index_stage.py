"""Index and neighbors go on where a build was stopped, and the old ones serve until then."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retro import artifacts
from retro.config.checks import config_to_dict
from retro.config.corpus import CorpusConfig, IndexKind, identifying
from retro.corpus import index_stage as module
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.corpus.files import INDEX_NAME, INDEX_PARTIAL_NAME
from retro.corpus.index_stage import check_neighbors
from retro.errors import ArtifactMismatchError, ArtifactMissingError
from retro.retrieval.scores import SQUARED_L2, Score
from retro.run import create_run
from retro.training.trainer import train
from tests.fakes import HashEmbedder, hash_embedder, random_texts, store_texts
from tests.retro.corpus.builds import (
    CONFIG,
    ROWS,
    build,
    build_until,
    contents,
    many_shards,
    store_small,
)

IVF = replace(CONFIG, index_kind=IndexKind.IVF)


class Work:
    """Which steps of the last stages were really done."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.indexes = 0
        self.searched: list[int] = []
        self._build, self._find = module.build_index, module.find_neighbors
        patch.setattr(module, "build_index", self._build_index)
        patch.setattr(module, "find_neighbors", self._find_neighbors)

    def _build_index(self, *arguments: Any, **named: Any) -> Any:
        self.indexes += 1
        return self._build(*arguments, **named)

    def _find_neighbors(self, *arguments: Any, **named: Any) -> Any:
        self.searched.append(named["chunks"].start)
        return self._find(*arguments, **named)


@pytest.fixture
def corpus_dir(tmp_path: Path) -> Path:
    store_small(tmp_path / "corpus")
    return tmp_path / "corpus"


@pytest.mark.parametrize("config", [CONFIG, IVF])
@pytest.mark.parametrize("num_kept", [0, 1, 2])
def test_only_shards_that_are_missing_are_searched(
    corpus_dir: Path, monkeypatch: pytest.MonkeyPatch, config: Any, num_kept: int
) -> None:
    build(corpus_dir, config)
    expected = contents(corpus_dir)
    for name in ("keys", "index"):
        shutil.rmtree(corpus_dir / name)
    build_until(corpus_dir, "neighbors", (num_kept + 1) * ROWS, config)
    early = Corpus.open(corpus_dir)
    assert not early.has_neighbors
    assert (early.neighbors_CK == -1).all()
    assert early.retriever(embedder=hash_embedder).search_text("some words", 2)
    run = create_run(corpus_dir.parent / f"run-{num_kept}", corpus_dir)
    with pytest.raises(ArtifactMissingError, match="still being found"):
        train(run.path)
    work = Work(monkeypatch)

    build(corpus_dir, config)

    num_chunks = Corpus.open(corpus_dir).database.num_chunks
    assert Corpus.open(corpus_dir).fingerprint == early.fingerprint
    assert work.indexes == 0
    assert work.searched == list(range(num_kept * ROWS, num_chunks, ROWS))
    assert contents(corpus_dir) == expected


def test_one_shard_gives_what_many_give(corpus_dir: Path, tmp_path: Path) -> None:
    build(corpus_dir)
    store_small(tmp_path / "other")
    build_corpus(tmp_path / "other", CONFIG, embedder=hash_embedder)

    many, one = Corpus.open(corpus_dir), Corpus.open(tmp_path / "other")

    assert many.database.num_chunks > 2 * ROWS
    assert np.array_equal(many.neighbors_CK, one.neighbors_CK)
    assert np.array_equal(many.distances_CK, one.distances_CK)


def test_the_old_index_serves_until_the_new_one_is_whole(corpus_dir: Path) -> None:
    build(corpus_dir)
    before = Corpus.open(corpus_dir)
    wanted = replace(CONFIG, num_neighbors=3, index_kind=IndexKind.HNSW)

    build_until(corpus_dir, "neighbors", 3 * ROWS, wanted)

    assert (corpus_dir / INDEX_PARTIAL_NAME).is_dir()
    present = Corpus.open(corpus_dir)
    assert present.fingerprint == before.fingerprint
    retriever = present.retriever(embedder=hash_embedder)
    assert retriever.search_text("some words", 2)
    build(corpus_dir, wanted)
    assert Corpus.open(corpus_dir).neighbors_CK.shape[1] == 3
    assert not (corpus_dir / INDEX_PARTIAL_NAME).exists()


def test_other_neighbors_in_the_same_index_need_no_new_index(
    corpus_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build(corpus_dir, IVF)
    wanted = replace(IVF, num_neighbors=4)
    work = Work(monkeypatch)

    build(corpus_dir, wanted)

    assert work.indexes == 0
    store_small(tmp_path / "fresh")
    build(tmp_path / "fresh", wanted)
    assert contents(corpus_dir) == contents(tmp_path / "fresh")


def test_an_index_of_an_earlier_version_is_built_again(
    corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(corpus_dir)
    manifest = artifacts.read_manifest(corpus_dir / "index", "index")
    settings = {name: value for name, value in manifest.settings.items() if name != "filled"}
    artifacts.write_manifest(
        corpus_dir / "index", "index", content=manifest.fingerprint, settings=settings
    )
    work = Work(monkeypatch)

    build(corpus_dir)
    assert work.indexes == 0
    build(corpus_dir, replace(CONFIG, num_neighbors=4))

    assert work.indexes == 1


def test_what_is_kept_of_other_keys_goes_before_new_keys_come(corpus_dir: Path) -> None:
    build_until(corpus_dir, "neighbors", 3 * ROWS)
    kept = corpus_dir / INDEX_PARTIAL_NAME
    assert len(list(kept.iterdir())) == 3

    build_until(corpus_dir, "embed", 0)
    assert kept.exists()
    build_until(corpus_dir, "embed", 0, replace(CONFIG, chunk_size=9))

    assert not kept.exists()


def test_half_a_shard_is_removed_before_the_next_is_made(corpus_dir: Path) -> None:
    build_until(corpus_dir, "neighbors", 3 * ROWS)
    half = corpus_dir / INDEX_PARTIAL_NAME / ".tmp-neighbors-000000000128-0123abcd"
    half.mkdir()

    build_until(corpus_dir, "neighbors", 3 * ROWS)

    assert not half.exists()
    assert len(list((corpus_dir / INDEX_PARTIAL_NAME).iterdir())) == 3


def test_a_disk_without_links_gets_copies(
    corpus_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store_small(tmp_path / "linked")
    build(tmp_path / "linked")

    def refuse(target: Path, source: Path) -> None:
        raise PermissionError(f"{target} {source}")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    build(corpus_dir)

    assert contents(corpus_dir) == contents(tmp_path / "linked")


@pytest.mark.parametrize("kind", [IndexKind.FLAT, IndexKind.IVF, IndexKind.HNSW])
def test_every_stage_reports_how_far_it_is(corpus_dir: Path, kind: IndexKind) -> None:
    reports: list[tuple[str, int, int]] = []
    with many_shards():
        build_corpus(
            corpus_dir,
            replace(CONFIG, index_kind=kind),
            embedder=hash_embedder,
            on_progress=lambda *at: reports.append(at),
        )

    for stage in ("index", "neighbors"):
        done = [at for name, at, _ in reports if name == stage]
        assert done == sorted(done)
        assert done[0] == 0
        assert done[-1] == [total for name, _, total in reports if name == stage][-1]
    # Training, the longest step, has reports of its own.
    assert len([at for name, at, _ in reports if name == "index"]) > (10 if kind == "ivf" else 2)


@pytest.mark.parametrize(
    ("ids", "distances"),
    [
        ([[0, 10]], [[0.0, 1.0]]),
        ([[0, -2]], [[0.0, 1.0]]),
        ([[0, 1]], [[0.0, -0.5]]),
        ([[0, 1]], [[0.0, np.nan]]),
        ([[0, 1]], [[0.0, np.inf]]),
        ([[0, -1]], [[0.0, 1.0]]),
    ],
)
def test_neighbors_that_cannot_be_are_refused(ids: Any, distances: Any) -> None:
    good = np.array([[0, 9], [3, -1]], np.int32), np.array([[0, 2.5], [1, np.inf]], np.float32)
    check_neighbors(*good, 10, SQUARED_L2)

    with pytest.raises(ArtifactMismatchError, match=r"^(Neighbors|A neighbor) must"):
        check_neighbors(np.array(ids, np.int32), np.array(distances, np.float32), 10, SQUARED_L2)


def test_where_higher_is_nearer_a_missing_neighbor_has_the_lowest_score() -> None:
    score = Score(name="BM25", is_lower_nearer=False, lowest=0.0)
    ids = np.array([[0, -1]], np.int32)

    check_neighbors(ids, np.array([[7.5, -np.inf]], np.float32), 10, score)

    with pytest.raises(ArtifactMismatchError, match="must have a BM25, and a missing one none"):
        check_neighbors(ids, np.array([[7.5, np.inf]], np.float32), 10, score)


@dataclass(frozen=True, kw_only=True, slots=True)
class LaterConfig(CorpusConfig):
    """Settings of a version to come."""

    lexical: bool = False


def test_a_setting_that_comes_later_leaves_a_corpus_what_it_was(
    corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(corpus_dir)
    before = contents(corpus_dir / INDEX_NAME)
    work = Work(monkeypatch)

    build(corpus_dir, LaterConfig(**config_to_dict(CONFIG)))

    assert (work.indexes, work.searched) == (0, [])
    assert contents(corpus_dir / INDEX_NAME) == before
    chosen = config_to_dict(LaterConfig(lexical=True, tokenizer="small"))
    assert identifying(chosen, LaterConfig) == chosen


def test_neighbors_out_of_range_are_never_published(
    corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = module.find_neighbors

    def shifted(*arguments: Any, **named: Any) -> Any:
        ids_NK, distances_NK = find(*arguments, **named)
        return ids_NK + 10_000, distances_NK

    monkeypatch.setattr(module, "find_neighbors", shifted)
    with pytest.raises(ArtifactMismatchError, match="Neighbors must be chunks 0 to"):
        build(corpus_dir)
    assert not Corpus.open(corpus_dir).has_neighbors


def test_keys_keep_their_shards_when_an_index_is_made_again(corpus_dir: Path) -> None:
    embedders: list[HashEmbedder] = []

    def make(tokenizer: Any) -> HashEmbedder:
        embedders.append(hash_embedder(tokenizer))
        return embedders[-1]

    store_texts(corpus_dir, random_texts(8, 50))
    for config in (CONFIG, IVF):
        with many_shards():
            build_corpus(corpus_dir, config, embedder=make)

    assert [embedder.num_embedded > 0 for embedder in embedders] == [True, False]
