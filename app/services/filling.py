"""How a corpus gets documents without an upload: from the sample, or from another corpus."""

from collections.abc import Iterator

from app.services.intake import BATCH_FILES, new_text
from jobs.corpus_files import CorpusFiles, NewText, hold_corpus
from jobs.home import Home
from jobs.store.corpus_locks import CorpusUse
from jobs.store.rows import DocumentEntry, DocumentRow
from jobs.store.store import Store
from retro.data.documents import DOCUMENTS_NAME
from retro.data.samples import sample_documents

ROWS_AT_ONCE = 5_000


def all_documents(store: Store, corpus_id: str) -> Iterator[list[DocumentRow]]:
    """Yield the documents of a corpus, some thousand at a time."""
    offset = 0
    while rows := store.list_documents(corpus_id, limit=ROWS_AT_ONCE, offset=offset):
        yield rows
        offset += len(rows)


def fill_from_sample(home: Home, store: Store, corpus_id: str, sample: str) -> None:
    """Put the documents of a built-in sample into a corpus.

    Raises:
        DiskFullError: The disk is full.
    """
    texts = [new_text(document) for document in sample_documents(sample)]
    with hold_corpus(home, store, corpus_id, CorpusUse.ADD) as files:
        for start in range(0, len(texts), BATCH_FILES):
            _keep_all(files, texts[start : start + BATCH_FILES])


def fill_from_corpus(home: Home, store: Store, source_id: str, corpus_id: str) -> None:
    """Put the documents of one corpus into another, without a second copy where possible.

    A stored document is replaced, never written into, so both may share a file. The source is
    locked all the time, so the copy is what it was at one moment.

    Raises:
        BusyError: The documents of the source are being changed.
        ArtifactMissingError: A document of the source is not on disk.
        DiskFullError: The disk is full.
    """
    old = home.corpus_dir(source_id) / DOCUMENTS_NAME
    with (
        hold_corpus(home, store, source_id, CorpusUse.COPY),
        hold_corpus(home, store, corpus_id, CorpusUse.ADD) as files,
    ):
        for rows in all_documents(store, source_id):
            _keep_all(files, [(_entry(row), old / row.path) for row in rows])


def _keep_all(files: CorpusFiles, texts: list[NewText]) -> None:
    problems = [problem for problem in files.keep(texts) if problem is not None]
    if problems:
        raise problems[0]


def _entry(row: DocumentRow) -> DocumentEntry:
    return DocumentEntry(
        path=row.path, bytes=row.bytes, sha256=row.sha256, encoding=row.encoding, note=row.note
    )
