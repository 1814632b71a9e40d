"""Corpora and their documents."""

import pytest

from jobs.errors import InvalidChangeError, NotFoundError
from jobs.store.locks import LOCK_S
from jobs.store.rows import DocumentEntry
from jobs.store.states import CorpusState, JobState
from jobs.store.store import Store


def entry(path: str, *, size: int = 3) -> DocumentEntry:
    return DocumentEntry(path=path, bytes=size, sha256="0" * 64, encoding="utf-8")


def test_a_corpus_comes_back_as_it_was_made(store: Store, clock) -> None:
    corpus = store.create_corpus("letters", {"chunk_size": 32})

    assert store.get_corpus(corpus.id) == corpus
    assert (corpus.name, corpus.settings, corpus.summary) == ("letters", {"chunk_size": 32}, None)
    assert (corpus.created_at, corpus.state) == (clock.time, CorpusState.EMPTY)


def test_corpora_are_listed_newest_first(store: Store, clock) -> None:
    ids = []
    for name in "abc":
        ids.append(store.create_corpus(name, {}).id)
        clock.advance(1)

    assert [corpus.id for corpus in store.list_corpora()] == ids[::-1]


def test_documents_are_listed_by_path_in_pages(store: Store) -> None:
    corpus = store.create_corpus("letters", {})
    store.add_documents(corpus.id, [entry(f"{name}.txt") for name in "dbca"])

    pages = [store.list_documents(corpus.id, limit=3, offset=offset) for offset in (0, 3, 6)]

    assert [[row.path for row in page] for page in pages] == [
        ["a.txt", "b.txt", "c.txt"],
        ["d.txt"],
        [],
    ]
    assert store.count_documents(corpus.id) == 4


def test_a_document_uploaded_again_replaces_the_old_one(store: Store) -> None:
    corpus = store.create_corpus("letters", {})
    store.add_documents(corpus.id, [entry("a.txt", size=1), entry("b.txt", size=1)])

    store.add_documents(corpus.id, [entry("a.txt", size=5), entry("a.txt", size=7)])

    sizes = {row.path: row.bytes for row in store.list_documents(corpus.id)}
    assert sizes == {"a.txt": 7, "b.txt": 1}


def test_many_documents_fit_into_one_call(store: Store) -> None:
    corpus = store.create_corpus("letters", {})

    for _ in range(2):
        store.add_documents(corpus.id, [entry(f"{number}.txt") for number in range(5000)])

    assert store.count_documents(corpus.id) == 5000


def test_documents_of_an_unknown_corpus_are_refused(store: Store) -> None:
    with pytest.raises(NotFoundError, match=r"There is no corpus abc\."):
        store.add_documents("abc", [entry("a.txt")])


@pytest.mark.parametrize(
    ("ending", "state"),
    [
        (None, CorpusState.BUILDING),
        (JobState.SUCCEEDED, CorpusState.READY),
        (JobState.FAILED, CorpusState.FAILED),
        (JobState.CANCELED, CorpusState.UPLOADED),
        (JobState.TIMED_OUT, CorpusState.FAILED),
    ],
)
def test_the_state_follows_the_newest_build(
    store: Store, start, ending: JobState | None, state: CorpusState
) -> None:
    corpus = store.create_corpus("letters", {})
    store.add_documents(corpus.id, [entry("a.txt")])
    assert store.get_corpus(corpus.id).state is CorpusState.UPLOADED

    store.submit("build", corpus_id=corpus.id, settings={})
    job = start()
    if ending is not None:
        store.transition(job.id, job.lease_token, JobState.RUNNING, ending)

    assert store.get_corpus(corpus.id).state is state
    assert store.list_corpora()[0].state is state


def test_a_summary_can_be_recorded_without_a_job(store: Store) -> None:
    corpus = store.create_corpus("letters", {})

    store.set_corpus_summary(corpus.id, {"num_chunks": 3})

    assert store.get_corpus(corpus.id).summary == {"num_chunks": 3}
    assert store.get_corpus(corpus.id).state is CorpusState.READY


def test_settings_of_the_next_build_can_be_changed(store: Store) -> None:
    corpus = store.create_corpus("letters", {"chunk_size": 32})

    changed = store.set_corpus_settings(corpus.id, {"chunk_size": 64})

    assert changed.settings == {"chunk_size": 64}
    assert store.get_corpus(corpus.id) == changed


def test_a_deleted_corpus_takes_its_documents_along(store: Store) -> None:
    corpus = store.create_corpus("letters", {})
    store.add_documents(corpus.id, [entry("a.txt")])
    job = store.submit("build", corpus_id=corpus.id, settings={})
    store.request_cancel(job.id)

    store.delete_corpus(corpus.id)

    with pytest.raises(NotFoundError, match=corpus.id):
        store.get_corpus(corpus.id)
    assert store.list_corpora() == []
    assert store.get_job(job.id).corpus_id is None


def test_a_corpus_that_a_run_needs_is_not_deleted(store: Store) -> None:
    corpus = store.create_corpus("letters", {})
    store.create_run("first", corpus.id, {}, 10)

    with pytest.raises(InvalidChangeError, match=r"'letters'.*'first'"):
        store.delete_corpus(corpus.id)


def test_a_corpus_that_is_being_built_is_not_deleted(store: Store) -> None:
    corpus = store.create_corpus("letters", {})
    job = store.submit("build", corpus_id=corpus.id, settings={})

    with pytest.raises(InvalidChangeError, match=job.id):
        store.delete_corpus(corpus.id)


def test_a_corpus_is_unfinished_when_its_maker_is_gone(store: Store, clock) -> None:
    made = [store.begin_corpus(name, {"chunk_size": 32}) for name in ("half", "whole")]
    half, whole = made
    assert store.get_corpus(half.corpus.id) == half.corpus
    assert store.unfinished_corpora() == {}

    store.release_lock(whole.token)
    clock.advance(LOCK_S)

    assert store.unfinished_corpora() == {half.corpus.id: half.token}
