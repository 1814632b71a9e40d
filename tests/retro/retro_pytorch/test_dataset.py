"""Sequences hold one document, neighbors end with theirs, and no file is changed."""

import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from retro import RETRODataset
from retro.errors import ArtifactMismatchError, ArtifactMissingError, ConfigError

EOS = 102
M = 4
# Two documents of 3 and 2 chunks; the end token of the first is only in the last column.
ROWS = np.array(
    [
        [101, 11, 12, 13, 14],
        [14, 15, 16, 17, 18],
        [18, 19, 20, 21, EOS],
        [101, 31, 32, 33, 34],
        [34, 35, EOS, 0, 0],
    ],
    dtype=np.int32,
)
NEIGHBORS = np.array([[3, 4], [4, -1], [-1, -1], [0, 2], [1, 0]], dtype=np.int32)
STARTS = np.array([0, 2, 3], dtype=np.int32)


def write_files(
    folder: Path,
    rows: NDArray[Any] = ROWS,
    neighbors: NDArray[Any] = NEIGHBORS,
    starts: NDArray[Any] = STARTS,
) -> dict[str, Any]:
    """Write raw files and return the arguments that describe them."""
    rows.tofile(folder / "chunks.dat")
    neighbors.tofile(folder / "knn.dat")
    starts.tofile(folder / "seq.dat")
    return {
        "num_chunks": len(rows),
        "chunk_size": rows.shape[1] - 1,
        "seq_len": 2 * (rows.shape[1] - 1),
        "num_sequences": len(starts),
        "num_neighbors": neighbors.shape[1],
        "chunk_memmap_path": folder / "chunks.dat",
        "chunk_nn_memmap_path": str(folder / "knn.dat"),
        "seq_memmap_path": folder / "seq.dat",
    }


def test_items_hold_the_sequence_and_its_neighbors(tmp_path: Path) -> None:
    dataset = RETRODataset(**write_files(tmp_path))

    seq, retrieved = dataset[0]

    assert seq.tolist() == [101, 11, 12, 13, 14, 15, 16, 17, 18]
    assert seq.dtype == retrieved.dtype == torch.int64
    assert retrieved.shape == (2, 2, 8)
    assert retrieved[0].tolist() == [
        [101, 31, 32, 33, 34, 35, EOS, 0],  # row 3 and the row after it
        [34, 35, EOS, 0, 0, 0, 0, 0],  # row 4 ends its document
    ]
    assert retrieved[1, 1].tolist() == [0] * 8, "-1 is padding, not row 0"


def test_a_sequence_ends_with_its_document_wherever_the_end_token_is(tmp_path: Path) -> None:
    dataset = RETRODataset(**write_files(tmp_path))

    seq, retrieved = dataset[1]  # begins in row 2, whose last column holds the end token

    assert seq.tolist() == [18, 19, 20, 21, EOS, 0, 0, 0, 0]
    assert not retrieved[1].any(), "neighbors of the next document's chunk"
    seq, _ = dataset[2]
    assert seq.tolist() == [101, 31, 32, 33, 34, 35, EOS, 0, 0]


def test_a_continuation_ends_with_its_document(tmp_path: Path) -> None:
    dataset = RETRODataset(**write_files(tmp_path))

    _, retrieved = dataset[2]

    assert retrieved[0, 0].tolist() == [101, 11, 12, 13, 14, 15, 16, 17]
    assert retrieved[0, 1].tolist() == [18, 19, 20, 21, 0, 0, 0, 0]


def test_the_last_row_has_no_continuation(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[4] = [41, 42, 43, 44, 45]
    dataset = RETRODataset(**write_files(tmp_path, rows=rows))

    _, retrieved = dataset[0]

    assert retrieved[0, 1].tolist() == [41, 42, 43, 44, 0, 0, 0, 0]


def test_without_continuations_values_are_one_chunk_long(tmp_path: Path) -> None:
    dataset = RETRODataset(**write_files(tmp_path), add_continuations=False)

    _, retrieved = dataset[0]

    assert retrieved.shape == (2, 2, M)
    assert retrieved[0, 0].tolist() == [101, 31, 32, 33]


def test_end_and_padding_ids_can_be_others(tmp_path: Path) -> None:
    dataset = RETRODataset(**write_files(tmp_path), eos_id=13, pad_id=7)

    seq, retrieved = dataset[0]

    assert seq.tolist() == [101, 11, 12, 13, 7, 7, 7, 7, 7]
    assert (retrieved[1] == 7).all()
    assert RETRODataset(**write_files(tmp_path), pad_id=0.0).pad_id == 0  # as people write it


def reference_item(
    rows: NDArray[Any], neighbors: NDArray[Any], start: int, num_chunks: int
) -> tuple[list[int], list[list[list[int]]]]:
    """Read a sequence token by token."""
    size = rows.shape[1] - 1
    tokens: list[int] = []
    values: list[list[list[int]]] = []
    ended = False
    for row in range(start, start + num_chunks):
        exists = row < len(rows)
        value = [[0] * (2 * size) for _ in range(neighbors.shape[1])]
        if exists and not ended:
            for rank, neighbor in enumerate(neighbors[row]):
                if neighbor >= 0:
                    after = neighbor + 1
                    stops = EOS in rows[neighbor] or after == len(rows)
                    rest = [0] * size if stops else rows[after, :-1].tolist()
                    value[rank] = rows[neighbor, :-1].tolist() + rest
        values.append(value)
        for token in rows[row, :-1].tolist() if exists else [0] * size:
            tokens.append(0 if ended else token)
            ended = ended or token == EOS
    last = start + num_chunks - 1
    tokens.append(int(rows[last, -1]) if last < len(rows) and not ended else 0)
    # The end token may be in the last column of the last row alone.
    if last >= len(rows) and not ended and rows[-1, -1] == EOS:
        tokens[(len(rows) - start) * size] = EOS
    return tokens, values


def test_random_files_agree_with_reading_token_by_token(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    met = {"eos": 0, "short": 0}
    for trial in range(20):
        tokens = rng.choice([*range(1, 100), EOS], size=30 * 8 + 1, p=[0.0097] * 99 + [0.0397])
        rows = np.stack([tokens[i * 8 : i * 8 + 9] for i in range(30)]).astype(np.int32)
        neighbors = rng.integers(-1, 30, size=(30, 3)).astype(np.int32)
        starts = rng.integers(0, 30, size=6).astype(np.int32)
        folder = tmp_path / str(trial)
        folder.mkdir()
        arguments = {**write_files(folder, rows, neighbors, starts), "seq_len": 32}
        dataset = RETRODataset(**arguments)
        for number, start in enumerate(starts.tolist()):
            seq, retrieved = dataset[number]
            expected_seq, expected_retrieved = reference_item(rows, neighbors, start, 4)
            assert retrieved.tolist() == expected_retrieved
            assert seq.tolist() == expected_seq
            met["short"] += start + 4 > 30
            met["eos"] += EOS in expected_seq
    assert min(met.values()) > 0


def test_reading_changes_no_byte_and_cannot(tmp_path: Path) -> None:
    arguments = write_files(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    dataset = RETRODataset(**arguments)

    for number in range(len(dataset)):
        dataset[number]

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(ValueError, match="read-only"):
        dataset._open()[0][0, 0] = 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_worker_processes_read_the_same(tmp_path: Path, method: str) -> None:
    dataset = RETRODataset(**write_files(tmp_path))
    alone = [dataset[number] for number in range(3)]
    context = multiprocessing.get_context(method)

    loader = DataLoader(dataset, batch_size=1, num_workers=2, multiprocessing_context=context)
    items = list(loader)

    for (seq, retrieved), (seqs, values) in zip(alone, items, strict=True):
        assert torch.equal(seqs[0], seq)
        assert torch.equal(values[0], retrieved)


def test_a_pickled_dataset_holds_no_data_and_works(tmp_path: Path) -> None:
    rows = np.tile(ROWS, (100, 1))
    dataset = RETRODataset(**write_files(tmp_path, rows, np.tile(NEIGHBORS, (100, 1))))
    pickled = pickle.dumps(dataset)

    assert len(pickled) < 2000
    assert torch.equal(pickle.loads(pickled)[0][0], dataset[0][0])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_chunks", 6, "num_chunks must be at most the 5 rows that chunks.dat holds, got 6"),
        ("num_sequences", 4, "num_sequences must be at most the 3 rows that seq.dat holds, got 4"),
        ("chunk_size", 8, r"chunks.dat must consist of rows of 36 bytes .* got 100 bytes"),
        ("num_neighbors", 3, r"knn.dat must consist of rows of 12 bytes .* got 40 bytes"),
        ("num_neighbors", 4, r"knn.dat must consist of rows of 16 bytes .* got 40 bytes"),
        ("num_neighbors", 5, "num_chunks must be at most the 2 rows that knn.dat holds, got 5"),
    ],
)
def test_files_that_are_not_as_said_are_refused_at_once(
    tmp_path: Path, name: str, value: int, message: str
) -> None:
    arguments = {**write_files(tmp_path), name: value}

    with pytest.raises(ArtifactMismatchError, match=message):
        RETRODataset(**arguments)
    assert (tmp_path / "knn.dat").stat().st_size == NEIGHBORS.nbytes


def test_wrong_numbers_are_refused(tmp_path: Path) -> None:
    arguments = write_files(tmp_path)

    with pytest.raises(ConfigError, match=r"seq_len must be a multiple of chunk_size, got 9 and 4"):
        RETRODataset(**{**arguments, "seq_len": 9})
    with pytest.raises(ConfigError, match="num_chunks must be a whole number between 1"):
        RETRODataset(**{**arguments, "num_chunks": 0})
    with pytest.raises(ConfigError, match=r"num_neighbors must be a whole number.*got '2'"):
        RETRODataset(**{**arguments, "num_neighbors": "2"})
    with pytest.raises(ArtifactMissingError, match=r"no file '.*nothing.dat'"):
        RETRODataset(**{**arguments, "seq_memmap_path": tmp_path / "nothing.dat"})
    with pytest.raises(IndexError):
        RETRODataset(**arguments)[3]


@pytest.mark.parametrize("wrong", [5, -2])
def test_a_neighbor_that_is_no_chunk_is_refused(tmp_path: Path, wrong: int) -> None:
    neighbors = NEIGHBORS.copy()
    neighbors[1, 0] = wrong
    dataset = RETRODataset(**write_files(tmp_path, neighbors=neighbors))

    with pytest.raises(ArtifactMismatchError, match=rf"below num_chunks = 5, got {wrong}"):
        dataset[0]


@pytest.mark.parametrize("wrong", [5, -1])
def test_a_sequence_that_begins_outside_is_refused_at_once(tmp_path: Path, wrong: int) -> None:
    starts = np.array([0, wrong], dtype=np.int32)

    with pytest.raises(ArtifactMismatchError, match=rf"first chunks .*, got {wrong}"):
        RETRODataset(**write_files(tmp_path, starts=starts))
