"""Locks: what one process at a time works on, whichever host it is on.

A lock is a row that its holder renews. One that was not renewed in time, or whose process is
gone, is taken over under another token. Every transaction that depends on a lock checks its
token, so a holder that was halted for too long changes nothing any more.
"""

import functools
import logging
import os
import secrets
import socket
import threading

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from jobs.errors import PASSING_FAULTS
from jobs.store.database import Database, new_id
from jobs.store.models import Lock
from jobs.work.processes import is_alive

logger = logging.getLogger(__name__)

LOCK_S = 30.0
"""How long a lock holds without being renewed, seconds."""
RENEW_S = 5.0
"""How often a lock is renewed, seconds."""


def find_holder(session: Session, name: str, now: float) -> Lock | None:
    """Return a lock if somebody holds it; one whose holder is gone is removed.

    Args:
        session: A transaction that may write.
        name: Of the lock.
        now: UTC seconds.
    """
    lock = session.get(Lock, name, with_for_update=True)
    if lock is None or not is_over(lock, now):
        return lock
    # What its token stands for must not be believed any more.
    session.delete(lock)
    session.flush()
    return None


def is_over(lock: Lock, now: float) -> bool:
    """Return whether a lock was not renewed in time, or its holder has ended."""
    return lock.expires_at <= now or is_gone(lock.holder)


def place_lock(session: Session, name: str, purpose: str, now: float) -> str | None:
    """Take a lock that nobody holds, and return its token, None if another one was faster.

    Args:
        session: The transaction in which ``find_holder`` has found nobody.
        name: Of the lock.
        purpose: What it is taken for.
        now: UTC seconds.
    """
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    insert = (sqlite if on_sqlite else postgresql).insert(Lock)
    values = {"holder": this_process(), "purpose": purpose, "expires_at": now + LOCK_S}
    place = insert.values(name=name, token=new_id(), **values).on_conflict_do_nothing()
    token: str | None = session.scalar(place.returning(Lock.token))
    return token


def holds(session: Session, name: str, token: str) -> bool:
    """Return whether a lock is still held under this token, and keep it so to the commit."""
    query = select(Lock.name).where(Lock.name == name, Lock.token == token).with_for_update()
    return session.scalar(query) is not None


class Locks(Database):
    """Renews locks and lets go of them."""

    def renew_lock(self, token: str) -> None:
        """Let a lock hold longer, if nobody has taken it over."""
        renew = update(Lock).where(Lock.token == token).values(expires_at=self.now() + LOCK_S)
        with self.write() as session:
            session.execute(renew)

    def is_locked(self, name: str) -> bool:
        """Return whether somebody holds a lock."""
        with self.read() as session:
            lock = session.get(Lock, name)
            return lock is not None and not is_over(lock, self.now())

    def is_held(self, token: str) -> bool:
        """Return whether nobody has taken a lock over."""
        with self.read() as session:
            return session.scalar(select(Lock.name).where(Lock.token == token)) is not None

    def release_lock(self, token: str) -> None:
        """Let go of a lock, if nobody has taken it over."""
        with self.write() as session:
            session.execute(delete(Lock).where(Lock.token == token))


class LockKeeper:
    """Renews a lock, from a thread of its own, and lets go of it at the end.

    Args:
        locks: The database.
        token: Of the lock.
    """

    def __init__(self, locks: Locks, token: str) -> None:
        self._locks = locks
        self._token = token
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lock", daemon=True)

    def __enter__(self) -> "LockKeeper":
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Renew the lock from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Renew the lock no more, and let go of it."""
        self._ended.set()
        self._thread.join()
        try:
            self._locks.release_lock(self._token)
        except PASSING_FAULTS as error:
            logger.warning("a lock is let go of by its age alone: %s", error)

    def _keep(self) -> None:
        while not self._ended.wait(RENEW_S):
            try:
                self._locks.renew_lock(self._token)
            except PASSING_FAULTS as error:
                logger.warning("a lock could not be renewed: %s", error)


def this_process() -> str:
    """Return host, number and mark of this process."""
    return f"{socket.gethostname()} {os.getpid()} {_mark_of(os.getpid())}"


@functools.cache
def _mark_of(_pid: int) -> str:
    """Return what differs between processes that get the same number, one after the other."""
    return secrets.token_hex(4)


def is_gone(holder: str) -> bool:
    """Return whether a process has certainly ended; of other hosts, that is not known."""
    host, pid, _ = holder.rsplit(" ", 2)
    if host != socket.gethostname():
        return False
    if int(pid) == os.getpid():
        return holder != this_process()
    return not is_alive(int(pid))
