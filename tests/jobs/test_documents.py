"""Rows of documents, and the files that have not followed them yet."""

import pytest

from jobs.errors import NotFoundError
from jobs.store.corpus_locks import CorpusUse
from jobs.store.locks import LOCK_S
from jobs.store.rows import DocumentEntry, MoveRow
from jobs.store.store import Store

pytestmark = pytest.mark.both_databases


def entry(path: str, *, size: int = 3) -> DocumentEntry:
    return DocumentEntry(path=path, bytes=size, sha256="0" * 64, encoding="utf-8")


@pytest.fixture
def corpus_id(store: Store) -> str:
    return store.create_corpus("letters", {}).id


def test_files_that_are_to_follow_are_recorded_with_their_documents(
    store: Store, clock, corpus_id: str
) -> None:
    clock.advance(5)
    at = store.add_documents(
        corpus_id, [entry("b"), entry("a"), entry("c")], staged={"a": "x-1", "b": "x-2"}
    )

    assert at == store.get_corpus(corpus_id).updated_at == clock.time
    moves = [MoveRow(path="a", staged="x-1"), MoveRow(path="b", staged="x-2")]
    assert store.list_moves(corpus_id) == moves
    assert store.corpora_with_moves() == [corpus_id]
    assert [store.staged_file(corpus_id, path) for path in "abc"] == ["x-1", "x-2", None]
    assert store.document_sizes(corpus_id) == {"a": 3, "b": 3, "c": 3}


def test_a_newer_text_or_the_removal_takes_the_place_of_a_move(
    store: Store, corpus_id: str
) -> None:
    store.add_documents(corpus_id, [entry(path) for path in "abc"], staged={"a": "x-1", "b": "x-2"})

    store.add_documents(corpus_id, [entry("a")], staged={"a": "y-1"})
    store.remove_document(corpus_id, "b")
    store.remove_document(corpus_id, "c")
    assert store.list_moves(corpus_id) == [
        MoveRow(path="a", staged="y-1"),
        MoveRow(path="b", staged=None),
        MoveRow(path="c", staged=None),
    ]
    store.add_documents(corpus_id, [entry("c")])

    assert [move.path for move in store.list_moves(corpus_id)] == ["a", "b"]


def test_moves_are_finished_by_the_holder_of_the_lock_alone(
    store: Store, clock, corpus_id: str
) -> None:
    store.add_documents(corpus_id, [entry("a"), entry("b")], staged={"a": "x-1", "b": "x-2"})
    lost = store.take_corpus(corpus_id, CorpusUse.ADD).token
    clock.advance(LOCK_S)
    token = store.take_corpus(corpus_id, CorpusUse.ADD).token

    store.finish_moves(corpus_id, ["a", "b"], lost)
    assert len(store.list_moves(corpus_id)) == 2
    store.finish_moves(corpus_id, ["a"], token)

    assert store.list_moves(corpus_id) == [MoveRow(path="b", staged="x-2")]


def test_moves_and_locks_go_with_their_corpus(store: Store, corpus_id: str) -> None:
    store.add_documents(corpus_id, [entry("a")], staged={"a": "x-1"})
    token = store.take_corpus(corpus_id, CorpusUse.DELETE).token

    store.delete_corpus(corpus_id, token)

    assert store.corpora_with_moves() == []
    assert not store.is_held(token)
    assert store.deleted_corpora() == [corpus_id]
    store.forget_deleted(corpus_id)
    assert store.deleted_corpora() == []
    with pytest.raises(NotFoundError):
        store.add_documents(corpus_id, [entry("a")], token)
