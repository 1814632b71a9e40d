"""The documents of a corpus, and what the last build made of each."""

import contextlib
import threading
from dataclasses import dataclass

import numpy as np

from app.errors import MissingError
from app.services.corpus_reading import CorpusReader
from app.services.views.corpora import DocumentChanges
from app.services.views.documents import Document, DocumentChunk, DocumentPage, DocumentText
from jobs.corpus_files import hold_corpus
from jobs.errors import NotFoundError
from jobs.home import Home
from jobs.store.corpus_locks import CorpusUse
from jobs.store.rows import CorpusRow, DocumentRow
from jobs.store.states import CorpusState
from jobs.store.store import Store
from retro.corpus.corpus import Corpus
from retro.data.database import DocumentRecord
from retro.data.document_batch import INCOMING_NAME
from retro.data.documents import read_stored
from retro.data.splits import Split
from retro.errors import ArtifactError

CHUNKS_PER_PAGE = 40
CHARACTERS_PER_PAGE = 12_000
NO_CHANGES = DocumentChanges(added=0, replaced=0, removed=0)


@dataclass(frozen=True, slots=True)
class BuiltDocuments:
    """The documents of a finished build by their path."""

    corpus: Corpus
    ids: dict[str, int]

    def find(self, path: str) -> DocumentRecord | None:
        """Return what the build knows of a document, None if it was not there."""
        row = self.ids.get(path)
        return None if row is None else self.corpus.database.documents[row]


class CorpusDocuments(CorpusReader):
    """Lists documents, shows them with their chunks, and removes them."""

    def __init__(self, home: Home, store: Store) -> None:
        super().__init__(home, store)
        self._built: dict[str, BuiltDocuments] = {}
        self._changes: dict[str, tuple[tuple[float, str], DocumentChanges]] = {}
        self._built_lock = threading.Lock()

    def documents(
        self, corpus_id: str, limit: int = 100, offset: int = 0, contains: str = ""
    ) -> DocumentPage:
        """Return a page of a corpus's documents and how many there are.

        Args:
            corpus_id: The corpus.
            limit: Most documents of the page.
            offset: Documents before it.
            contains: Part of the path; upper and lower case are the same.
        """
        self._store.get_corpus(corpus_id)
        rows = self._store.list_documents(corpus_id, limit, offset, contains)
        built = self.built(corpus_id)
        return DocumentPage(
            documents=[_describe(row, built) for row in rows],
            total=self._store.count_documents(corpus_id, contains),
        )

    def built(self, corpus_id: str) -> BuiltDocuments | None:
        """Return the documents of the last build, None if there is none that can be read."""
        try:
            corpus = self.open(corpus_id)
        except ArtifactError:
            return None
        with self._built_lock:
            found = self._built.get(corpus_id)
            if found is None or found.corpus is not corpus:
                ids = {record.path: row for row, record in enumerate(corpus.database.documents)}
                found = self._built[corpus_id] = BuiltDocuments(corpus, ids)
            return found

    def changes(self, row: CorpusRow) -> DocumentChanges:
        """Return how many documents were added, replaced and removed since the last build."""
        if row.state is not CorpusState.READY:
            return NO_CHANGES
        key = (row.updated_at, str((row.summary or {}).get("fingerprint")))
        known = self._changes.get(row.id)
        if known is None or known[0] != key:
            known = self._changes[row.id] = (key, self._count_changes(row.id))
        return known[1]

    def _count_changes(self, corpus_id: str) -> DocumentChanges:
        built = self.built(corpus_id)
        if built is None:
            return NO_CHANGES
        present = self._store.document_sums(corpus_id)
        before = {record.path: record.sha256 for record in built.corpus.database.documents}
        both = present.keys() & before.keys()
        return DocumentChanges(
            added=len(present.keys() - before.keys()),
            replaced=sum(present[path] != before[path] for path in both),
            removed=len(before.keys() - present.keys()),
        )

    def document(
        self,
        corpus_id: str,
        path: str,
        *,
        page: int | None = None,
        chunk_id: int | None = None,
        start: int | None = None,
    ) -> DocumentText:
        """Return a page of a document's text, with its chunks where it was built.

        Args:
            corpus_id: The corpus.
            path: Relative path.
            page: Counted from 1; None is that of ``chunk_id`` or ``start``, else the first.
            chunk_id: A chunk on the wanted page. The text is that of the build.
            start: A character on the wanted page. The text is that of the build.

        Raises:
            NotFoundError: There is no such document, neither now nor in the build.
            MissingError: The chunk or the page is not of this document.
        """
        row = self._find_row(corpus_id, path)
        built = self.built(corpus_id)
        record = None if built is None else built.find(path)
        if row is None and record is None:
            # Says that it is missing.
            self._store.get_document(corpus_id, path)
        is_changed = record is not None and (row is None or row.sha256 != record.sha256)
        shows_build = not is_changed or row is None or chunk_id is not None or start is not None
        facts: dict[str, object] = {
            "path": path,
            "bytes": row.bytes if row else record.bytes if record else 0,
            "encoding": row.encoding if row else None,
            "note": row.note if row else None,
            "is_stored": row is not None,
            "is_changed": is_changed,
            "split": None if record is None else record.split,
            "num_chunks": None if record is None else record.num_chunks,
        }
        if built is not None and record is not None and record.num_chunks and shows_build:
            shown = _chunk_page(built, record, path, page, chunk_id, start)
            return DocumentText.of(None, **facts, **shown)
        if chunk_id is not None:
            raise MissingError(f"Chunk {chunk_id} is not of {path!r}. Choose one of its chunks.")
        return DocumentText.of(None, **facts, **self._text_page(corpus_id, path, page, start))

    def _find_row(self, corpus_id: str, path: str) -> DocumentRow | None:
        self._store.get_corpus(corpus_id)
        try:
            return self._store.get_document(corpus_id, path)
        except NotFoundError:
            return None

    def _text_page(
        self, corpus_id: str, path: str, page: int | None, start: int | None
    ) -> dict[str, object]:
        text = self._read(corpus_id, path)
        wanted = (start or 0) // CHARACTERS_PER_PAGE + 1 if page is None else page
        number, last = _check_page(wanted, len(text), CHARACTERS_PER_PAGE, path)
        first = (number - 1) * CHARACTERS_PER_PAGE
        return {
            "num_characters": len(text),
            "page": number,
            "num_pages": last,
            "start": first,
            "text": text[first : first + CHARACTERS_PER_PAGE],
            "chunks": [],
        }

    def _read(self, corpus_id: str, path: str) -> str:
        """Return the text of a document as it is recorded, whether its file has followed or not."""
        folder = self._home.corpus_dir(corpus_id)
        staged = self._store.staged_file(corpus_id, path)
        if staged is not None:
            # It may take its place at this moment.
            with contextlib.suppress(FileNotFoundError):
                return (folder / INCOMING_NAME / staged).read_bytes().decode()
        return read_stored(folder, path)

    def remove_document(self, corpus_id: str, path: str) -> None:
        """Remove a document; it leaves the index with the next build.

        Raises:
            NotFoundError: There is no such document.
            InvalidChangeError: The corpus is being built, or others change its documents.
        """
        self._store.get_document(corpus_id, path)
        with hold_corpus(self._home, self._store, corpus_id, CorpusUse.REMOVE) as files:
            files.remove(path)

    def forget(self, corpus_id: str) -> None:
        """Close a corpus that is no longer needed."""
        super().forget(corpus_id)
        self._built.pop(corpus_id, None)
        self._changes.pop(corpus_id, None)


def _describe(row: DocumentRow, built: BuiltDocuments | None) -> Document:
    record = None if built is None else built.find(row.path)
    return Document.of(
        row,
        num_chunks=None if record is None else record.num_chunks,
        is_held_out=record is not None and record.split is not Split.TRAIN,
        is_changed=record is not None and record.sha256 != row.sha256,
    )


def _chunk_page(
    built: BuiltDocuments,
    record: DocumentRecord,
    path: str,
    page: int | None,
    chunk_id: int | None,
    start: int | None,
) -> dict[str, object]:
    database, retriever = built.corpus.database, built.corpus.retriever()
    both = database.document_chunks(built.ids[path])
    ids = range(both[0].start, both[1].stop)
    if chunk_id is not None and chunk_id not in ids:
        raise MissingError(f"Chunk {chunk_id} is not of {path!r}. Choose one of its chunks.")
    index = 0
    if chunk_id is not None:
        index = chunk_id - ids.start
    elif start is not None:
        ends = database.spans_C2[ids.start : ids.stop, 1]
        index = min(int(np.searchsorted(ends, start, side="right")), len(ids) - 1)
    wanted = index // CHUNKS_PER_PAGE + 1 if page is None else page
    number, last = _check_page(wanted, len(ids), CHUNKS_PER_PAGE, path)
    chosen = ids[(number - 1) * CHUNKS_PER_PAGE : number * CHUNKS_PER_PAGE]
    spans = database.spans_C2[chosen.start : chosen.stop].tolist()
    tokens = (database.chunks_CM[chosen.start : chosen.stop] != database.pad_id).sum(axis=1)
    chunks = [
        DocumentChunk(
            chunk_id=id,
            chunk_index=id - ids.start,
            start=first,
            end=end,
            num_tokens=int(num_tokens),
            is_held_out=id >= database.num_retrievable,
            text=retriever.chunk_text(id),
        )
        for id, (first, end), num_tokens in zip(chosen, spans, tokens, strict=True)
    ]
    return {
        "num_characters": record.characters,
        "page": number,
        "num_pages": last,
        "start": chunks[0].start,
        "text": "".join(chunk.text for chunk in chunks),
        "chunks": chunks,
    }


def _check_page(page: int, total: int, size: int, path: str) -> tuple[int, int]:
    last = max(1, -(-total // size))
    if not 1 <= page <= last:
        raise MissingError(f"page must be between 1 and {last} for {path!r}, got {page}.")
    return page, last
