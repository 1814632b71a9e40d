"""The documents of a corpus become its retrieval database."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retro.config.corpus import CorpusConfig
from retro.corpus.chunk_stage import build_database, choose_splits, database_fingerprint
from retro.data.database import RetrievalDatabase
from retro.data.splits import Split, read_sources, split_documents
from retro.errors import InputError
from tests.fakes import ByteTokenizer, random_texts, store_texts

SIZE = 4
CONFIG = CorpusConfig(chunk_size=SIZE)


def test_spans_of_a_document_join_to_its_text(tmp_path: Path) -> None:
    texts = {f"{row}.txt": "caf\u00e9 \U0001f600 \u4e2d\r\n" * (row + 1) for row in range(8)}
    store_texts(tmp_path, texts)

    build_database(tmp_path, CONFIG, ByteTokenizer())

    database = RetrievalDatabase.open(tmp_path / "database")
    for document_id, record in enumerate(database.documents):
        text = texts[record.path]
        spans = database.spans_C2[database.documents_C == document_id].tolist()
        assert "".join(text[start:end] for start, end in spans) == text
        assert (record.characters, record.bytes) == (len(text), len(text.encode()))
        assert record.num_chunks == len(spans)


def test_whole_documents_are_held_out_and_come_last(tmp_path: Path) -> None:
    store_texts(tmp_path, random_texts(20, 10))

    build_database(tmp_path, CONFIG, ByteTokenizer())

    database = RetrievalDatabase.open(tmp_path / "database")
    splits = [database.documents[id].split for id in database.documents_C]
    border = database.num_retrievable
    assert set(splits[:border]) == {Split.TRAIN}
    assert set(splits[border:]) == {Split.VALIDATION}
    assert (np.diff(database.documents_C) >= 0).all()


def test_the_end_of_a_single_document_is_held_out(tmp_path: Path) -> None:
    store_texts(tmp_path, {"one.txt": "x" * 400})

    build_database(tmp_path, CONFIG, ByteTokenizer())

    database = RetrievalDatabase.open(tmp_path / "database")
    assert database.documents[0].split is Split.BOTH
    assert (database.num_chunks, database.num_retrievable) == (100, 95)
    assert database.document_chunks(0) == (range(95), range(95, 100))


@pytest.mark.parametrize(("texts", "got"), [(["abcde"], 2), (["a", "b"], 2), (["ab"], 1)])
def test_a_corpus_that_is_too_short_is_refused(tmp_path: Path, texts: list[str], got: int) -> None:
    store_texts(tmp_path, {f"{row}.txt": text for row, text in enumerate(texts)})

    with pytest.raises(InputError, match=f"at least 3 chunks of 4 tokens, .* got {got}"):
        build_database(tmp_path, CONFIG, ByteTokenizer())

    assert [path.name for path in tmp_path.iterdir()] == ["documents"]


@pytest.mark.parametrize("texts", [["a" * 9], ["a", "b", "c"], ["a" * 8, "b"]])
def test_the_smallest_corpora_are_built(tmp_path: Path, texts: list[str]) -> None:
    store_texts(tmp_path, {f"{row}.txt": text for row, text in enumerate(texts)})

    build_database(tmp_path, CONFIG, ByteTokenizer())

    database = RetrievalDatabase.open(tmp_path / "database")
    assert (database.num_retrievable, database.num_chunks) == (2, 3)
    for document_id, record in enumerate(database.documents):
        retrievable, held_out = database.document_chunks(document_id)
        assert (record.split is Split.BOTH) == (len(retrievable) > 0 and len(held_out) > 0)


def test_a_corpus_without_documents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one document, got none"):
        build_database(tmp_path, CONFIG, ByteTokenizer())


def test_progress_may_stop_the_work(tmp_path: Path) -> None:
    store_texts(tmp_path, random_texts(5, 10))

    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt((stage, done, total))

    with pytest.raises(KeyboardInterrupt):
        build_database(tmp_path, CONFIG, ByteTokenizer(), stop)

    assert [path.name for path in tmp_path.iterdir()] == ["documents"]


@pytest.mark.parametrize("seed", range(6))
def test_a_corpus_that_grows_can_retrieve_what_was_added(tmp_path: Path, seed: int) -> None:
    config = CorpusConfig(chunk_size=SIZE, seed=seed)
    store_texts(tmp_path, random_texts(5, 10))
    build_database(tmp_path, config, ByteTokenizer())
    before = RetrievalDatabase.open(tmp_path / "database")
    store_texts(tmp_path, {"new.txt": "something else entirely"})

    build_database(tmp_path, config, ByteTokenizer())

    after = RetrievalDatabase.open(tmp_path / "database")
    assert held_out_paths(after) == held_out_paths(before)
    assert after.num_retrievable == before.num_retrievable + 6
    again = CorpusConfig(chunk_size=SIZE, seed=seed, validation_fraction=0.4)
    build_database(tmp_path, again, ByteTokenizer())
    assert len(held_out_paths(RetrievalDatabase.open(tmp_path / "database"))) == 2


def held_out_paths(database: RetrievalDatabase) -> list[str]:
    return [record.path for record in database.documents if record.split is Split.VALIDATION]


def test_a_corpus_that_grows_keeps_its_splits_as_long_as_the_settings_stay(
    tmp_path: Path,
) -> None:
    tokenizer, config = ByteTokenizer(), replace(CONFIG, validation_fraction=0.2, seed=1)
    store_texts(tmp_path, random_texts(10, 12))
    build_database(tmp_path, config, tokenizer)
    before = {
        record.path: record.split
        for record in RetrievalDatabase.open(tmp_path / "database").documents
    }
    store_texts(tmp_path, {f"added-{row}.txt": "some more words " * 6 for row in range(30)})
    sources = read_sources(tmp_path)

    kept = choose_splits(tmp_path, sources, config)

    after = {source.path: split for source, split in kept}
    assert {path: after[path] for path in before} == before
    fresh = split_documents(sources, 0.2, config.seed)
    assert kept != fresh
    names = [database_fingerprint(sources, config, tokenizer, one) for one in (kept, fresh)]
    assert names[0] != names[1]
    for changed in (replace(config, seed=77), replace(config, validation_fraction=0.3)):
        expected = split_documents(sources, changed.validation_fraction, changed.seed)
        assert choose_splits(tmp_path, sources, changed) == expected
