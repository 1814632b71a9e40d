"""Reading the retrieval database."""

from pathlib import Path

import numpy as np
import pytest

from retro.artifacts import read_manifest, write_manifest
from retro.config.corpus import CorpusConfig
from retro.corpus.chunk_stage import build_database
from retro.data.database import DATABASE_KIND, NO_NEIGHBOR, RetrievalDatabase
from retro.errors import ArtifactMismatchError, ArtifactMissingError
from tests.fakes import ByteTokenizer, random_texts, store_texts

PAD = 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store_texts(tmp_path, random_texts(9, 6, seed=1))
    build_database(tmp_path, CorpusConfig(chunk_size=4), ByteTokenizer())
    return tmp_path / "database"


@pytest.fixture
def shared(tmp_path: Path) -> RetrievalDatabase:
    """Document 0 has chunks 0 to 2; document 1 has 3 to 6, and 7 is held out."""
    texts = {"a.txt": "aaaabbbbc", "b.txt": "ddddeeeeffffgggghh"}
    store_texts(tmp_path, texts)
    config = CorpusConfig(chunk_size=4)
    build_database(tmp_path, config, ByteTokenizer())
    return RetrievalDatabase.open(tmp_path / "database")


def test_reopening_gives_equal_arrays(folder: Path) -> None:
    first, second = RetrievalDatabase.open(folder), RetrievalDatabase.open(folder)

    assert np.array_equal(first.chunks_CM, second.chunks_CM)
    assert np.array_equal(first.documents_C, second.documents_C)
    assert np.array_equal(first.spans_C2, second.spans_C2)
    assert first.documents == second.documents
    assert first.num_chunks > 9


@pytest.mark.parametrize("name", ["chunks_CM", "documents_C", "spans_C2"])
def test_writing_through_a_reader_is_impossible(folder: Path, name: str) -> None:
    array = getattr(RetrievalDatabase.open(folder), name)

    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_continuation_ends_with_its_document(shared: RetrievalDatabase) -> None:
    ids = np.array([NO_NEIGHBOR, *range(8)])

    #                          none 0  1   2  3  4  5   6   7
    assert shared.continuation_ids(ids).tolist() == [-1, 1, 2, -1, 4, 5, 6, -1, -1]
    assert shared.num_retrievable == 7
    assert shared.documents_C.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]


def test_the_last_chunk_of_the_database_has_no_continuation(folder: Path) -> None:
    database = RetrievalDatabase.open(folder)
    last = database.num_chunks - 1
    assert database.num_retrievable < last

    assert database.continuation_ids(np.array([last - 1, last])).tolist() == [last, NO_NEIGHBOR]


def test_retrieved_values_are_neighbor_and_continuation(shared: RetrievalDatabase) -> None:
    values = shared.retrieved_values(np.array([[0, 2, NO_NEIGHBOR], [6, 7, 5]]))

    assert values.dtype == np.int32
    assert values.shape == (2, 3, 8)
    text = [[ByteTokenizer().decode(row) for row in rows] for rows in values.tolist()]
    assert text == [["aaaabbbb", "c", ""], ["gggg", "hh", "ffffgggg"]]
    assert values[0, 2].tolist() == [PAD] * 8


def test_the_last_chunk_is_not_what_minus_one_means(shared: RetrievalDatabase) -> None:
    values = shared.retrieved_values(np.full((2, 2), NO_NEIGHBOR))

    assert not values.any()


def test_positions_and_ranges(shared: RetrievalDatabase) -> None:
    assert shared.document_chunks(0) == (range(3), range(3, 3))
    assert shared.document_chunks(1) == (range(3, 7), range(7, 8))
    assert shared.chunk_position(4) == (1, 5)
    assert shared.chunk_position(7) == (4, 5)


def test_sequences_stay_in_their_document_and_split(shared: RetrievalDatabase) -> None:
    assert shared.sequence_starts(2, "train").tolist() == [0, 2, 3, 5]
    assert shared.sequence_starts(3, "train").tolist() == [0, 3, 6]
    assert shared.sequence_starts(100, "train").tolist() == [0, 3]
    assert shared.sequence_starts(2, "validation").tolist() == [7]


def test_sequences_cover_every_chunk_once(folder: Path) -> None:
    database = RetrievalDatabase.open(folder)
    length, covered = 3, []
    for split in ("train", "validation"):
        starts = database.sequence_starts(length, split)  # type: ignore[arg-type]  # a literal
        for start in starts.tolist():
            retrievable, held_out = database.document_chunks(int(database.documents_C[start]))
            end = (retrievable if start in retrievable else held_out).stop
            covered += range(start, min(start + length, end))

    assert covered == list(range(database.num_chunks))


def test_a_database_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissingError, match="no finished database"):
        RetrievalDatabase.open(tmp_path / "database")


def test_a_file_of_another_size_is_refused(folder: Path) -> None:
    path = folder / "chunks.npy"
    path.write_bytes(path.read_bytes()[:-4])

    with pytest.raises(ArtifactMismatchError, match=r"chunks\.npy must have \d+ bytes, got \d+"):
        RetrievalDatabase.open(folder)


def test_an_array_of_another_shape_is_refused(folder: Path) -> None:
    manifest = read_manifest(folder, DATABASE_KIND)
    settings = {**manifest.settings, "num_chunks": manifest.settings["num_chunks"] + 1}
    write_manifest(folder, DATABASE_KIND, content=manifest.fingerprint, settings=settings)

    with pytest.raises(ArtifactMismatchError, match=r"chunks\.npy must hold int32 of shape"):
        RetrievalDatabase.open(folder)


def test_missing_settings_are_refused(folder: Path) -> None:
    manifest = read_manifest(folder, DATABASE_KIND)
    del manifest.settings["pad_id"]
    write_manifest(folder, DATABASE_KIND, content=manifest.fingerprint, settings=manifest.settings)

    with pytest.raises(ArtifactMismatchError, match=r"incomplete.*pad_id"):
        RetrievalDatabase.open(folder)
