"""Corpora: their rows, their states, their locks."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from jobs.errors import InvalidChangeError
from jobs.store.corpus_locks import (
    CorpusUse,
    check_corpus_lock,
    lock_name,
    refuse_during_a_build,
    take_corpus_lock,
)
from jobs.store.database import Database, new_id
from jobs.store.documents import has_documents
from jobs.store.locks import is_over, place_lock
from jobs.store.lookup import get_corpus_record, lease_lost, refuse_if_active
from jobs.store.models import Corpus, DeletedCorpus, Job, Lock, Run
from jobs.store.rows import CorpusLock, CorpusRow, copy_row
from jobs.store.states import CorpusState, JobState
from jobs.store.versions import add_version

MAKING = "making:"
"""Beginning of the names of locks whose holders make corpora."""


class CorpusRecords(Database):
    """Creates, lists and deletes corpora."""

    def create_corpus(self, name: str, settings: Mapping[str, Any]) -> CorpusRow:
        """Record a new corpus without documents."""
        with self.write() as session:
            return corpus_row(session, self._add_corpus(session, name, settings))

    def begin_corpus(self, name: str, settings: Mapping[str, Any]) -> CorpusLock:
        """Record a new corpus that is worth something once it is filled.

        Returns:
            The corpus, and the lock that its maker holds until it is finished.
        """
        with self.write() as session:
            corpus = self._add_corpus(session, name, settings)
            token = place_lock(session, f"{MAKING}{corpus.id}", "make", self.now())
            assert token is not None, "the id is new"
            return CorpusLock(corpus=corpus_row(session, corpus), token=token)

    def unfinished_corpora(self) -> dict[str, str]:
        """Return the ids of corpora whose maker is gone, each with the token of its lock."""
        with self.read() as session:
            locks = session.scalars(select(Lock).where(Lock.name.startswith(MAKING)))
            return {
                lock.name.removeprefix(MAKING): lock.token
                for lock in locks
                if is_over(lock, self.now())
            }

    def _add_corpus(self, session: Session, name: str, settings: Mapping[str, Any]) -> Corpus:
        now = self.now()
        corpus = Corpus(
            id=new_id(), name=name, settings=dict(settings), created_at=now, updated_at=now
        )
        session.add(corpus)
        session.flush()
        return corpus

    def list_corpora(self) -> list[CorpusRow]:
        """Return all corpora, newest first."""
        query = select(Corpus).order_by(Corpus.created_at.desc(), Corpus.id)
        with self.read() as session:
            return [corpus_row(session, corpus) for corpus in session.scalars(query).all()]

    def get_corpus(self, corpus_id: str) -> CorpusRow:
        """Return one corpus.

        Raises:
            NotFoundError: There is no such corpus.
        """
        with self.read() as session:
            return corpus_row(session, get_corpus_record(session, corpus_id))

    def set_corpus_settings(self, corpus_id: str, settings: Mapping[str, Any]) -> CorpusRow:
        """Replace the settings the next build uses.

        Raises:
            NotFoundError: There is no such corpus.
        """
        with self.write() as session:
            corpus = get_corpus_record(session, corpus_id, lock=True)
            corpus.settings, corpus.updated_at = dict(settings), self.now()
            session.flush()
            return corpus_row(session, corpus)

    def rename_corpus(self, corpus_id: str, name: str) -> CorpusRow:
        """Give a corpus another name.

        Raises:
            NotFoundError: There is no such corpus.
        """
        with self.write() as session:
            corpus = get_corpus_record(session, corpus_id, lock=True)
            corpus.name, corpus.updated_at = name, self.now()
            session.flush()
            return corpus_row(session, corpus)

    def set_corpus_summary(
        self,
        corpus_id: str,
        summary: Mapping[str, Any],
        token: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Record the facts of a finished build, which is the next version if it made one.

        Args:
            corpus_id: The corpus.
            summary: Facts of the build.
            token: Lease of the build job that writes this; None for a build outside of jobs.
            settings: How it was built; None is as the corpus says.

        Raises:
            NotFoundError: There is no such corpus.
            LeaseLost: The lease is no longer this process's.
        """
        with self.write() as session:
            corpus = get_corpus_record(session, corpus_id, lock=True)
            if token is not None:
                holds = select(Job.id).where(Job.corpus_id == corpus_id, Job.lease_token == token)
                if session.scalar(holds.with_for_update()) is None:
                    raise lease_lost(f"of corpus {corpus_id}")
            corpus.summary, corpus.updated_at = dict(summary), self.now()
            used = corpus.settings if settings is None else settings
            add_version(session, corpus, used, corpus.updated_at)

    def take_corpus(self, corpus_id: str, use: CorpusUse) -> CorpusLock:
        """Take the lock of a corpus.

        Raises:
            NotFoundError: There is no such corpus.
            InvalidChangeError: It is being built, and that has to end first.
            BusyError: Another process holds its lock.
        """
        with self.write() as session:
            corpus = get_corpus_record(session, corpus_id, lock=True)
            row = corpus_row(session, corpus)
            refuse_during_a_build(row, use)
            return CorpusLock(corpus=row, token=take_corpus_lock(session, corpus, use, self.now()))

    def delete_corpus(self, corpus_id: str, token: str | None = None) -> None:
        """Delete a corpus and the rows of its documents; its folder is to follow.

        Args:
            corpus_id: The corpus.
            token: Lock of the corpus, see ``check_corpus_lock``.

        Raises:
            NotFoundError: There is no such corpus.
            InvalidChangeError: A run was trained on it, or a job works on it.
            BusyError, LockLostError: Another process works on its documents.
        """
        with self.write() as session:
            corpus = get_corpus_record(session, corpus_id, lock=True)
            check_corpus_lock(session, corpus, token, self.now())
            run = session.scalar(select(Run).where(Run.corpus_id == corpus_id).limit(1))
            if run is not None:
                raise InvalidChangeError(
                    f"A corpus can be deleted when no run needs it, corpus {corpus.name!r} is "
                    f"needed by run {run.name!r}. Delete that run first."
                )
            refuse_if_active(session, Job.corpus_id == corpus_id, f"Corpus {corpus.name!r}")
            session.execute(delete(Lock).where(Lock.name == lock_name(corpus_id)))
            session.delete(corpus)
            session.add(DeletedCorpus(id=corpus_id))

    def deleted_corpora(self) -> list[str]:
        """Return the ids of deleted corpora whose folders may still be there."""
        with self.read() as session:
            return list(session.scalars(select(DeletedCorpus.id).order_by(DeletedCorpus.id)))

    def forget_deleted(self, corpus_id: str) -> None:
        """Record that the folder of a deleted corpus is gone."""
        with self.write() as session:
            session.execute(delete(DeletedCorpus).where(DeletedCorpus.id == corpus_id))


def corpus_row(session: Session, corpus: Corpus) -> CorpusRow:
    """Copy a corpus with its state, which follows its documents and its newest build."""
    return copy_row(CorpusRow, corpus, state=_corpus_state(session, corpus))


def _corpus_state(session: Session, corpus: Corpus) -> CorpusState:
    if corpus.build_job_id is not None:
        found = session.scalar(select(Job.state).where(Job.id == corpus.build_job_id))
        build = JobState(found) if found is not None else JobState.CANCELED
        if not build.is_finished:
            return CorpusState.BUILDING
        if build is JobState.SUCCEEDED:
            return CorpusState.READY
        if build is not JobState.CANCELED:
            return CorpusState.FAILED
    elif corpus.summary is not None:
        return CorpusState.READY
    return CorpusState.UPLOADED if has_documents(session, corpus.id) else CorpusState.EMPTY
