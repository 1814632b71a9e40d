"""How a corpus gets documents without an upload: from the sample, or from another corpus."""

import errno
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from jobs.home import Home
from jobs.rows import DocumentEntry, DocumentRow
from jobs.store import Store
from retro.artifacts import disk_errors
from retro.data.documents import DOCUMENTS_NAME, store_document
from retro.data.samples import sample_documents
from retro.errors import ArtifactMissingError

ROWS_AT_ONCE = 5_000
NO_LINKS = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
"""How a file system says that it cannot link this file."""


def all_documents(store: Store, corpus_id: str) -> Iterator[list[DocumentRow]]:
    """Yield the documents of a corpus, some thousand at a time."""
    offset = 0
    while rows := store.list_documents(corpus_id, limit=ROWS_AT_ONCE, offset=offset):
        yield rows
        offset += len(rows)


def fill_from_sample(home: Home, store: Store, corpus_id: str, sample: str) -> None:
    """Put the documents of a built-in sample into a corpus."""
    entries = []
    for document in sample_documents(sample):
        stored_bytes = store_document(home.corpus_dir(corpus_id), document)
        entries.append(
            DocumentEntry(
                path=document.path,
                bytes=stored_bytes,
                sha256=hashlib.sha256(document.text.encode()).hexdigest(),
                encoding=document.encoding,
                note=document.note,
            )
        )
    store.add_documents(corpus_id, entries)


def fill_from_corpus(home: Home, store: Store, source_id: str, corpus_id: str) -> None:
    """Put the documents of one corpus into another, without a second copy where possible.

    A stored document is replaced, never written into, so both may share a file.

    Raises:
        ArtifactMissingError: A document of the source is not on disk.
        DiskFullError: The disk is full.
    """
    old, new = (home.corpus_dir(item) / DOCUMENTS_NAME for item in (source_id, corpus_id))
    for rows in all_documents(store, source_id):
        for row in rows:
            _share(old / row.path, new / row.path)
        store.add_documents(
            corpus_id,
            [
                DocumentEntry(
                    path=row.path,
                    bytes=row.bytes,
                    sha256=row.sha256,
                    encoding=row.encoding,
                    note=row.note,
                )
                for row in rows
            ],
        )


def _share(old: Path, new: Path) -> None:
    with disk_errors(new):
        new.parent.mkdir(parents=True, exist_ok=True)
        try:
            new.hardlink_to(old)
        except FileNotFoundError:
            raise ArtifactMissingError(
                f"There is no document {old.name!r} on the disk. Add it to the corpus again."
            ) from None
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            shutil.copyfile(old, new)
