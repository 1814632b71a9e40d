"""Files follow their rows, whatever ends or halts the process that changes them."""

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import corpus_files
from jobs.corpus_files import CorpusFiles, hold_corpus
from jobs.errors import BusyError, LockLostError
from jobs.home import Home
from jobs.store.corpus_locks import CorpusUse
from jobs.store.locks import LOCK_S
from jobs.store.rows import DocumentEntry
from jobs.store.store import Store
from retro.errors import InputError


@pytest.fixture
def corpus_id(store: Store) -> str:
    return store.create_corpus("letters", {}).id


@pytest.fixture
def hold(store: Store, home: Home, corpus_id: str) -> Callable[..., object]:
    def hold(use: CorpusUse = CorpusUse.ADD, wait_s: float = 0.0):
        return hold_corpus(home, store, corpus_id, use, wait_s=wait_s)

    return hold


def new(path: str, text: str) -> tuple[DocumentEntry, bytes]:
    data = text.encode()
    digest = hashlib.sha256(data).hexdigest()
    return DocumentEntry(path=path, bytes=len(data), sha256=digest, encoding="utf-8"), data


def on_disk(home: Home, corpus_id: str) -> dict[str, str]:
    root = home.corpus_dir(corpus_id) / "documents"
    return {
        path.relative_to(root).as_posix(): path.read_text()
        for path in root.rglob("*")
        if path.is_file()
    }


def incoming(home: Home, corpus_id: str) -> list[Path]:
    return sorted((home.corpus_dir(corpus_id) / "incoming").glob("*"))


def check(store: Store, home: Home, corpus_id: str, expected: dict[str, str]) -> None:
    """Rows and files are what is expected, and nothing is left to be done."""
    wanted = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in expected.items()}
    assert store.document_sums(corpus_id) == wanted
    assert on_disk(home, corpus_id) == expected
    assert store.list_moves(corpus_id) == []
    assert incoming(home, corpus_id) == []


def test_documents_are_stored_replaced_and_removed(
    store: Store, home: Home, corpus_id: str, hold
) -> None:
    with hold() as files:
        assert files.keep([new("a/b.txt", "one"), new("c.txt", "two")]) == [None, None]
        assert files.keep([]) == []
        assert files.changed_at == store.get_corpus(corpus_id).updated_at
    with hold() as files:
        assert files.keep([new("c.txt", "three"), new("c.txt", "four")]) == [None, None]
        files.remove("a/b.txt")
        assert files.has_text(new("c.txt", "four")[0])
        assert not files.has_text(new("c.txt", "FOUR")[0])
        assert not files.has_text(new("c.txt", "longer")[0])
        assert not files.has_text(new("d.txt", "four")[0])

    check(store, home, corpus_id, {"c.txt": "four"})
    assert not (home.corpus_dir(corpus_id) / "documents" / "a").exists()


def test_what_cannot_be_stored_is_not_recorded(
    store: Store, home: Home, corpus_id: str, hold
) -> None:
    with hold() as files:
        problems = files.keep([new("a", "a file"), new("a/b.txt", "in a folder"), new("c", "fine")])
        assert [type(problem) for problem in problems] == [InputError, type(None), type(None)]
        before = store.get_corpus(corpus_id)
        assert isinstance(files.keep([new("c/d", "in a file")])[0], InputError)

    assert store.get_corpus(corpus_id) == before
    check(store, home, corpus_id, {"a/b.txt": "in a folder", "c": "fine"})


def test_a_copy_shares_the_files_of_its_source(store: Store, home: Home, hold) -> None:
    with hold() as files:
        files.keep([new("a.txt", "one")])
        source = home.corpus_dir(files.corpus.id) / "documents" / "a.txt"
        copy = store.create_corpus("copy", {}).id
        with hold_corpus(home, store, copy, CorpusUse.ADD) as others:
            others.keep([(new("a.txt", "one")[0], source)])

    check(store, home, copy, {"a.txt": "one"})
    assert source.samefile(home.corpus_dir(copy) / "documents" / "a.txt")


def test_who_comes_second_waits_for_the_first(store: Store, corpus_id: str, hold) -> None:
    lock = store.take_corpus(corpus_id, CorpusUse.ADD)
    threading.Timer(0.3, store.release_lock, (lock.token,)).start()

    begun = time.monotonic()
    with hold(wait_s=30.0), pytest.raises(BusyError, match="files are being added"), hold():
        pass

    assert time.monotonic() - begun >= 0.3
    assert not store.is_locked(f"corpus:{corpus_id}")


class Halt(BaseException):
    """Ends what a killed process would have gone on with."""


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[object, str], None]:
    """Let a call fail as if the process had been killed before it, once."""

    def interrupt(owner: object, name: str) -> None:
        called = getattr(owner, name)

        def fail(*_arguments: object, **_named: object) -> None:
            monkeypatch.setattr(owner, name, called)
            raise Halt

        monkeypatch.setattr(owner, name, fail)

    return interrupt


def change(files: CorpusFiles) -> None:
    files.keep([new("old.txt", "new text"), new("a/added.txt", "added")])


@pytest.mark.parametrize(
    ("moment", "is_done"),
    [
        ("stage_documents", False),
        ("add_documents", False),
        ("publish_documents", True),
        ("finish_moves", True),
    ],
)
def test_a_killed_upload_is_done_or_not_done(
    store: Store, home: Home, corpus_id: str, hold, interrupt, moment: str, is_done: bool
) -> None:
    with hold() as files:
        files.keep([new("old.txt", "old text")])
    before = on_disk(home, corpus_id)

    interrupt(
        corpus_files if moment.endswith("e_documents") or "publish" in moment else store, moment
    )
    with pytest.raises(Halt), hold() as files:
        change(files)
    assert (on_disk(home, corpus_id) == before) == (moment != "finish_moves")

    for path in [] if is_done else incoming(home, corpus_id):
        path.unlink()  # nobody knows of them
    with hold(CorpusUse.INGEST):
        expected = {"old.txt": "new text", "a/added.txt": "added"}
        check(store, home, corpus_id, expected if is_done else {"old.txt": "old text"})


@pytest.mark.parametrize("moment", ["is_held", "finish_moves"])
def test_a_killed_removal_is_done(
    store: Store, home: Home, corpus_id: str, hold, interrupt, moment: str
) -> None:
    with hold() as files:
        files.keep([new("a/b.txt", "one"), new("c.txt", "two")])

    interrupt(store, moment)
    with pytest.raises(Halt), hold(CorpusUse.REMOVE) as files:
        files.remove("a/b.txt")
    with hold():
        check(store, home, corpus_id, {"c.txt": "two"})


def test_who_was_halted_stores_nothing_after_another_has_taken_over(
    store: Store, home: Home, clock, corpus_id: str, hold
) -> None:
    with hold() as halted:
        clock.advance(LOCK_S)
        with hold() as files:
            files.keep([new("a.txt", "theirs")])
        with pytest.raises(LockLostError):
            halted.keep([new("a.txt", "ours"), new("b.txt", "ours")])

    check(store, home, corpus_id, {"a.txt": "theirs"})


def test_who_was_halted_moves_and_removes_nothing_that_came_later(
    store: Store, home: Home, clock, corpus_id: str, hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hold() as files:
        files.keep([new("removed.txt", "old")])
    publish = corpus_files.publish_documents

    def be_halted(*_: object) -> None:
        monkeypatch.undo()
        clock.advance(LOCK_S)
        with hold() as files:
            files.keep([new("a.txt", "theirs"), new("removed.txt", "theirs")])

    def publish_late(*arguments: object) -> list[str]:
        be_halted()
        return publish(*arguments)

    def is_held_late(token: str) -> bool:
        be_halted()
        return store.is_held(token)

    monkeypatch.setattr(corpus_files, "publish_documents", publish_late)
    with hold() as files:
        files.keep([new("a.txt", "ours"), new("b.txt", "ours")])
    expected = {"a.txt": "theirs", "b.txt": "ours", "removed.txt": "theirs"}
    check(store, home, corpus_id, expected)

    monkeypatch.setattr(store, "is_held", is_held_late)
    with hold(CorpusUse.REMOVE) as files:
        files.remove("removed.txt")
    check(store, home, corpus_id, expected)


def test_a_file_in_the_way_keeps_one_document_from_its_place(
    store: Store, home: Home, corpus_id: str, hold, interrupt, caplog: pytest.LogCaptureFixture
) -> None:
    interrupt(corpus_files, "publish_documents")
    with pytest.raises(Halt), hold() as files:
        files.keep([new("a.txt", "one"), new("b.txt", "two")])
    stranger = home.corpus_dir(corpus_id) / "documents" / "a.txt" / "by hand"
    stranger.parent.mkdir()
    stranger.write_text("not ours")

    with hold():
        pass
    assert "1 files of corpus" in caplog.text
    assert on_disk(home, corpus_id) == {"a.txt/by hand": "not ours", "b.txt": "two"}
    stranger.unlink()
    stranger.parent.rmdir()
    with hold():
        check(store, home, corpus_id, {"a.txt": "one", "b.txt": "two"})
