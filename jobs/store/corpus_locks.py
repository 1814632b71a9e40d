"""The lock of a corpus: its documents are changed by one process at a time.

Who adds documents holds it from the choice of what to store until the files are in their
places. The transaction that takes it checks that the corpus is there and may be changed; the
one that records what was done checks that it is still held.
"""

from enum import StrEnum

from sqlalchemy.orm import Session

from jobs.errors import BusyError, InvalidChangeError, LockLostError
from jobs.store.locks import find_holder, holds, place_lock
from jobs.store.models import Corpus
from jobs.store.rows import CorpusRow
from jobs.store.states import CorpusState


class CorpusUse(StrEnum):
    """What a corpus is locked for."""

    ADD = "add"
    REMOVE = "remove"
    COPY = "copy"
    BUILD = "build"
    """To submit a build."""
    INGEST = "ingest"
    """By a build, before it reads the documents."""
    DELETE = "delete"
    TIDY = "tidy"


DOING: dict[str, str] = {
    CorpusUse.ADD: "files are being added to it",
    CorpusUse.REMOVE: "a document is being removed from it",
    CorpusUse.COPY: "it is being copied",
    CorpusUse.BUILD: "a build of it is being submitted",
    CorpusUse.INGEST: "a build begins to read it",
    CorpusUse.DELETE: "it is being deleted",
    CorpusUse.TIDY: "files that it does not know are being removed",
}
NOT_DURING_A_BUILD = {
    CorpusUse.ADD: "Files can be added to",
    CorpusUse.REMOVE: "Documents can be removed from",
}


def lock_name(corpus_id: str) -> str:
    """Return the name of the lock of a corpus."""
    return f"corpus:{corpus_id}"


def refuse_during_a_build(corpus: CorpusRow, use: CorpusUse) -> None:
    """Raise ``InvalidChangeError`` if a corpus is being built and this has to wait for the end."""
    if corpus.state is CorpusState.BUILDING and use in NOT_DURING_A_BUILD:
        raise InvalidChangeError(
            f"{NOT_DURING_A_BUILD[use]} corpus {corpus.name!r} when it is not being built. "
            f"Wait for the build to end, or cancel it on the Jobs page."
        )


def take_corpus_lock(session: Session, corpus: Corpus, use: CorpusUse, now: float) -> str:
    """Take the lock of a corpus, whose row this transaction has locked, and return its token.

    Raises:
        BusyError: Another process holds it.
    """
    _refuse_if_held(session, corpus, now)
    token = place_lock(session, lock_name(corpus.id), use, now)
    assert token is not None, "the row of the corpus is locked, so nobody can be faster"
    return token


def check_corpus_lock(session: Session, corpus: Corpus, token: str | None, now: float) -> None:
    """Refuse a change of a corpus, whose row this transaction has locked, without its lock.

    Args:
        session: The transaction of the change.
        corpus: The corpus.
        token: Of the lock; None for a change that takes no longer than its transaction.
        now: UTC seconds.

    Raises:
        BusyError: There is no token, and a process holds the lock.
        LockLostError: The lock is no longer held under this token.
    """
    if token is None:
        _refuse_if_held(session, corpus, now)
    elif not holds(session, lock_name(corpus.id), token):
        raise LockLostError(
            f"Corpus {corpus.name!r} must be locked while it is changed, and this request was "
            f"halted for so long that another one has taken over. Send it again; what is stored "
            f"already is found unchanged."
        )


def _refuse_if_held(session: Session, corpus: Corpus, now: float) -> None:
    holder = find_holder(session, lock_name(corpus.id), now)
    if holder is not None:
        doing = DOING.get(holder.purpose, "another one is at work")
        raise BusyError(
            f"Corpus {corpus.name!r} is changed by one request at a time, and {doing}. "
            f"Try again in a moment."
        )
