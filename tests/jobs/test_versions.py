"""Versions of a corpus are counted, and those that runs need outlive the next build."""

from pathlib import Path

import pytest

from jobs.errors import LeaseLost, NotFoundError
from jobs.home import Home
from jobs.store.models import Run
from jobs.store.rows import DocumentEntry
from jobs.store.states import RunState
from jobs.store.store import Store
from jobs.version_files import (
    built_fingerprint,
    corpus_to_train_on,
    keep_version,
    kept_versions,
    needed_fingerprints,
    remove_unneeded,
    version_dir,
)
from retro.config.corpus import CorpusConfig
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.run import create_run
from retro.whole_files import write_json
from tests.fakes import hash_embedder, small_corpus, store_texts

CONFIG = CorpusConfig(chunk_size=8, vocab_size=300)


def entry(path: str, *, size: int = 3, sha256: str = "0" * 64) -> DocumentEntry:
    return DocumentEntry(path=path, bytes=size, sha256=sha256, encoding="utf-8")


def test_each_new_fingerprint_is_the_next_version(store: Store, clock) -> None:
    corpus = store.create_corpus("letters", {"chunk_size": 32})
    assert store.list_versions(corpus.id) == []
    assert store.record_version(corpus.id) is None

    for fingerprint in ("aa", "bb", "bb", "aa"):
        clock.advance(1)
        store.set_corpus_summary(corpus.id, {"fingerprint": fingerprint}, settings={"seed": 3})

    versions = store.list_versions(corpus.id)
    assert [(row.number, row.fingerprint) for row in versions] == [(2, "bb"), (1, "aa")]
    assert versions[0].settings == {"seed": 3}
    assert versions[0].built_at == versions[1].built_at + 1
    assert store.record_version(corpus.id) == 1


def test_a_corpus_of_earlier_programs_gets_its_first_version(store: Store) -> None:
    corpus = store.create_corpus("letters", {"chunk_size": 32})
    store.set_corpus_summary(corpus.id, {"num_chunks": 3})
    assert store.list_versions(corpus.id) == []

    store.set_corpus_summary(corpus.id, {"fingerprint": "aa"})

    (version,) = store.list_versions(corpus.id)
    assert (version.number, version.settings) == (1, {"chunk_size": 32})


def test_versions_belong_to_one_corpus_and_go_with_it(store: Store) -> None:
    first, second = (store.create_corpus(name, {}) for name in ("first", "second"))
    for corpus in (first, second):
        store.set_corpus_summary(corpus.id, {"fingerprint": "aa"})
    store.delete_corpus(first.id)

    with pytest.raises(NotFoundError, match=first.id):
        store.list_versions(first.id)
    assert [row.number for row in store.list_versions(second.id)] == [1]


def test_a_run_knows_the_version_it_is_trained_on(store: Store, start) -> None:
    corpus = store.create_corpus("letters", {})
    store.set_corpus_summary(corpus.id, {"fingerprint": "aa"})
    store.set_corpus_summary(corpus.id, {"fingerprint": "bb"})
    run = store.create_run("first", corpus.id, {}, 10)
    store.submit("train", run_id=run.id, corpus_id=corpus.id, settings={})
    job = start()
    assert store.get_run(run.id).corpus_version is None

    store.set_run_version(run.id, job.lease_token, "aa")
    assert store.get_run(run.id).corpus_version == 1
    store.set_run_version(run.id, job.lease_token, "something else")
    assert store.get_run(run.id).corpus_version is None
    with pytest.raises(LeaseLost):
        store.set_run_version(run.id, "another lease", "aa")


def test_documents_are_found_by_part_of_their_path(store: Store) -> None:
    corpus = store.create_corpus("letters", {})
    store.add_documents(corpus.id, [entry(f"{name}.txt") for name in ("A_b", "axb", "c%d", "cd")])

    def found(contains: str) -> list[str]:
        rows = store.list_documents(corpus.id, contains=contains)
        assert store.count_documents(corpus.id, contains) == len(rows)
        return [row.path for row in rows]

    assert found("a_B") == ["A_b.txt"]
    assert found("%") == ["c%d.txt"]
    assert sorted(found("B")) == ["A_b.txt", "axb.txt"]
    assert found("nothing") == []


def test_documents_are_found_by_path_and_by_text(store: Store) -> None:
    corpus = store.create_corpus("letters", {})
    store.add_documents(
        corpus.id, [entry("a", sha256="1"), entry("b", sha256="1", size=4), entry("c", sha256="2")]
    )

    assert store.document_bytes(corpus.id) == 10
    assert store.document_sums(corpus.id) == {"a": "1", "b": "1", "c": "2"}
    assert store.document_sums(corpus.id, paths=["c", "d"]) == {"c": "2"}
    assert store.document_sums(corpus.id, sha256s=["1"]) == {"a": "1", "b": "1"}
    assert store.document_sums(corpus.id, paths=["c"], sha256s=["1"]) == {
        "a": "1",
        "b": "1",
        "c": "2",
    }
    assert store.document_sums(corpus.id, paths=[], sha256s=[]) == {}
    assert store.get_document(corpus.id, "c").sha256 == "2"


def test_a_document_is_removed_once(store: Store, clock) -> None:
    corpus = store.create_corpus("letters", {})
    store.add_documents(corpus.id, [entry("a"), entry("b")])
    clock.advance(5)

    store.remove_document(corpus.id, "a")

    assert [row.path for row in store.list_documents(corpus.id)] == ["b"]
    assert store.get_corpus(corpus.id).updated_at == clock.time
    for act in (store.remove_document, store.get_document):
        with pytest.raises(NotFoundError, match=r"There is no document 'a' in corpus 'letters'\."):
            act(corpus.id, "a")


def test_a_corpus_can_be_renamed(store: Store) -> None:
    corpus = store.create_corpus("letters", {})

    assert store.rename_corpus(corpus.id, "notes").name == "notes"
    assert store.get_corpus(corpus.id).name == "notes"


class Built:
    """A small corpus in the database and on disk."""

    def __init__(self, store: Store, home: Home) -> None:
        self.store, self.home = store, home
        self.id = store.create_corpus("texts", {}).id
        self.folder = home.corpus_dir(self.id)
        small_corpus(self.folder)
        self.record()

    def record(self) -> str:
        summary = Corpus.open(self.folder).summary()
        self.store.set_corpus_summary(self.id, summary.to_dict())
        return summary.fingerprint

    def add_and_build(self, name: str) -> str:
        store_texts(self.folder, {name: f"words that only {name} holds " * 9})
        keep_version(self.home, self.store, self.id)
        build_corpus(self.folder, CONFIG, embedder=hash_embedder)
        return self.record()

    def add_run(self, fingerprint: str | None, state: RunState = RunState.PAUSED) -> str:
        run = self.store.create_run("run", self.id, {}, 10)
        with self.store.write() as session:
            session.get_one(Run, run.id).state = state.value
        if fingerprint is not None:
            folder = self.home.run_dir(run.id)
            create_run(folder, self.folder)
            values = {
                "preset": "tiny",
                "model_choices": {},
                "training_choices": {},
                "corpus": str(self.folder),
                "corpus_fingerprint": fingerprint,
            }
            write_json(folder / "config.json", values)
        return run.id


@pytest.fixture
def built(store: Store, home: Home) -> Built:
    return Built(store, home)


def test_a_version_that_a_run_needs_is_kept_without_a_copy(built: Built) -> None:
    first = built_fingerprint(built.folder)
    run_id = built.add_run(first)
    inode = (built.folder / "database/chunks.npy").stat().st_ino

    second = built.add_and_build("new.txt")

    assert second != first
    assert kept_versions(built.folder) == [1]
    kept = version_dir(built.folder, 1)
    assert Corpus.open(kept).fingerprint == first
    assert (kept / "database/chunks.npy").stat().st_ino == inode
    assert corpus_to_train_on(built.home.run_dir(run_id), built.folder) == kept
    other = built.add_run(second)
    assert corpus_to_train_on(built.home.run_dir(other), built.folder) == built.folder


def test_nothing_is_kept_that_no_run_needs(built: Built) -> None:
    built.add_run(None)
    built.add_run("of another version")
    built.add_and_build("new.txt")

    assert kept_versions(built.folder) == []
    # A run that fits nothing is given the corpus, and refused there.
    run_id = built.add_run("lost")
    assert corpus_to_train_on(built.home.run_dir(run_id), built.folder) == built.folder


def test_a_run_that_is_just_beginning_needs_what_is_there(built: Built) -> None:
    first = built_fingerprint(built.folder)
    built.add_run(None, RunState.STARTING)

    assert needed_fingerprints(built.home, built.store, built.id) == {first}
    built.add_and_build("new.txt")
    assert kept_versions(built.folder) == [1]


def test_versions_are_removed_with_their_last_run(built: Built) -> None:
    first = built_fingerprint(built.folder)
    runs = [built.add_run(first), built.add_run(first)]
    second = built.add_and_build("new.txt")
    runs.append(built.add_run(second))
    built.add_and_build("newer.txt")
    assert kept_versions(built.folder) == [1, 2]
    second_dir = version_dir(built.folder, 2)
    assert corpus_to_train_on(built.home.run_dir(runs[-1]), built.folder) == second_dir

    left = []
    for run_id in runs:
        built.store.delete_run(run_id)
        remove_unneeded(built.home, built.store, built.id)
        left.append(kept_versions(built.folder))

    assert left == [[1, 2], [2], []]
    assert not (built.folder / "versions").exists()


def test_a_version_that_came_back_is_not_kept_twice(built: Built) -> None:
    first = built_fingerprint(built.folder)
    built.add_run(first)
    built.add_and_build("new.txt")
    (built.folder / "documents/new.txt").unlink()
    build_corpus(built.folder, CONFIG, embedder=hash_embedder)
    assert built.record() == first
    assert kept_versions(built.folder) == [1]

    at_work = built.add_run(first, RunState.RUNNING)
    remove_unneeded(built.home, built.store, built.id)
    assert kept_versions(built.folder) == [1]
    with built.store.write() as session:
        session.get_one(Run, at_work).state = RunState.PAUSED.value
    remove_unneeded(built.home, built.store, built.id)
    assert kept_versions(built.folder) == []


def test_what_an_interrupted_build_left_is_not_kept(built: Built) -> None:
    """The second attempt finds parts of two versions; the first attempt kept the whole one."""
    first = built_fingerprint(built.folder)
    built.add_run(first)
    keep_version(built.home, built.store, built.id)
    before = sorted(path.name for path in version_dir(built.folder, 1).rglob("*"))
    (version_dir(built.folder, 1).parent / ".tmp-2-aaaaaaaa").mkdir()

    keep_version(built.home, built.store, built.id)
    assert sorted(path.name for path in version_dir(built.folder, 1).rglob("*")) == before
    assert [path.name for path in (built.folder / "versions").iterdir()] == ["1"]

    remove = version_dir(built.folder, 1)
    for path in sorted(remove.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    remove.rmdir()
    (built.folder / "database/manifest.json").unlink()
    keep_version(built.home, built.store, built.id)
    assert kept_versions(built.folder) == []


def test_a_corpus_that_was_not_built_keeps_nothing(store: Store, home: Home) -> None:
    corpus_id = store.create_corpus("texts", {}).id

    keep_version(home, store, corpus_id)
    remove_unneeded(home, store, corpus_id)

    assert built_fingerprint(home.corpus_dir(corpus_id)) is None
    assert corpus_to_train_on(Path("no run"), home.corpus_dir(corpus_id)) == home.corpus_dir(
        corpus_id
    )
