"""Searching a corpus and telling where chunks come from."""

from pathlib import Path

import numpy as np
import pytest

from retro.config.corpus import CorpusConfig
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.data.documents import read_stored
from retro.data.samples import sample_documents
from retro.errors import ArtifactMismatchError, ConfigError, InputError, ShapeError
from tests.fakes import hash_embedder, random_texts, small_corpus, store_texts

HARD = "\U0001f600\u00e9 \u4e2d\r\n"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Some real documents with the real encoder."""
    folder = tmp_path_factory.mktemp("corpus")
    texts = {document.path: document.text for document in sample_documents("python-docs")}
    short = {path: text[:1500] for path, text in list(texts.items())[:12]}
    store_texts(folder, short | {"emoji.txt": HARD * 60})
    config = CorpusConfig(chunk_size=32, vocab_size=500)
    build_corpus(folder, config)
    return Corpus.open(folder)


def test_every_chunk_finds_itself(corpus: Corpus) -> None:
    database = corpus.database
    ids_Q = np.arange(database.num_retrievable)

    ids_QK, distances_QK = corpus.retriever().search_chunks(database.chunks_CM[ids_Q], 1)

    assert distances_QK[:, 0].max() < 1e-6
    # Repeated text has one key, and the first of equal distance is found.
    texts = [database.chunks_CM[id].tolist() for id in ids_Q]
    firsts = [texts.index(text) for text in texts]
    same_key = [
        found == own or distance < 1e-9
        for found, own, distance in zip(ids_QK[:, 0], firsts, distances_QK[:, 0], strict=True)
    ]
    assert all(same_key)
    assert np.mean(ids_QK[:, 0] == ids_Q) > 0.8


def test_a_chunk_alone_finds_itself_as_in_a_batch(corpus: Corpus) -> None:
    for id in (0, 7, corpus.database.num_retrievable - 1):
        ids_QK, distances_QK = corpus.retriever().search_chunks(corpus.database.chunks_CM[[id]], 1)
        assert distances_QK[0, 0] < 1e-6
        assert np.array_equal(
            corpus.retriever().tokenizer.decode(corpus.database.chunks_CM[ids_QK[0, 0]].tolist()),
            corpus.retriever().tokenizer.decode(corpus.database.chunks_CM[id].tolist()),
        )


def test_text_finds_the_chunk_it_was_taken_from(corpus: Corpus) -> None:
    text = corpus.retriever().chunk_text(11)

    found = corpus.retriever().search_text(text, 3)

    assert [neighbor.rank for neighbor in found] == [1, 2, 3]
    assert found[0].chunk_id == 11
    assert found[0].score < 1e-6
    assert found[0].score <= found[1].score <= found[2].score


def test_texts_are_slices_of_their_documents(corpus: Corpus) -> None:
    retriever = corpus.retriever()
    ids = np.arange(corpus.database.num_chunks)

    described = retriever.describe(ids, np.zeros(len(ids)))

    assert len(described) == len(ids)
    num_cut = 0
    for neighbor, following in zip(described, [*described[1:], None], strict=True):
        document = read_stored(corpus.folder, neighbor.document)
        assert neighbor.text == document[neighbor.start : neighbor.end]
        decoded = corpus.tokenizer.decode(corpus.database.chunks_CM[neighbor.chunk_id].tolist())
        num_cut += "\ufffd" in decoded
        ends = neighbor.chunk_index == neighbor.num_chunks - 1
        if ends or neighbor.chunk_id == corpus.database.num_retrievable - 1:
            assert neighbor.continuation == ""
        else:
            assert following is not None
            assert neighbor.continuation == following.text
    assert num_cut > 3


def test_held_out_chunks_are_never_found(corpus: Corpus) -> None:
    database = corpus.database
    queries = database.chunks_CM[database.num_retrievable :]
    assert len(queries) > 0

    ids_QK, _ = corpus.retriever().search_chunks(queries, 100)

    assert ids_QK.max() < database.num_retrievable


def test_excluded_documents_are_never_found(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path)
    retriever = corpus.retriever(embedder=hash_embedder)
    chunks = corpus.database.chunks_CM[:4]

    ids_QK, _ = retriever.search_chunks(chunks, 20, exclude_documents=(0, 2))

    found = ids_QK[ids_QK >= 0]
    assert len(found) > 0
    assert not {0, 2} & set(corpus.database.documents_C[found].tolist())
    everything = range(len(corpus.database.documents))
    ids_QK, distances_QK = retriever.search_chunks(chunks, 5, exclude_documents=everything)
    assert (ids_QK == -1).all()
    assert np.isinf(distances_QK).all()


@pytest.fixture(scope="module")
def few_chunks(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """So few chunks that one search returns all of them."""
    return small_corpus(tmp_path_factory.mktemp("few"), random_texts(7, 12))


@pytest.mark.parametrize("seed", range(12))
def test_exclusion_leaves_the_other_chunks_in_their_order(few_chunks: Corpus, seed: int) -> None:
    database = few_chunks.database
    retriever = few_chunks.retriever(embedder=hash_embedder)
    assert 20 < database.num_retrievable <= 100
    rng = np.random.default_rng(seed)
    # In no order, next to each other, inside excluded documents, held out, not there at all.
    chunks = rng.integers(database.num_chunks + 3, size=rng.integers(1, 9)).tolist()
    documents = rng.choice(len(database.documents), size=seed % 3, replace=False).tolist()
    queries = database.chunks_CM[-3:]
    ids_QK, distances_QK = retriever.search_chunks(queries, 100)

    left_QK, left_distances_QK = retriever.search_chunks(
        queries, 100, exclude_documents=documents, exclude_chunks=chunks
    )

    for row, ids_K in enumerate(ids_QK):
        brings_it_K = np.isin(ids_K, chunks) | np.isin(database.continuation_ids(ids_K), chunks)
        from_it_K = np.isin(database.documents_C[ids_K], documents)
        stays_K = (ids_K >= 0) & ~brings_it_K & ~from_it_K
        found_K = left_QK[row] >= 0
        assert left_QK[row][found_K].tolist() == ids_K[stays_K].tolist()
        np.testing.assert_allclose(left_distances_QK[row][found_K], distances_QK[row][stays_K])


def test_missing_neighbors_are_not_described(corpus: Corpus) -> None:
    described = corpus.retriever().describe(np.array([-1, 3, -1]), np.array([np.inf, 0.5, np.inf]))

    assert [(neighbor.rank, neighbor.chunk_id) for neighbor in described] == [(1, 3)]


def test_searches_that_cannot_be_made_are_refused(corpus: Corpus) -> None:
    retriever = corpus.retriever()

    with pytest.raises(InputError, match="needs some text, got none"):
        retriever.search_text(" \n", 2)
    for k in (0, -1, 101):
        with pytest.raises(ConfigError, match=f"between 1 and 100, got {k}"):
            retriever.search_text("text", k)
    with pytest.raises(InputError, match="surrogate"):
        retriever.search_text("\ud800", 1)
    with pytest.raises(ShapeError, match=r"\(chunks, tokens\), got \(5,\)"):
        retriever.search_chunks(np.zeros(5, np.int32), 1)


def test_keys_of_another_encoder_are_not_searched(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path)

    with pytest.raises(ArtifactMismatchError, match="keys were made by the encoder"):
        corpus.retriever().search_text("text", 1)


def test_very_long_searches_work(corpus: Corpus) -> None:
    assert len(corpus.retriever().search_text("word " * 20_000, 2)) == 2
