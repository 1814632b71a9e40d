"""Training rows hold each document once, in order, with the neighbors of its chunks."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from retro.config.corpus import CorpusConfig
from retro.corpus.corpus import Corpus
from retro.data.dataset import Batch, SequenceDataset, SequenceOrder
from retro.errors import ConfigError
from tests.fakes import small_corpus


def make_dataset(corpus: Corpus, split: str = "train", **changes: int) -> SequenceDataset:
    sizes = {"sequence_length": 24, "num_neighbors": 2, **changes}
    return SequenceDataset(corpus.database, corpus.neighbors_CK, split=split, **sizes)  # type: ignore[arg-type]


def whole(dataset: SequenceDataset) -> Batch:
    return dataset.batch(np.arange(len(dataset)))


def chunks_of(dataset: SequenceDataset, batch: Batch) -> list[tuple[int, int, np.ndarray]]:
    """Return (row, first token, retrieved values) of every complete chunk of a batch."""
    width = batch.seq_BT.shape[1]
    if batch.chunk_starts_C is not None:
        places = [divmod(int(start), width) for start in batch.chunk_starts_C]
        return [(*place, value) for place, value in zip(places, batch.retrieved, strict=True)]
    size = dataset.database.chunk_size
    full = (batch.seq_BT != dataset.database.pad_id).sum(1) // size
    return [
        (row, u * size, batch.retrieved[row, u]) for row, n in enumerate(full) for u in range(n)
    ]


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_rows_hold_every_token_once_and_a_document_ends_with_the_end_token(
    corpus: Corpus, split: str, packing: bool
) -> None:
    dataset, database = make_dataset(corpus, split, packing=packing), corpus.database
    batch = whole(dataset)

    pieces: dict[int, list[tuple[int, int]]] = {}
    for row in range(len(dataset)):
        tokens = zip(batch.seq_BT[row].tolist(), batch.labels_BT[row].tolist(), strict=True)
        for piece in dataset.rows[row]:
            length = int(dataset.lengths_P[piece])
            pieces[piece] = list(itertools.islice(tokens, length))
        assert all(pair == (database.pad_id, database.pad_id) for pair in tokens)
    found: dict[int, list[int]] = {}
    labels: dict[int, list[int]] = {}
    for piece in sorted(pieces):
        document = int(database.documents_C[dataset.starts_P[piece]])
        found.setdefault(document, []).extend(token for token, _ in pieces[piece])
        labels.setdefault(document, []).extend(label for _, label in pieces[piece])

    expected = {}
    for document_id, record in enumerate(database.documents):
        if record.split == split:
            text = (corpus.folder / "documents" / record.path).read_bytes().decode()
            expected[document_id] = corpus.tokenizer.encode(text)
    assert expected
    assert found == expected
    assert labels == {document: [*ids[1:], database.eos_id] for document, ids in expected.items()}
    assert batch.num_labels == sum(len(ids) for ids in expected.values())


def test_held_out_text_is_no_label_of_training_text(tmp_path: Path) -> None:
    text = " ".join(f"word{number}" for number in range(300))
    corpus = small_corpus(tmp_path / "corpus", {"one.txt": text})
    dataset, database = make_dataset(corpus), corpus.database
    assert database.documents_C[database.num_retrievable] == database.documents_C[0]

    last = whole(dataset).labels_BT
    ends = {int(row[row != database.pad_id][-1]) for row in last}

    assert database.eos_id not in ends
    assert int((last == database.pad_id).sum()) >= 1


@pytest.mark.parametrize("packing", [True, False])
def test_retrieved_values_are_those_of_the_neighbors_file(corpus: Corpus, packing: bool) -> None:
    dataset, database = make_dataset(corpus, packing=packing), corpus.database
    batch = whole(dataset)

    found = chunks_of(dataset, batch)
    chunk_ids = []
    for row in range(len(dataset)):
        for piece in dataset.rows[row]:
            full = int(dataset.lengths_P[piece]) // 8
            chunk_ids += range(int(dataset.starts_P[piece]), int(dataset.starts_P[piece]) + full)
    assert len(found) == sum(int(n) // 8 for n in dataset.lengths_P)
    for chunk, (row, place, retrieved) in zip(chunk_ids, found, strict=True):
        tokens = batch.seq_BT[row, place : place + 8]
        assert tokens.tolist() == database.chunks_CM[chunk].tolist()
        for rank in range(2):
            neighbor = int(corpus.neighbors_CK[chunk, rank])
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
            assert retrieved[rank].tolist() == expected.tolist()
    assert (batch.retrieved != 0).mean() > 0.5


def test_a_shorter_row_has_no_neighbors_behind_its_end(corpus: Corpus) -> None:
    dataset = make_dataset(corpus, packing=False)
    batch = whole(dataset)

    full = dataset.row_lengths_N // 8
    assert full.min() < full.max()
    for row, count in enumerate(full):
        assert (batch.retrieved[row, count:] == 0).all()


def test_fewer_neighbors_than_stored_are_the_nearest(corpus: Corpus) -> None:
    one, two = make_dataset(corpus, num_neighbors=1), make_dataset(corpus)

    assert np.array_equal(whole(one).retrieved[..., 0, :], whole(two).retrieved[..., 0, :])


def short_documents(kind: str) -> dict[str, str]:
    rng = np.random.default_rng(0)
    words = [
        {"alike": 12, "short": int(rng.integers(2, 20)), "two kinds": 25 if row % 2 else 90}[kind]
        for row in range(400)
    ]
    return {
        f"{row}.txt": " ".join(f"w{number}" for number in rng.integers(0, 50, count))
        for row, count in enumerate(words)
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["alike", "short", "two kinds"])
def test_many_short_documents_waste_less_than_a_twentieth_on_padding(
    kind: str, tmp_path: Path
) -> None:
    config = CorpusConfig(chunk_size=16, vocab_size=300)
    corpus = small_corpus(tmp_path / "corpus", short_documents(kind), config)

    def padding(packing: bool) -> float:
        dataset = make_dataset(corpus, sequence_length=256, packing=packing)
        order = SequenceOrder(dataset, 8, seed=0)
        batches = [dataset.batch(order.take(i, 8)) for i in range(0, len(dataset), 8)]
        tokens = np.concatenate([batch.seq_BT.reshape(-1) for batch in batches])
        return float((tokens == corpus.database.pad_id).mean())

    assert padding(True) < 0.05
    if kind == "short":
        assert padding(False) > padding(True)


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


def test_the_order_visits_every_row_once_per_epoch_and_depends_on_the_place_alone(
    corpus: Corpus,
) -> None:
    dataset = make_dataset(corpus, sequence_length=8)
    count = len(dataset)

    def order(seed: int = 3, batch_size: int = 4) -> SequenceOrder:
        return SequenceOrder(dataset, batch_size, seed)

    long = order().take(0, 3 * count).tolist()

    epochs = [long[:count], long[count : 2 * count], long[2 * count :]]
    assert count > 20
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    pieces = [order().take(i, 5).tolist() for i in (0, 5, 10)]
    assert list(itertools.chain(*pieces)) == long[:15]
    assert order(seed=4).take(0, count).tolist() != long[:count]
