"""A lock has one holder, who is replaced only when it is gone, and then changes nothing more."""

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import psutil
import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from jobs.errors import BusyError, InvalidChangeError, LockLostError, NotFoundError
from jobs.store import locks
from jobs.store.corpus_locks import CorpusUse
from jobs.store.locks import LOCK_S, LockKeeper, is_gone, this_process
from jobs.store.models import Lock
from jobs.store.rows import DocumentEntry
from jobs.store.store import Store
from jobs.work.processes import is_alive

pytestmark = pytest.mark.both_databases
ENTRY = DocumentEntry(path="a.txt", bytes=3, sha256="0" * 64, encoding="utf-8")


@pytest.fixture
def corpus_id(store: Store) -> str:
    return store.create_corpus("letters", {}).id


def give_to(store: Store, holder: str) -> None:
    """Make all locks those of another process."""
    with store.write() as session:
        session.execute(update(Lock).values(holder=holder))


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_corpus_has_one_holder_until_it_lets_go(store: Store, corpus_id: str) -> None:
    lock = store.take_corpus(corpus_id, CorpusUse.ADD)
    assert lock.corpus == store.get_corpus(corpus_id)
    assert store.is_locked(f"corpus:{corpus_id}")

    with pytest.raises(BusyError, match=r"'letters'.*files are being added to it\. Try again"):
        store.take_corpus(corpus_id, CorpusUse.REMOVE)
    other = store.create_corpus("others", {})
    store.take_corpus(other.id, CorpusUse.COPY)
    store.release_lock(lock.token)

    assert not store.is_locked(f"corpus:{corpus_id}")
    assert store.take_corpus(corpus_id, CorpusUse.COPY).token != lock.token
    with pytest.raises(NotFoundError):
        store.take_corpus("nothing", CorpusUse.ADD)


def test_a_lock_is_taken_over_when_it_was_not_renewed(store: Store, clock, corpus_id: str) -> None:
    first = store.take_corpus(corpus_id, CorpusUse.ADD)
    clock.advance(LOCK_S - 1)
    store.renew_lock(first.token)
    clock.advance(LOCK_S - 1)
    with pytest.raises(BusyError):
        store.take_corpus(corpus_id, CorpusUse.ADD)
    assert store.is_held(first.token)

    clock.advance(1)
    assert not store.is_locked(f"corpus:{corpus_id}")
    second = store.take_corpus(corpus_id, CorpusUse.ADD)

    assert not store.is_held(first.token)
    store.renew_lock(first.token)
    store.release_lock(first.token)
    assert store.is_held(second.token)


def test_who_has_lost_a_lock_changes_nothing(store: Store, clock, corpus_id: str) -> None:
    store.add_documents(corpus_id, [ENTRY])
    lost = store.take_corpus(corpus_id, CorpusUse.ADD).token
    clock.advance(LOCK_S)
    store.take_corpus(corpus_id, CorpusUse.ADD)
    before = store.list_documents(corpus_id)

    for change in (
        lambda: store.add_documents(corpus_id, [ENTRY], lost),
        lambda: store.remove_document(corpus_id, "a.txt", lost),
        lambda: store.submit("build", corpus_id=corpus_id, settings={}, lock=lost),
        lambda: store.delete_corpus(corpus_id, lost),
    ):
        with pytest.raises(LockLostError, match=r"'letters'.*another one has taken over"):
            change()

    assert store.list_documents(corpus_id) == before
    assert store.list_jobs() == []


def test_changes_without_the_lock_wait_for_its_holder(store: Store, corpus_id: str) -> None:
    store.add_documents(corpus_id, [ENTRY])
    token = store.take_corpus(corpus_id, CorpusUse.COPY).token

    for change in (
        lambda: store.add_documents(corpus_id, [ENTRY]),
        lambda: store.remove_document(corpus_id, "a.txt"),
        lambda: store.submit("build", corpus_id=corpus_id, settings={}),
        lambda: store.delete_corpus(corpus_id),
    ):
        with pytest.raises(BusyError, match="it is being copied"):
            change()

    store.submit("count", corpus_id=corpus_id, settings={})
    store.add_documents(corpus_id, [ENTRY], token)


def test_a_build_that_is_submitted_ends_the_claim_of_who_was_halted(
    store: Store, clock, corpus_id: str
) -> None:
    token = store.take_corpus(corpus_id, CorpusUse.ADD).token
    clock.advance(LOCK_S)

    store.submit("build", corpus_id=corpus_id, settings={})

    with pytest.raises(LockLostError):
        store.add_documents(corpus_id, [ENTRY], token)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (CorpusUse.ADD, "Files can be added to corpus 'letters' when it is not being built"),
        (CorpusUse.REMOVE, "Documents can be removed from corpus 'letters' when"),
    ],
)
def test_documents_stay_as_they_are_during_a_build(
    store: Store, corpus_id: str, use: CorpusUse, words: str
) -> None:
    store.submit("build", corpus_id=corpus_id, settings={})

    with pytest.raises(InvalidChangeError, match=words):
        store.take_corpus(corpus_id, use)
    store.take_corpus(corpus_id, CorpusUse.COPY)


def test_a_purpose_of_another_version_is_told_all_the_same(store: Store, corpus_id: str) -> None:
    store.take_corpus(corpus_id, CorpusUse.ADD)
    with store.write() as session:
        session.execute(update(Lock).values(purpose="polish"))

    with pytest.raises(BusyError, match="another one is at work"):
        store.take_corpus(corpus_id, CorpusUse.ADD)


@pytest.mark.slow
def test_the_lock_of_a_process_that_has_ended_is_free_at_once(store: Store, corpus_id: str) -> None:
    host = socket.gethostname()
    store.take_corpus(corpus_id, CorpusUse.ADD)
    for holder in (f"elsewhere {ended_process()} ab", f"{host} {os.getppid()} ab"):
        give_to(store, holder)
        with pytest.raises(BusyError):
            store.take_corpus(corpus_id, CorpusUse.ADD)

    for holder in (f"{host} {ended_process()} ab", f"{host} {os.getpid()} another"):
        give_to(store, holder)
        assert not store.is_locked(f"corpus:{corpus_id}")
        store.take_corpus(corpus_id, CorpusUse.ADD)


@pytest.mark.slow
def test_a_process_that_waits_for_its_parent_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(process.pid)
    process.wait()

    def refuse(_process: psutil.Process) -> str:
        raise psutil.AccessDenied

    assert is_alive(os.getpid())
    monkeypatch.setattr(psutil.Process, "status", refuse)
    assert is_alive(os.getpid())
    assert not is_gone(this_process())


def test_a_lock_is_renewed_until_the_end_of_the_block(
    store: Store, clock, corpus_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "RENEW_S", 0.01)
    token = store.take_corpus(corpus_id, CorpusUse.ADD).token
    renewed = threading.Semaphore(0)
    renew = store.renew_lock

    def look(of: str) -> None:
        renew(of)
        renewed.release()

    monkeypatch.setattr(store, "renew_lock", look)
    clock.advance(LOCK_S - 1)
    with LockKeeper(store, token):
        for _ in range(2):
            assert renewed.acquire(timeout=30)
        clock.advance(LOCK_S - 1)
        assert store.is_locked(f"corpus:{corpus_id}")

    assert not store.is_held(token)


def test_a_database_that_does_not_answer_leaves_a_lock_to_its_age(
    store: Store,
    corpus_id: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(locks, "RENEW_S", 0.01)
    token = store.take_corpus(corpus_id, CorpusUse.ADD).token
    failed = threading.Event()

    def fail(*_: object) -> None:
        failed.set()
        raise OperationalError("renew", {}, Exception("out of reach"))

    monkeypatch.setattr(store, "renew_lock", fail)
    monkeypatch.setattr(store, "release_lock", fail)
    with caplog.at_level(logging.WARNING), LockKeeper(store, token):
        assert failed.wait(30)

    assert "could not be renewed" in caplog.text
    assert "let go of by its age" in caplog.text
    assert store.is_held(token)


@pytest.mark.parametrize("times", range(3))
def test_of_many_who_come_at_once_one_gets_the_lock(
    database_url: str, open_store: Callable[[str], Store], times: int
) -> None:
    store = open_store(database_url)
    together = threading.Barrier(8)
    got: list[object] = []

    def begin() -> None:
        together.wait()
        try:
            got.append(store.begin_request(f"key {times}"))
        except BusyError as error:
            got.append(error)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(isinstance(one, str) for one in got) == 1
    assert sum(isinstance(one, BusyError) for one in got) == 7
