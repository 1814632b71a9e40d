"""Uploads while a web process is killed: a few of them always, a thousand in a sweep."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.soak.upload_cycles import OPERATIONS, UploadSoak
from bench.soak.upload_promises import KnownCorpus, check_documents, check_files
from jobs.corpus_files import hold_corpus
from jobs.home import Home
from jobs.store.corpus_locks import CorpusUse
from jobs.store.rows import DocumentEntry
from jobs.store.store import Store
from tests.jobs.postgres import PostgresServer

pytestmark = pytest.mark.slow
ONCE_EACH = ("upload", "zip", "double", "remove", "copy", "build", "delete")


def soak(store: Store, home: Home, uploads: int, **settings: Any) -> UploadSoak:
    told: list[str] = []
    seed = random.randrange(10**6)
    made = UploadSoak(home, store, random.Random(seed), told.append, **settings)
    try:
        figures = made.run(uploads, ONCE_EACH)
    finally:
        made.close()
        store.close()
    assert figures.broken == [], (seed, told)
    assert figures.uploads >= uploads
    assert set(figures.done) == set(OPERATIONS)
    assert figures.kills, "nothing was killed"
    return made


def test_a_few_kills_break_no_promise(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")

    soak(Store(home.database_url()), home, 16, most_files=30, kill_chance=0.35)


@pytest.mark.sweep
@pytest.mark.timeout(7200)
def test_a_thousand_uploads_with_kills_break_no_promise(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")

    made = soak(Store(home.database_url()), home, 1000)

    assert sum(made.figures.kills.values()) >= 100
    assert len(made.figures.kills) >= 3, "no kill met an upload at work"


@pytest.mark.sweep
@pytest.mark.timeout(7200)
def test_uploads_with_kills_break_no_promise_on_postgresql(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with postgres_server.database(empty=True) as url:
        home = Home(tmp_path / "home")
        soak(Store(url), home, 200)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    home = Home(tmp_path)
    home.create()
    return Store(home.database_url())


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "file": (lambda root: (root / "b.txt").write_text("x"), "b.txt has only a file"),
    "row": (lambda root: (root / "a.txt").unlink(), "a.txt has only a row"),
    "text": (lambda root: (root / "a.txt").write_text("ONE"), "a.txt is not what its row says"),
    "answer": (lambda root: (root / "a.txt").write_text("two"), "which is not what was answered"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_broken_promise_is_noticed(store: Store, tmp_path: Path, name: str) -> None:
    home, known = Home(tmp_path), KnownCorpus()
    corpus_id = store.create_corpus("letters", {}).id
    sha256 = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    entry = DocumentEntry(path="a.txt", bytes=3, sha256=sha256, encoding="utf-8")
    with hold_corpus(home, store, corpus_id, CorpusUse.ADD) as files:
        files.keep([(entry, b"one")])
    known.learn({"a.txt": "one"}, 200)

    def check() -> str:
        found = [*check_files(store, home, corpus_id), *check_documents(home, corpus_id, known)]
        return "\n".join(found)

    assert check() == ""
    damage, words = DAMAGE[name]
    damage(home.corpus_dir(corpus_id) / "documents")
    assert words in check()
    store.close()


def test_what_may_have_been_done_is_possible_both_ways() -> None:
    known = KnownCorpus()
    known.learn({"a": "one"}, 200)
    known.learn({"a": "two", "b": "two"}, None)
    known.learn({"a": "three"}, 409)
    known.learn_removal("b", None)
    assert (known.possible("a"), known.possible("b")) == ({"one", "two"}, {None, "two"})
    known.learn_removal("b", 204)
    known.learn_of_both("a", [("four", 200), ("five", None)])
    known.learn_of_both("c", [("six", 409), (None, 200)])
    assert known.possible("a") == {"four", "five"}
    assert (known.possible("c"), known.present()) == ({None}, ["a"])
