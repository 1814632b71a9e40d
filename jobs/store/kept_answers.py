"""Answers to requests that may be sent again: each is done once under its key."""

import hashlib
import zlib

from sqlalchemy import delete

from jobs.errors import BusyError
from jobs.store.database import Database
from jobs.store.locks import find_holder, holds, place_lock
from jobs.store.models import KeptAnswer, Lock
from jobs.store.rows import AnswerRow

KEPT_S = 24 * 3600.0
"""How long an answer is kept, seconds."""
PURPOSE = "request"
PREFIX = "request:"
"""Beginning of the names of locks."""


class KeptAnswers(Database):
    """Begins requests under their keys, and keeps what they were answered."""

    def begin_request(self, key: str) -> AnswerRow | str:
        """Return what was answered under a key, or take its lock to do what is asked.

        Returns:
            The answer, or the token of the lock.

        Raises:
            BusyError: A request with this key is at work.
        """
        now, name = self.now(), _lock_name(key)
        with self.write() as session:
            token = None
            if find_holder(session, name, now) is None:
                token = place_lock(session, name, PURPOSE, now)
            if token is None:
                raise BusyError(
                    f"A request is done once under its Idempotency-Key, and the one with "
                    f"{key[:40]!r} is still at work. Send it again in a moment."
                )
            # Under the lock: before it, one that was at work may have ended in between.
            kept = session.get(KeptAnswer, key)
            if kept is None or kept.created_at <= now - KEPT_S:
                return token
            session.execute(delete(Lock).where(Lock.token == token))
            return AnswerRow(
                request=kept.request,
                status=kept.status,
                content_type=kept.content_type,
                body=zlib.decompress(kept.body),
                location=kept.location,
            )

    def keep_answer(self, key: str, answer: AnswerRow, token: str) -> None:
        """Keep what a request was answered, and let go of its lock.

        Nothing is kept when the lock has been taken over: the other process does what is asked.
        """
        now, name = self.now(), _lock_name(key)
        with self.write() as session:
            if not holds(session, name, token):
                return
            session.execute(delete(KeptAnswer).where(KeptAnswer.created_at <= now - KEPT_S))
            # Of processes that were killed, under keys that nobody used again.
            abandoned = (Lock.name.startswith(PREFIX), Lock.expires_at <= now - KEPT_S)
            session.execute(delete(Lock).where(*abandoned))
            session.merge(
                KeptAnswer(
                    key=key,
                    request=answer.request,
                    status=answer.status,
                    content_type=answer.content_type,
                    body=zlib.compress(answer.body),
                    location=answer.location,
                    created_at=now,
                )
            )
            session.execute(delete(Lock).where(Lock.token == token))


def _lock_name(key: str) -> str:
    return f"{PREFIX}{hashlib.sha256(key.encode()).hexdigest()}"
