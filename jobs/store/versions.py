"""Versions of corpora: each build that made something new is the next one."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jobs.store.database import Database
from jobs.store.lookup import get_corpus_record, get_run_record, require_lease
from jobs.store.models import Corpus, CorpusVersion
from jobs.store.rows import CorpusVersionRow, copy_row


class VersionRecords(Database):
    """Records and lists versions of corpora."""

    def list_versions(self, corpus_id: str) -> list[CorpusVersionRow]:
        """Return the versions of a corpus, the newest first.

        Raises:
            NotFoundError: There is no such corpus.
        """
        query = (
            select(CorpusVersion)
            .where(CorpusVersion.corpus_id == corpus_id)
            .order_by(CorpusVersion.number.desc())
        )
        with self.read() as session:
            get_corpus_record(session, corpus_id)
            return [copy_row(CorpusVersionRow, row) for row in session.scalars(query)]

    def record_version(self, corpus_id: str) -> int | None:
        """Return the version that a corpus is now, None if it was never built.

        A corpus that was built before versions were counted gets its first one here.

        Raises:
            NotFoundError: There is no such corpus.
        """
        with self.write() as session:
            corpus = get_corpus_record(session, corpus_id, lock=True)
            return add_version(session, corpus, corpus.settings, corpus.updated_at)

    def set_run_version(self, run_id: str, token: str, fingerprint: str | None) -> None:
        """Record which version of its corpus a run is trained on.

        Args:
            run_id: The run.
            token: Lease of the job that trains it.
            fingerprint: Identity of what it reads.

        Raises:
            LeaseLost: The lease is no longer this process's.
        """
        with self.write() as session:
            run = get_run_record(session, run_id, lock=True)
            corpus = get_corpus_record(session, run.corpus_id, lock=True)
            require_lease(session, run_id, token)
            add_version(session, corpus, corpus.settings, corpus.updated_at)
            run.corpus_version = _number(session, corpus.id, fingerprint)


def add_version(
    session: Session, corpus: Corpus, settings: Mapping[str, Any], built_at: float
) -> int | None:
    """Record what a corpus holds as its next version, unless it is one already.

    Args:
        session: A transaction that has locked the corpus.
        corpus: The corpus with the facts of its newest build.
        settings: How it was built.
        built_at: When.

    Returns:
        The number of the version, None where nothing is known of a build.
    """
    summary = corpus.summary or {}
    fingerprint = summary.get("fingerprint")
    if not fingerprint:
        return None
    found = _number(session, corpus.id, fingerprint)
    if found is not None:
        return found
    newest = select(func.max(CorpusVersion.number)).where(CorpusVersion.corpus_id == corpus.id)
    number = (session.scalar(newest) or 0) + 1
    session.add(
        CorpusVersion(
            corpus_id=corpus.id,
            number=number,
            fingerprint=fingerprint,
            settings=dict(settings),
            summary=summary,
            built_at=built_at,
        )
    )
    session.flush()
    return number


def _number(session: Session, corpus_id: str, fingerprint: str | None) -> int | None:
    return session.scalar(
        select(CorpusVersion.number).where(
            CorpusVersion.corpus_id == corpus_id, CorpusVersion.fingerprint == fingerprint
        )
    )
