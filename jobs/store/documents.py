"""Documents of corpora: their rows, and the files that have not followed them yet."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlalchemy.orm import Session

from jobs.errors import NotFoundError
from jobs.store.corpus_locks import check_corpus_lock, lock_name
from jobs.store.database import Database
from jobs.store.locks import holds
from jobs.store.lookup import changed_rows, get_corpus_record
from jobs.store.models import Document, DocumentMove
from jobs.store.rows import DocumentEntry, DocumentRow, MoveRow, copy_row

PATHS_AT_ONCE = 500
NOTHING_STAGED: Mapping[str, str] = MappingProxyType({})


class DocumentRecords(Database):
    """Records, lists and removes the documents of corpora."""

    def add_documents(
        self,
        corpus_id: str,
        documents: Sequence[DocumentEntry],
        token: str | None = None,
        staged: Mapping[str, str] = NOTHING_STAGED,
    ) -> float:
        """Record accepted texts; one with a path that is there already replaces it.

        Args:
            corpus_id: The corpus.
            documents: The texts.
            token: Lock of the corpus, see ``check_corpus_lock``.
            staged: Path to the name of the file that is to take its place from now on; files
                of other documents are in their places.

        Returns:
            When the corpus was changed, its ``updated_at``.

        Raises:
            NotFoundError: There is no such corpus.
            BusyError, LockLostError: Another process works on its documents.
        """
        newest = {document.path: document for document in documents}
        now = self.now()
        with self.write() as session:
            corpus = get_corpus_record(session, corpus_id, lock=True)
            check_corpus_lock(session, corpus, token, now)
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
            for table in (Document, DocumentMove):
                _delete_paths(session, table, corpus_id, list(newest))
            if rows:
                session.execute(insert(Document), rows)
            moves = [
                {"corpus_id": corpus_id, "path": path, "staged": staged[path]}
                for path in newest
                if path in staged
            ]
            if moves:
                session.execute(insert(DocumentMove), moves)
            corpus.updated_at = now
            return now

    def remove_document(self, corpus_id: str, path: str, token: str | None = None) -> None:
        """Remove the row of a document; its file is to follow.

        Args:
            corpus_id: The corpus.
            path: Of the document.
            token: Lock of the corpus, see ``check_corpus_lock``.

        Raises:
            NotFoundError: There is no such corpus or document.
            BusyError, LockLostError: Another process works on its documents.
        """
        change = delete(Document).where(Document.corpus_id == corpus_id, Document.path == path)
        with self.write() as session:
            corpus = get_corpus_record(session, corpus_id, lock=True)
            check_corpus_lock(session, corpus, token, self.now())
            if changed_rows(session, change) != 1:
                raise NotFoundError(f"There is no document {path!r} in corpus {corpus.name!r}.")
            session.merge(DocumentMove(corpus_id=corpus_id, path=path, staged=None))
            corpus.updated_at = self.now()

    def list_moves(self, corpus_id: str) -> list[MoveRow]:
        """Return the files of a corpus that have not followed their rows yet, by path."""
        query = (
            select(DocumentMove)
            .where(DocumentMove.corpus_id == corpus_id)
            .order_by(DocumentMove.path)
        )
        with self.read() as session:
            return [copy_row(MoveRow, move) for move in session.scalars(query)]

    def finish_moves(self, corpus_id: str, paths: Sequence[str], token: str) -> None:
        """Record that files have followed their rows.

        Nothing is changed when the lock has been taken over: the other process has moved them.
        """
        with self.write() as session:
            if holds(session, lock_name(corpus_id), token):
                _delete_paths(session, DocumentMove, corpus_id, paths)

    def corpora_with_moves(self) -> list[str]:
        """Return the ids of corpora with files that have not followed their rows yet."""
        with self.read() as session:
            return list(session.scalars(select(DocumentMove.corpus_id).distinct()))

    def staged_file(self, corpus_id: str, path: str) -> str | None:
        """Return the name of the file that is to take the place of a document, None without one."""
        with self.read() as session:
            move = session.get(DocumentMove, (corpus_id, path))
            return None if move is None else move.staged

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
            for start in range(0, len(values or ()), PATHS_AT_ONCE):
                some = (values or ())[start : start + PATHS_AT_ONCE]
                queries.append(columns.where(column.in_(some)))
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

    def document_sizes(self, corpus_id: str) -> dict[str, int]:
        """Return path to bytes of all documents of a corpus."""
        query = select(Document.path, Document.bytes).where(Document.corpus_id == corpus_id)
        with self.read() as session:
            return {row.path: row.bytes for row in session.execute(query)}

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
            return _count_rows(session, corpus_id, contains)

    def document_bytes(self, corpus_id: str) -> int:
        """Return the bytes of text in a corpus."""
        query = select(func.sum(Document.bytes)).where(Document.corpus_id == corpus_id)
        with self.read() as session:
            return int(session.scalar(query) or 0)


def has_documents(session: Session, corpus_id: str) -> bool:
    """Return whether a corpus has any document."""
    query = select(Document.path).where(Document.corpus_id == corpus_id).limit(1)
    return session.scalar(query) is not None


def _delete_paths(
    session: Session, table: type[Document | DocumentMove], corpus_id: str, paths: Sequence[str]
) -> None:
    for start in range(0, len(paths), PATHS_AT_ONCE):
        some = paths[start : start + PATHS_AT_ONCE]
        session.execute(delete(table).where(table.corpus_id == corpus_id, table.path.in_(some)))


def _count_rows(session: Session, corpus_id: str, contains: str = "") -> int:
    query = select(func.count()).select_from(Document).where(*_chosen(corpus_id, contains))
    return session.scalar(query) or 0


def _chosen(corpus_id: str, contains: str) -> list[ColumnElement[bool]]:
    """Return the conditions of documents whose path holds some text."""
    conditions = [Document.corpus_id == corpus_id]
    if contains:
        conditions.append(Document.path.icontains(contains, autoescape=True))
    return conditions
