"""Keys are written once, checked when resumed, and never mixed."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retro.config.corpus import CorpusConfig
from retro.corpus import embed_stage as module
from retro.corpus.chunk_stage import build_database
from retro.corpus.embed_stage import embed_database
from retro.data.database import RetrievalDatabase
from retro.errors import ArtifactMismatchError, ArtifactMissingError
from retro.retrieval.keys import KeyStore, shard_name
from tests.fakes import ByteTokenizer, HashEmbedder, random_texts, store_texts

ROWS = 16


class StopHereError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def corpus_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "ROWS_PER_SHARD", ROWS)
    store_texts(tmp_path, random_texts(12, 10))
    build_database(tmp_path, CorpusConfig(chunk_size=4), ByteTokenizer())
    return tmp_path


def all_keys(corpus_dir: Path) -> NDArray[np.float32]:
    keys = KeyStore.open(corpus_dir / "keys")
    return keys.gather(np.arange(int(keys.starts[-1])))


def test_every_chunk_has_its_key_in_its_row(corpus_dir: Path) -> None:
    database = RetrievalDatabase.open(corpus_dir / "database")
    embedder = HashEmbedder(258)

    embed_database(corpus_dir, embedder)

    keys = KeyStore.open(corpus_dir / "keys")
    assert len(keys.shards) > 5
    assert database.num_retrievable in keys.starts.tolist()
    np.testing.assert_array_equal(all_keys(corpus_dir), embedder.embed(database.chunks_CM))
    ids = np.array([[0, database.num_chunks - 1], [ROWS, ROWS - 1]])
    np.testing.assert_array_equal(keys.gather(ids), embedder.embed(database.chunks_CM)[ids])
    blocks = list(keys.blocks(3, 50, 20))
    assert [(first, len(rows)) for first, rows in blocks] == [(3, 20), (23, 20), (43, 7)]


def test_an_interrupted_run_goes_on_from_whole_shards(corpus_dir: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        assert (stage, total > 0) == ("embed", True)
        if done >= 3 * ROWS:
            raise StopHereError

    with pytest.raises(StopHereError):
        embed_database(corpus_dir, HashEmbedder(258), stop)
    with pytest.raises(ArtifactMissingError, match="no finished keys"):
        KeyStore.open(corpus_dir / "keys")

    second = HashEmbedder(258)
    embed_database(corpus_dir, second)

    num_chunks = RetrievalDatabase.open(corpus_dir / "database").num_chunks
    # The third shard was embedded, but the process ended before it was written.
    assert second.num_embedded == num_chunks - 2 * ROWS


@pytest.mark.parametrize("damage", ["truncated", "bit", "sidecar", "no sidecar", "no shard"])
def test_a_damaged_shard_is_made_again(corpus_dir: Path, damage: str) -> None:
    embed_database(corpus_dir, HashEmbedder(258))
    before = all_keys(corpus_dir)
    shard = corpus_dir / "keys" / shard_name(ROWS)
    sidecar = shard.with_suffix(".json")
    data = bytearray(shard.read_bytes())
    if damage == "truncated":
        shard.write_bytes(data[:-5])
    elif damage == "bit":
        data[-3] ^= 1
        shard.write_bytes(data)
    elif damage == "sidecar":
        sidecar.write_text("{")
    else:
        (shard if damage == "no shard" else sidecar).unlink()

    again = HashEmbedder(258)
    embed_database(corpus_dir, again)

    assert again.num_embedded == ROWS
    np.testing.assert_array_equal(all_keys(corpus_dir), before)


def test_shards_of_another_embedder_or_other_chunks_are_not_used(corpus_dir: Path) -> None:
    embed_database(corpus_dir, HashEmbedder(258))

    wider = HashEmbedder(258, width=5)
    embed_database(corpus_dir, wider)
    assert wider.num_embedded == len(all_keys(corpus_dir))
    assert KeyStore.open(corpus_dir / "keys").width == 5

    build_database(corpus_dir, CorpusConfig(chunk_size=5), ByteTokenizer())
    recut = HashEmbedder(258, width=5)
    embed_database(corpus_dir, recut)
    assert recut.num_embedded == len(all_keys(corpus_dir))


def test_shards_of_a_longer_database_are_removed(corpus_dir: Path) -> None:
    embed_database(corpus_dir, HashEmbedder(258))
    before = len(list((corpus_dir / "keys").iterdir()))

    build_database(corpus_dir, CorpusConfig(chunk_size=16), ByteTokenizer())
    embed_database(corpus_dir, HashEmbedder(258))

    keys = KeyStore.open(corpus_dir / "keys")
    files = len(list((corpus_dir / "keys").iterdir()))
    assert files == 2 * len(keys.shards) + 1
    assert files < before


def test_keys_that_are_being_made_again_are_not_for_reading(corpus_dir: Path) -> None:
    embed_database(corpus_dir, HashEmbedder(258))

    def stop(stage: str, done: int, total: int) -> None:
        raise StopHereError((stage, done, total))

    with pytest.raises(StopHereError):
        embed_database(corpus_dir, HashEmbedder(258, width=5), stop)
    with pytest.raises(ArtifactMissingError, match="no finished keys"):
        KeyStore.open(corpus_dir / "keys")


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_keys_that_find_nothing_are_refused(corpus_dir: Path, bad: float) -> None:
    class BadEmbedder(HashEmbedder):
        def embed(self, chunks_NM: NDArray[np.int32]) -> NDArray[np.float32]:
            keys_NZ = super().embed(chunks_NM)
            keys_NZ[-1] = bad
            return keys_NZ

    with pytest.raises(ArtifactMismatchError, match="zero or not finite"):
        embed_database(corpus_dir, BadEmbedder(258))


def test_a_shard_of_another_size_is_refused_by_readers(corpus_dir: Path) -> None:
    embed_database(corpus_dir, HashEmbedder(258))
    np.save(corpus_dir / "keys" / shard_name(0), np.zeros((3, 3), np.float32))

    with pytest.raises(ArtifactMismatchError, match=r"keys-000000000000\.npy must have"):
        KeyStore.open(corpus_dir / "keys")


def test_no_crash_loses_a_finished_shard(corpus_dir: Path) -> None:
    """Every place where a process can end leaves only whole shards or ones made again."""
    done: list[int] = []
    embed_database(corpus_dir, HashEmbedder(258), lambda _stage, at, _total: done.append(at))
    expected = all_keys(corpus_dir)
    reports = len(done)
    assert reports > 10

    for limit in range(reports):
        count = 0

        def stop(stage: str, done: int, total: int, limit: int = limit) -> None:
            nonlocal count
            count += 1
            if count > limit:
                raise StopHereError((stage, done, total))

        for shard in (corpus_dir / "keys").glob("keys-*"):
            shard.unlink()
        with pytest.raises(StopHereError):
            embed_database(corpus_dir, HashEmbedder(258), stop)
        embed_database(corpus_dir, HashEmbedder(258))
        np.testing.assert_array_equal(all_keys(corpus_dir), expected)
