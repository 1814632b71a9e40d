"""Keys, index and neighbors of raw files: right, kept, resumed, made again when needed."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from retro.errors import ArtifactMismatchError, ArtifactMissingError, ConfigError, ShapeError
from retro.retrieval import (
    chunks_to_index_and_embed,
    chunks_to_precalculated_knn_,
    text_folder_to_chunks_,
)
from retro.retrieval.index_info import KeyCode
from retro.retro_pytorch import index as memmap_index
from retro.retro_pytorch import neighbors as memmaps
from retro.retro_pytorch.encoder import TokenEmbedder
from retro.retro_pytorch.memory import memory_bytes
from retro.retro_pytorch.search import ChunkSearch
from tests.small_bert import CLS, SEP, WIDTH, save_small_bert, write_prose

pytestmark = pytest.mark.usefixtures("small_bert")
M = 16
ROOT = Path(__file__).parents[3]


@pytest.fixture
def stats(tmp_path: Path) -> dict[str, int]:
    """Make raw files of several documents in ``tmp_path``."""
    return process(write_prose(tmp_path / "text", 10, 800), tmp_path)


def process(folder: Path, out: Path) -> dict[str, int]:
    return text_folder_to_chunks_(
        folder=folder,
        chunks_memmap_path=out / "train.chunks.dat",
        seqs_memmap_path=out / "train.seq.dat",
        doc_ids_memmap_path=out / "train.doc_ids.dat",
        chunk_size=M,
        seq_len=4 * M,
    )


def embed(out: Path, num_chunks: int, **changes: Any) -> tuple[Any, NDArray[np.float32]]:
    arguments = {"chunk_memmap_path": str(out / "train.chunks.dat"), "chunk_size": M, **changes}
    return chunks_to_index_and_embed(num_chunks=num_chunks, **arguments)


def neighbors(out: Path, num_chunks: int, **changes: Any) -> NDArray[np.int32]:
    arguments: dict[str, Any] = {
        "num_nearest_neighbors": 2,
        "chunk_size": M,
        "chunk_memmap_path": str(out / "train.chunks.dat"),
        "doc_ids_memmap_path": str(out / "train.doc_ids.dat"),
        **changes,
    }
    path, index = chunks_to_precalculated_knn_(num_chunks=num_chunks, **arguments)
    assert path == out / "train.chunks.knn.dat"
    assert index.ntotal == num_chunks
    return np.fromfile(path, np.int32).reshape(num_chunks, -1)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the rows of every block that is embedded."""
    rows: list[int] = []
    whole = TokenEmbedder.embed

    def count(self: TokenEmbedder, chunks_NM: NDArray[np.int32]) -> NDArray[np.float32]:
        rows.append(len(chunks_NM))
        return whole(self, chunks_NM)

    monkeypatch.setattr(TokenEmbedder, "embed", count)
    return rows


def write_rows(out: Path, rows: NDArray[Any], documents: list[int]) -> int:
    """Write made-up chunks with their documents."""
    np.asarray(rows, np.int32).tofile(out / "train.chunks.dat")
    np.asarray(documents, np.int32).tofile(out / "train.doc_ids.dat")
    return len(rows)


def random_rows(num_chunks: int, seed: int = 0) -> NDArray[np.int32]:
    rng = np.random.default_rng(seed)
    return rng.integers(104, 2000, size=(num_chunks, M + 1)).astype(np.int32)


def test_the_first_hit_is_the_chunk_itself(tmp_path: Path, stats: dict[str, int]) -> None:
    index, embeddings = embed(tmp_path, stats["chunks"])

    assert isinstance(index, faiss.Index)
    assert embeddings.shape == (stats["chunks"], WIDTH)
    assert embeddings.dtype == np.float32
    distances, ids = index.search(embeddings, k=2)
    rows = np.fromfile(tmp_path / "train.chunks.dat", np.int32).reshape(-1, M + 1)[:, :-1]
    # The text holds a few chunks twice.
    assert np.array_equal(rows[ids[:, 0]], rows)
    assert (ids[:, 0] == np.arange(stats["chunks"])).mean() > 0.9
    assert np.abs(distances[:, 0]).max() < 1e-3
    assert isinstance(embeddings, np.memmap)
    assert not embeddings.flags.writeable
    assert (tmp_path / "train.chunks.dat.embedded").stat().st_size == embeddings.nbytes


def test_means_and_first_tokens_are_different_keys(
    tmp_path: Path, stats: dict[str, int], embedded: list[int]
) -> None:
    _, means = embed(tmp_path, stats["chunks"])
    means = np.array(means)
    _, firsts = embed(tmp_path, stats["chunks"], use_cls_repr=True)

    assert np.abs(means - firsts).max() > 0.1
    assert sum(embedded) == 2 * stats["chunks"]


def test_finished_work_is_kept_until_its_inputs_change(
    tmp_path: Path, stats: dict[str, int], embedded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    num_chunks = stats["chunks"]
    _, first = embed(tmp_path, num_chunks)
    first = np.array(first)
    with monkeypatch.context() as patched:
        patched.setattr(memmap_index, "build_index", None)
        _, again = embed(tmp_path, num_chunks)
    assert np.array_equal(again, first)
    assert sum(embedded) == num_chunks

    process(write_prose(tmp_path / "more", 12, 900), tmp_path)  # another corpus, the same name
    _, changed = embed(tmp_path, num_chunks)
    assert sum(embedded) == 2 * num_chunks
    assert not np.array_equal(changed, first)

    other = save_small_bert(tmp_path / "other-bert", seed=3)
    _, others = embed(tmp_path, num_chunks, encoder=other)
    assert sum(embedded) == 3 * num_chunks
    assert not np.array_equal(others, changed)


def test_damaged_work_is_made_again(
    tmp_path: Path, stats: dict[str, int], embedded: list[int]
) -> None:
    num_chunks = stats["chunks"]
    _, first = embed(tmp_path, num_chunks)
    first = np.array(first)
    path = tmp_path / "train.chunks.dat.embedded"
    data = bytearray(path.read_bytes())
    data[1000] ^= 255
    for damage in (bytes(data), bytes(data[:-4]), b""):
        path.write_bytes(damage)
        embedded.clear()
        _, again = embed(tmp_path, num_chunks)
        assert np.array_equal(again, first)
        assert sum(embedded) == num_chunks
    index_path = tmp_path / "train.chunks.dat.index" / "knn.index"
    index_path.write_bytes(index_path.read_bytes()[:-5])
    index, _ = embed(tmp_path, num_chunks)
    assert index.search(first[:1], k=1)[1][0, 0] == 0
    for note in (path.with_name(path.name + ".json"), index_path.with_name("knn.index.json")):
        note.write_text("[]")
    assert np.array_equal(embed(tmp_path, num_chunks)[1], first)


def test_work_is_saved_in_blocks_and_goes_on_after_the_last(
    tmp_path: Path, stats: dict[str, int], embedded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    num_chunks = stats["chunks"]
    _, expected = embed(tmp_path, num_chunks, index_file="a.index")
    expected = np.array(expected)
    (tmp_path / "train.chunks.dat.embedded.json").unlink()
    embedded.clear()
    counted = TokenEmbedder.embed

    def stop_in_third(self: TokenEmbedder, chunks_NM: NDArray[np.int32]) -> NDArray[np.float32]:
        if len(embedded) == 2:
            raise KeyboardInterrupt
        return counted(self, chunks_NM)

    with monkeypatch.context() as patched:
        patched.setattr(TokenEmbedder, "embed", stop_in_third)
        with pytest.raises(KeyboardInterrupt):
            embed(tmp_path, num_chunks, max_rows_per_file=10)
    assert embedded == [10, 10]

    _, resumed = embed(tmp_path, num_chunks, max_rows_per_file=25)

    assert sum(embedded) == num_chunks
    assert max(embedded) == 25
    np.testing.assert_allclose(resumed, expected, atol=0.05)
    assert sorted(path.name for path in tmp_path.glob("train.chunks.dat.embedded*")) == [
        "train.chunks.dat.embedded",
        "train.chunks.dat.embedded.json",
    ]


@pytest.mark.slow
def test_a_killed_process_loses_one_block_at_most(
    tmp_path: Path, stats: dict[str, int], embedded: list[int]
) -> None:
    script = (
        "import os, signal, sys\n"
        "from retro.retrieval import chunks_to_index_and_embed\n"
        "from retro.retro_pytorch.encoder import TokenEmbedder\n"
        "whole, calls = TokenEmbedder.embed, []\n"
        "def embed(self, chunks):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return whole(self, chunks)\n"
        "TokenEmbedder.embed = embed\n"
        "chunks_to_index_and_embed(num_chunks=int(sys.argv[1]), chunk_size=16,\n"
        "    chunk_memmap_path=sys.argv[2], max_rows_per_file=10)\n"
    )
    path = str(tmp_path / "train.chunks.dat")
    killed = subprocess.run(
        [sys.executable, "-c", script, str(stats["chunks"]), path],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, capture_output=True,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # What was not noted as done may be half-written.
    with (tmp_path / "train.chunks.dat.embedded.partial").open("ab") as file:
        file.write(b"half a row")

    index, embeddings = embed(tmp_path, stats["chunks"])

    assert sum(embedded) == stats["chunks"] - 30
    for row in range(stats["chunks"]):
        assert index.search(embeddings[row : row + 1], k=1)[0][0, 0] == 0


def test_a_partial_file_of_other_chunks_is_not_continued(
    tmp_path: Path, stats: dict[str, int], embedded: list[int]
) -> None:
    note = {"fingerprint": "of something else", "rows": 10}
    (tmp_path / "train.chunks.dat.embedded.partial").write_bytes(bytes(10 * WIDTH * 4))
    (tmp_path / "train.chunks.dat.embedded.partial.json").write_text(json.dumps(note))

    _, embeddings = embed(tmp_path, stats["chunks"])

    assert sum(embedded) == stats["chunks"]
    assert embeddings[:10].any(axis=1).all()


def test_files_are_read_only_and_never_grow(tmp_path: Path, stats: dict[str, int]) -> None:
    names = ("train.chunks.dat", "train.doc_ids.dat", "train.seq.dat")
    before = [(tmp_path / name).read_bytes() for name in names]
    for name in names:
        (tmp_path / name).chmod(0o444)

    neighbors(tmp_path, stats["chunks"])
    with pytest.raises(
        ArtifactMismatchError,
        match=f"at most the {stats['chunks']} rows .*, got {stats['chunks'] + 1}",
    ):
        embed(tmp_path, stats["chunks"] + 1)
    with pytest.raises(ArtifactMismatchError, match="num_chunks must be at most"):
        neighbors(tmp_path, stats["chunks"] + 1)

    assert [(tmp_path / name).read_bytes() for name in names] == before


def test_fewer_chunks_than_the_file_holds_can_be_used(
    tmp_path: Path, stats: dict[str, int]
) -> None:
    assert stats["chunks"] > 50
    index, embeddings = embed(tmp_path, 50)

    assert index.ntotal == len(embeddings) == 50
    assert neighbors(tmp_path, 50).max() < 50


def test_wrong_arguments_are_refused(tmp_path: Path, stats: dict[str, int]) -> None:
    num = stats["chunks"]
    with pytest.raises(ConfigError, match=r"embed_dim must be 32, .* got 768"):
        embed(tmp_path, num, embed_dim=768)
    with pytest.raises(ConfigError, match="index_file must be a file name"):
        embed(tmp_path, num, index_file="../knn.index")
    with pytest.raises(ConfigError, match="max_rows_per_file must be a whole number"):
        embed(tmp_path, num, max_rows_per_file=0)
    for size in ("much", "-1", 0, "1 X", True):
        with pytest.raises(ConfigError, match="max_index_memory_usage must be a size like"):
            embed(tmp_path, num, max_index_memory_usage=size)
    with pytest.raises(ConfigError, match="num_chunks must be a whole number between 1"):
        embed(tmp_path, 0)
    with pytest.raises(ArtifactMissingError, match=r"no file '.*other\.dat'"):
        embed(tmp_path, num, chunk_memmap_path=tmp_path / "other.dat")
    np.zeros(512, np.int32).tofile(tmp_path / "long.dat")
    with pytest.raises(ConfigError, match="chunk_size must be at most 510"):
        embed(tmp_path, 1, chunk_size=511, chunk_memmap_path=tmp_path / "long.dat")
    assert not (tmp_path / "train.chunks.dat.embedded").exists()
    with pytest.raises(ArtifactMismatchError, match="rows of 72 bytes"):
        embed(tmp_path, num, chunk_size=17)


def test_chunks_of_another_vocabulary_are_refused(tmp_path: Path) -> None:
    rows = random_rows(20)
    rows[7, 3] = 28_000
    write_rows(tmp_path, rows, [0] * 20)

    with pytest.raises(ShapeError, match=r"below 8192, the vocabulary .*, got 28000"):
        embed(tmp_path, 20)


def test_memory_sizes_are_understood() -> None:
    sizes = {"100m": 100 * 2**20, "1G": 2**30, "1.5GB": 3 * 2**29, "2 MiB": 2**21, 4096: 4096}
    assert {size: memory_bytes("x", size) for size in sizes} == sizes
    assert memory_bytes("x", "512") == 512


def test_a_small_index_is_built_where_memory_is_short_and_neighbors_stay_right(
    tmp_path: Path,
) -> None:
    num = write_rows(tmp_path, random_rows(400), [row // 4 for row in range(400)])
    exact = neighbors(tmp_path, num)
    full, _ = embed(tmp_path, num)
    assert isinstance(full, faiss.IndexFlat)

    index, _ = embed(tmp_path, num, max_index_memory_usage="45k")
    assert isinstance(index, faiss.IndexIVFPQ)
    assert faiss.serialize_index(index).nbytes <= 45 * 2**10
    found = neighbors(tmp_path, num, max_index_memory_usage="45k", num_extra_neighbors=100)

    assert (found == exact).mean() > 0.9
    with pytest.raises(ConfigError, match="max_index_memory_usage must be at least"):
        embed(tmp_path, num, max_index_memory_usage="1k")
    with pytest.raises(ConfigError, match="current_memory_available must be at least"):
        embed(tmp_path, num, current_memory_available="1k")


def literal_neighbors(
    embeddings: NDArray[np.float32], documents: list[int], k: int
) -> list[list[int]]:
    rows = []
    for query, own in zip(embeddings.astype(np.float64), documents, strict=True):
        distance = [
            (float(np.square(query - key).sum()), row)
            for row, key in enumerate(embeddings.astype(np.float64))
            if documents[row] != own
        ]
        rows.append(([row for _, row in sorted(distance)] + [-1] * k)[:k])
    return rows


def test_neighbors_are_the_nearest_of_other_documents(
    tmp_path: Path, stats: dict[str, int]
) -> None:
    found = neighbors(tmp_path, stats["chunks"], num_nearest_neighbors=3)
    _, embeddings = embed(tmp_path, stats["chunks"])
    documents = np.fromfile(tmp_path / "train.doc_ids.dat", np.int32).tolist()

    assert found.tolist() == literal_neighbors(np.array(embeddings), documents, 3)
    assert found.dtype == np.int32


def test_a_duplicate_is_a_neighbor_and_the_chunk_itself_is_not(tmp_path: Path) -> None:
    rows = random_rows(12)
    rows[6] = rows[9] = rows[2]
    num = write_rows(tmp_path, rows, list(range(12)))

    found = neighbors(tmp_path, num)

    assert [sorted(found[row].tolist()) for row in (2, 6, 9)] == [[6, 9], [2, 9], [2, 6]]
    assert not (found == np.arange(12)[:, None]).any()


def test_where_there_is_no_neighbor_there_is_minus_one(tmp_path: Path) -> None:
    num = write_rows(tmp_path, random_rows(4), [0, 0, 1, 1])

    found = neighbors(tmp_path, num, num_nearest_neighbors=5)

    assert sorted(found[0, :2].tolist()) == [2, 3]
    assert sorted(found[3, :2].tolist()) == [0, 1]
    assert (found[:, 2:] == -1).all()


def test_far_keys_do_not_beat_the_exclusion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Distances above a thousand, which a large number in place of infinity would not exceed.
    whole = TokenEmbedder.embed
    monkeypatch.setattr(TokenEmbedder, "embed", lambda self, chunks: 100 * whole(self, chunks))
    num = write_rows(tmp_path, random_rows(40), [row // 10 for row in range(40)])

    found = neighbors(tmp_path, num)

    documents = np.arange(40) // 10
    assert found.min() >= 0
    assert (documents[found] != documents[:, None]).all()


@pytest.mark.parametrize("documents", [[0] * 60, [0] * 40 + [1] * 20])
def test_a_corpus_of_one_document_excludes_what_is_near(
    tmp_path: Path, documents: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    num = write_rows(tmp_path, random_rows(60), documents)

    with caplog.at_level(logging.WARNING):
        found = neighbors(tmp_path, num, exclusion_window=5 * M)

    assert "one document holds more than half" in caplog.text
    assert found.min() >= 0
    same = np.array(documents)[found] == np.array(documents)[:, None]
    assert (np.abs(found - np.arange(60)[:, None])[same] > 5).all()
    assert same.any()


def test_a_document_shorter_than_the_window_says_that_neighbors_are_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    num = write_rows(tmp_path, random_rows(10), [0] * 10)

    with caplog.at_level(logging.WARNING):
        found = neighbors(tmp_path, num)

    assert (found == -1).all()
    assert "10 of 10 chunks have fewer than 2 neighbors" in caplog.text


def test_document_ids_may_have_gaps_but_must_not_fall(tmp_path: Path) -> None:
    num = write_rows(
        tmp_path, random_rows(6), [3, 3, 900_000_000, 900_000_000, 2**31 - 1, 2**31 - 1]
    )
    assert neighbors(tmp_path, num).min() >= 0
    write_rows(tmp_path, random_rows(6), [0, 0, 1, 1, 0, 2])

    with pytest.raises(ArtifactMismatchError, match="never fall, got 0 after 1 in row 4"):
        neighbors(tmp_path, num)


def test_neighbors_are_kept_until_their_inputs_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num = write_rows(tmp_path, random_rows(40), [row // 10 for row in range(40)])
    calls: list[int] = []
    whole = memmaps.find_neighbors

    def count(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return whole(*args, **kwargs)

    monkeypatch.setattr(memmaps, "find_neighbors", count)
    first = neighbors(tmp_path, num)
    assert np.array_equal(neighbors(tmp_path, num), first)
    assert len(calls) == 1
    firsts = neighbors(tmp_path, num, use_cls_repr=True)
    assert len(calls) == 2, "use_cls_repr is passed on"
    assert not np.array_equal(firsts, first)
    neighbors(tmp_path, num)
    assert len(calls) == 3
    write_rows(tmp_path, random_rows(40), [row // 5 for row in range(40)])
    neighbors(tmp_path, num)
    assert len(calls) == 4, "other documents"
    write_rows(tmp_path, random_rows(40, seed=1), [row // 5 for row in range(40)])
    other = neighbors(tmp_path, num)
    assert len(calls) == 5, "other chunks"
    assert not np.array_equal(other, first)
    neighbors(tmp_path, num, num_nearest_neighbors=3)
    neighbors(tmp_path, num, num_nearest_neighbors=3, num_extra_neighbors=20)
    assert len(calls) == 7
    path = tmp_path / "train.chunks.knn.dat"
    path.write_bytes(b"\0" * path.stat().st_size)
    assert neighbors(tmp_path, num, num_nearest_neighbors=3, num_extra_neighbors=20).any()
    assert len(calls) == 8


def test_force_makes_everything_again(
    tmp_path: Path, stats: dict[str, int], embedded: list[int]
) -> None:
    neighbors(tmp_path, stats["chunks"])
    neighbors(tmp_path, stats["chunks"], force_reprocess=True)

    assert sum(embedded) == 2 * stats["chunks"]


def test_extra_candidates_are_asked_from_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num = write_rows(tmp_path, random_rows(200), list(range(200)))
    asked: list[int] = []
    search = memmap_index.Index.search

    def listen(self: memmap_index.Index, queries: Any, num_results: int) -> Any:
        asked.append(num_results)
        return search(self, queries, num_results)

    monkeypatch.setattr(memmap_index.Index, "search", listen)
    neighbors(tmp_path, num, num_extra_neighbors=70)

    assert min(asked) >= 72


def test_a_query_is_embedded_as_the_database_is(tmp_path: Path, stats: dict[str, int]) -> None:
    settings = memmap_index.IndexSettings()
    made = memmap_index.index_chunks(tmp_path / "train.chunks.dat", stats["chunks"], M, settings)
    rows = np.unique(np.array(made.rows_CW)[:, :-1], axis=0)
    search = ChunkSearch(made, num_neighbors=1, num_extra=0)

    found = search.retrieved(rows)

    assert np.array_equal(found[:, 0, :M], rows), "every chunk finds itself"
    ends = (rows == SEP).any(axis=1)
    assert not found[ends, 0, M:].any()
    assert found[~ends, 0, M:].any(axis=1).mean() > 0.9
    first = search.retrieved(made.rows_CW[:1, :-1])[0, 0]
    assert first.tolist() == made.rows_CW[:2, :-1].reshape(-1).tolist()
    assert first[0] == CLS
    assert not search.retrieved(np.zeros((1, M), np.int64)).any(), "nothing has no neighbors"
    # A model may know more ids than the encoder.
    assert search.retrieved(np.full((1, M), 28_000)).any()


def test_faiss_that_finds_nothing_gives_padding(tmp_path: Path) -> None:
    num = write_rows(tmp_path, random_rows(3), [0, 1, 2])
    made = memmap_index.index_chunks(
        tmp_path / "train.chunks.dat", num, M, memmap_index.IndexSettings()
    )

    found = ChunkSearch(made, num_neighbors=5, num_extra=0).retrieved(random_rows(1)[:, :-1])

    assert found.shape == (1, 5, 2 * M)
    assert found[0, :3].any(axis=-1).all()
    assert not found[0, 3:].any()


def test_code_of_the_index_is_part_of_its_identity(tmp_path: Path) -> None:
    num = write_rows(tmp_path, random_rows(400), list(range(400)))
    assert isinstance(embed(tmp_path, num)[0], faiss.IndexFlat)
    assert isinstance(embed(tmp_path, num, max_index_memory_usage="45k")[0], faiss.IndexIVFPQ)
    assert isinstance(embed(tmp_path, num)[0], faiss.IndexFlat)
    note = json.loads((tmp_path / "train.chunks.dat.index" / "knn.index.json").read_text())
    assert note["info"]["code"] == KeyCode.FULL
