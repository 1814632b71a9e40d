"""Training sequences hold each document once, in order, with the neighbors of its chunks."""

import itertools

import numpy as np
import pytest

from retro.data.dataset import SequenceDataset, SequenceOrder
from retro.errors import ConfigError
from retro.retrieval.corpus import Corpus


def make_dataset(corpus: Corpus, split: str = "train", **changes: int) -> SequenceDataset:
    sizes = {"sequence_length": 24, "num_neighbors": 2, **changes}
    return SequenceDataset(corpus.database, corpus.neighbors_CK, split=split, **sizes)  # type: ignore[arg-type]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_sequences_hold_every_token_once_and_end_with_the_end_token(
    corpus: Corpus, split: str
) -> None:
    dataset, database = make_dataset(corpus, split), corpus.database
    sequences, _ = dataset.batch(np.arange(len(dataset)))

    found: dict[int, list[int]] = {}
    for start, row in zip(dataset.starts_N, sequences, strict=True):
        found.setdefault(int(database.documents_C[start]), []).extend(
            token for token in row[:-1].tolist() if token != database.pad_id
        )

    expected = {}
    for document_id, record in enumerate(database.documents):
        if record.split == split:
            text = (corpus.folder / "documents" / record.path).read_bytes().decode()
            expected[document_id] = corpus.tokenizer.encode(text)
    assert expected
    for document_id, tokens in found.items():
        without_end = [token for token in tokens if token != database.eos_id]
        assert without_end == expected[document_id]
    assert set(found) == set(expected)
    ends = (sequences == database.eos_id).sum(1)
    assert ends.sum() == len(expected)


def test_the_last_label_is_the_next_token_of_the_document(corpus: Corpus) -> None:
    dataset, database = make_dataset(corpus, sequence_length=8), corpus.database
    sequences, _ = dataset.batch(np.arange(len(dataset)))

    checked = 0
    for start, row in zip(dataset.starts_N, sequences, strict=True):
        position, total = database.chunk_position(int(start))
        if position + 1 < total:
            assert row[-1] == database.chunks_CM[start + 1, 0]
            checked += 1
    assert checked > len(sequences) / 2


def test_retrieved_values_are_those_of_the_neighbors_file(corpus: Corpus) -> None:
    dataset, database = make_dataset(corpus), corpus.database
    _, retrieved = dataset.batch(np.arange(len(dataset)))

    assert retrieved.shape == (len(dataset), 3, 2, 16)
    for row, start in enumerate(dataset.starts_N):
        for index in range(3):
            chunk = int(start) + index
            inside = (
                chunk < database.num_chunks
                and database.documents_C[chunk] == database.documents_C[start]
            )
            for rank in range(2):
                neighbor = int(corpus.neighbors_CK[chunk, rank]) if inside else -1
                expected = np.zeros(16, dtype=np.int64)
                if neighbor >= 0:
                    assert database.documents_C[neighbor] != database.documents_C[chunk]
                    expected[:8] = database.chunks_CM[neighbor]
                    following = neighbor + 1
                    if (
                        following < database.num_retrievable
                        and database.documents_C[following] == database.documents_C[neighbor]
                    ):
                        expected[8:] = database.chunks_CM[following]
                assert retrieved[row, index, rank].tolist() == expected.tolist()
    assert (retrieved != 0).mean() > 0.5


def test_fewer_neighbors_than_stored_are_the_nearest(corpus: Corpus) -> None:
    one, two = make_dataset(corpus, num_neighbors=1), make_dataset(corpus)
    rows = np.arange(len(one))

    assert np.array_equal(one.batch(rows)[1][:, :, 0], two.batch(rows)[1][:, :, 0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequence_length": 20}, "multiple of the corpus's chunk size of 8 tokens, got 20"),
        ({"num_neighbors": 3}, "at most the 2 .* got 3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    corpus: Corpus, changes: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_dataset(corpus, **changes)


def test_the_order_visits_every_sequence_once_per_epoch_and_depends_on_the_place_alone() -> None:
    order = SequenceOrder(7, seed=3)
    long = order.take(0, 21).tolist()

    epochs = [long[:7], long[7:14], long[14:]]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    pieces = [SequenceOrder(7, seed=3).take(i, 5).tolist() for i in (0, 5, 10)]
    assert list(itertools.chain(*pieces)) == long[:15]
    assert SequenceOrder(7, seed=4).take(0, 21).tolist() != long
