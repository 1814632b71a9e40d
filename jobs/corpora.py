"""Corpora and their documents."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.orm import Session

from jobs.database import Database, new_id
from jobs.errors import InvalidChangeError, NotFoundError
from jobs.lookup import changed_rows, get_corpus_record, lease_lost, refuse_if_active
from jobs.models import Corpus, Document, Job, Run
from jobs.rows import CorpusRow, DocumentEntry, DocumentRow, copy_row
from jobs.states import CorpusState, JobState
from jobs.versions import add_version


class CorpusRecords(Database):
    """Creates, lists and deletes corpora."""

    def create_corpus(self, name: str, settings: Mapping[str, Any]) -> CorpusRow:
        """Record a new corpus without documents."""
        now = self.now()
        with self.write() as session:
            corpus = Corpus(
                id=new_id(), name=name, settings=dict(settings), created_at=now, updated_at=now
            )
            session.add(corpus)
            session.flush()
            return corpus_row(session, corpus)

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

    def delete_corpus(self, corpus_id: str) -> None:
        """Delete a corpus and the rows of its documents; its files are the caller's.

        Raises:
            NotFoundError: There is no such corpus.
            InvalidChangeError: A run was trained on it, or a job works on it.
        """
        with self.write() as session:
            corpus = get_corpus_record(session, corpus_id, lock=True)
            run = session.scalar(select(Run).where(Run.corpus_id == corpus_id).limit(1))
            if run is not None:
                raise InvalidChangeError(
                    f"A corpus can be deleted when no run needs it, corpus {corpus.name!r} is "
                    f"needed by run {run.name!r}. Delete that run first."
                )
            refuse_if_active(session, Job.corpus_id == corpus_id, f"Corpus {corpus.name!r}")
            session.delete(corpus)

    def add_documents(self, corpus_id: str, documents: Sequence[DocumentEntry]) -> None:
        """Record accepted texts; one with a path that is there already replaces it.

        Raises:
            NotFoundError: There is no such corpus.
        """
        newest = {document.path: document for document in documents}
        now = self.now()
        with self.write() as session:
            get_corpus_record(session, corpus_id, lock=True)
            rows = [
                {
                    "corpus_id": corpus_id,
                    "path": document.path,
                    "bytes": document.bytes,
                    "sha256": document.sha256,
                    "encoding": document.encoding,
                    "note": document.note,
                    "created_at": now,
                }
                for document in newest.values()
            ]
            paths = list(newest)
            for start in range(0, len(paths), 500):
                session.execute(
                    delete(Document).where(
                        Document.corpus_id == corpus_id,
                        Document.path.in_(paths[start : start + 500]),
                    )
                )
            if rows:
                session.execute(insert(Document), rows)
            session.execute(update(Corpus).where(Corpus.id == corpus_id).values(updated_at=now))

    def remove_document(self, corpus_id: str, path: str) -> None:
        """Remove the row of a document; its file is the caller's.

        Raises:
            NotFoundError: There is no such corpus or document.
        """
        change = delete(Document).where(Document.corpus_id == corpus_id, Document.path == path)
        with self.write() as session:
            corpus = get_corpus_record(session, corpus_id, lock=True)
            if changed_rows(session, change) != 1:
                raise NotFoundError(f"There is no document {path!r} in corpus {corpus.name!r}.")
            corpus.updated_at = self.now()

    def get_document(self, corpus_id: str, path: str) -> DocumentRow:
        """Return one document.

        Raises:
            NotFoundError: There is no such corpus or document.
        """
        with self.read() as session:
            corpus = get_corpus_record(session, corpus_id)
            document = session.get(Document, (corpus_id, path))
            if document is None:
                raise NotFoundError(f"There is no document {path!r} in corpus {corpus.name!r}.")
            return copy_row(DocumentRow, document)

    def document_sums(
        self,
        corpus_id: str,
        paths: Sequence[str] | None = None,
        sha256s: Sequence[str] | None = None,
    ) -> dict[str, str]:
        """Return path to sha256 of the documents with one of these paths or texts.

        Args:
            corpus_id: The corpus.
            paths: Paths that are looked for; with ``sha256s`` None too, all documents are.
            sha256s: Texts that are looked for.
        """
        columns = select(Document.path, Document.sha256).where(Document.corpus_id == corpus_id)
        queries = [columns] if paths is None and sha256s is None else []
        for column, values in ((Document.path, paths), (Document.sha256, sha256s)):
            for start in range(0, len(values or ()), 500):
                queries.append(columns.where(column.in_((values or ())[start : start + 500])))
        with self.read() as session:
            rows = [row for query in queries for row in session.execute(query)]
        return {row.path: row.sha256 for row in rows}

    def list_documents(
        self, corpus_id: str, limit: int = 100, offset: int = 0, contains: str = ""
    ) -> list[DocumentRow]:
        """Return documents of a corpus in the order of their paths.

        Args:
            corpus_id: The corpus.
            limit: At most this many rows.
            offset: Rows to leave out first.
            contains: Part of the path; upper and lower case are the same.

        Raises:
            NotFoundError: There is no such corpus.
        """
        query = (
            select(Document)
            .where(*_chosen(corpus_id, contains))
            .order_by(Document.path)
            .limit(limit)
            .offset(offset)
        )
        with self.read() as session:
            get_corpus_record(session, corpus_id)
            return [copy_row(DocumentRow, document) for document in session.scalars(query)]

    def count_documents(self, corpus_id: str, contains: str = "") -> int:
        """Return how many documents a corpus has.

        Args:
            corpus_id: The corpus.
            contains: Part of the path; upper and lower case are the same.

        Raises:
            NotFoundError: There is no such corpus.
        """
        with self.read() as session:
            get_corpus_record(session, corpus_id)
            return _count_documents(session, corpus_id, contains)

    def document_bytes(self, corpus_id: str) -> int:
        """Return the bytes of text in a corpus."""
        query = select(func.sum(Document.bytes)).where(Document.corpus_id == corpus_id)
        with self.read() as session:
            return int(session.scalar(query) or 0)


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
    has_documents = _count_documents(session, corpus.id) > 0
    return CorpusState.UPLOADED if has_documents else CorpusState.EMPTY


def _count_documents(session: Session, corpus_id: str, contains: str = "") -> int:
    query = select(func.count()).select_from(Document).where(*_chosen(corpus_id, contains))
    return session.scalar(query) or 0


def _chosen(corpus_id: str, contains: str) -> list[ColumnElement[bool]]:
    """Return the conditions of documents whose path holds some text."""
    conditions = [Document.corpus_id == corpus_id]
    if contains:
        conditions.append(Document.path.icontains(contains, autoescape=True))
    return conditions
