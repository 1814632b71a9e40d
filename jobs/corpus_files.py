"""The files of a corpus, changed under its lock, so that they always agree with its rows.

A text is written under a name of its own. One transaction, which checks the lock, records the
document and that this file is to take its place. Then the file is renamed, and that it was to be
is forgotten. A process that is killed before the transaction leaves a file that nobody knows,
which is removed later; one that is killed after it leaves a move that whoever takes the lock next
makes first. Removing a document is the same with a file that is to go.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jobs.errors import BusyError, JobError
from jobs.home import Home
from jobs.store.corpus_locks import CorpusUse
from jobs.store.locks import LockKeeper
from jobs.store.rows import CorpusLock, DocumentEntry
from jobs.store.store import Store
from retro.artifacts import sha256_file
from retro.data.document_batch import (
    INCOMING_NAME,
    IncomingDocument,
    publish_documents,
    stage_documents,
)
from retro.data.documents import DOCUMENTS_NAME, remove_stored
from retro.errors import InputError

logger = logging.getLogger(__name__)

WAIT_S = 10.0
"""How long a lock that is held by another process is waited for, seconds."""
FIRST_POLL_S, LAST_POLL_S = 0.02, 0.3
NEEDS_NO_OTHER_FILES = (CorpusUse.REMOVE, CorpusUse.DELETE)
"""Frees disk, so it must not be kept from it by moves that a full disk has stopped."""

NewText = tuple[DocumentEntry, bytes | Path]
"""What is recorded, and the text in UTF-8 or the document of another corpus that has it."""


class CorpusFiles:
    """The files of a corpus as long as its lock is held; see ``hold_corpus``."""

    def __init__(self, home: Home, store: Store, lock: CorpusLock) -> None:
        self.corpus = lock.corpus
        self.token = lock.token
        self.changed_at = lock.corpus.updated_at
        """When the corpus was changed, as it is recorded now."""
        self._store = store
        self._folder = home.corpus_dir(lock.corpus.id)
        self._num_staged = 0

    def keep(self, texts: Sequence[NewText]) -> list[InputError | None]:
        """Store documents; of several with one path, the last.

        When this returns, they are on the disk and recorded.

        Returns:
            Why a document is not stored, or None, for each in order.

        Raises:
            DiskFullError: The disk is full; none of them is stored, or those that are recorded
                take their places later.
            ArtifactMissingError: A document of another corpus is not there.
            LockLostError: Another process has taken over; none of them is stored.
        """
        newest = {entry.path: (entry, content) for entry, content in texts}
        incoming = [
            IncomingDocument(path=path, name=self._new_name(), content=content)
            for path, (_, content) in newest.items()
        ]
        found = stage_documents(self._folder, incoming)
        problems = {item.path: problem for item, problem in zip(incoming, found, strict=True)}
        staged = {item.path: item.name for item in incoming if problems[item.path] is None}
        if staged:
            self._record([newest[path][0] for path in staged], staged)
            self._move(list(staged.items()))
        return [problems[entry.path] for entry, _ in texts]

    def remove(self, path: str) -> None:
        """Remove a document.

        Raises:
            NotFoundError: There is no such document.
            LockLostError: Another process has taken over.
        """
        self._store.remove_document(self.corpus.id, path, self.token)
        self._take_away([path])

    def has_text(self, entry: DocumentEntry) -> bool:
        """Return whether the file of a document is what is recorded."""
        path = self._folder / DOCUMENTS_NAME / entry.path
        try:
            return path.stat().st_size == entry.bytes and sha256_file(path) == entry.sha256
        except OSError:
            return False

    def settle(self) -> None:
        """Make the moves that a killed process has left."""
        moves = self._store.list_moves(self.corpus.id)
        if moves:
            logger.info("%d files of corpus %s follow their rows", len(moves), self.corpus.id)
            self._move([(move.path, move.staged) for move in moves if move.staged is not None])
            self._take_away([move.path for move in moves if move.staged is None])

    def _new_name(self) -> str:
        self._num_staged += 1
        return f"{self.token}-{self._num_staged:06d}"

    def _record(self, entries: Sequence[DocumentEntry], staged: dict[str, str]) -> None:
        try:
            self.changed_at = self._store.add_documents(self.corpus.id, entries, self.token, staged)
        except JobError:
            # It was refused. After any other error it may be recorded all the same.
            for name in staged.values():
                (self._folder / INCOMING_NAME / name).unlink(missing_ok=True)
            raise

    def _move(self, moves: Sequence[tuple[str, str]]) -> None:
        settled = publish_documents(self._folder, moves)
        if len(settled) < len(moves):
            logger.warning(
                "%d files of corpus %s cannot take their places",
                len(moves) - len(settled),
                self.corpus.id,
            )
        self._store.finish_moves(self.corpus.id, settled, self.token)

    def _take_away(self, paths: Sequence[str]) -> None:
        # Who has taken over has removed them, and may have put others in their places.
        if paths and self._store.is_held(self.token):
            for path in paths:
                remove_stored(self._folder, path)
            self._store.finish_moves(self.corpus.id, paths, self.token)


@contextmanager
def hold_corpus(
    home: Home, store: Store, corpus_id: str, use: CorpusUse, *, wait_s: float | None = None
) -> Iterator[CorpusFiles]:
    """Hold the lock of a corpus.

    Args:
        home: The folder that holds everything.
        store: The database.
        corpus_id: The corpus.
        use: What the lock is taken for.
        wait_s: How long another process that holds it is waited for, seconds; None is
            ``WAIT_S``.

    Yields:
        Its files, which agree with its rows.

    Raises:
        NotFoundError: There is no such corpus.
        InvalidChangeError: It is being built, and that has to end first.
        BusyError: Another process has held it all the time.
        DiskFullError: A file cannot follow its row, because the disk is full.
    """
    lock = _take(store, corpus_id, use, WAIT_S if wait_s is None else wait_s)
    with LockKeeper(store, lock.token):
        files = CorpusFiles(home, store, lock)
        if use not in NEEDS_NO_OTHER_FILES:
            files.settle()
        yield files


def _take(store: Store, corpus_id: str, use: CorpusUse, wait_s: float) -> CorpusLock:
    deadline = time.monotonic() + wait_s
    poll_s = FIRST_POLL_S
    while True:
        try:
            return store.take_corpus(corpus_id, use)
        except BusyError:
            if time.monotonic() + poll_s > deadline:
                raise
        time.sleep(poll_s)
        poll_s = min(2 * poll_s, LAST_POLL_S)
