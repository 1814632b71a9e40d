"""Files of corpora that no record names.

A process that is killed leaves texts that were not recorded yet, and corpora that it had begun
to fill or to delete: these are removed at the next start. What else lies there without a record
may be of use to somebody: at the start it is set aside, so that it is in nobody's way. The corpora
of another database, which was chosen by mistake or uses the same folder, are left alone.
"""

import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from app.services.strays import Strays
from jobs.corpus_files import hold_corpus
from jobs.errors import BusyError, JobError, NotFoundError
from jobs.home import Home, remove_folder
from jobs.store.corpus_locks import CorpusUse, lock_name
from jobs.store.database import is_id
from jobs.store.store import Store
from retro.data.document_batch import INCOMING_NAME
from retro.data.documents import DOCUMENTS_NAME
from retro.errors import RetroError
from retro.whole_files import STAGING_PREFIX, write_bytes

logger = logging.getLogger(__name__)

FILES_AT_ONCE = 500
STOP_S = 10.0

Dispose = Callable[[Path], None]


class Unrecorded:
    """Finds, sets aside and removes what no record names."""

    def __init__(self, home: Home, store: Store) -> None:
        self._home = home
        self._store = store
        self._strays = Strays(home, store)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Let files follow their rows; then, in the background, clear away what is left."""
        if not self._is_ours():
            logger.warning(
                "the corpora in %s belong to another database than the one in use, and are left "
                "alone; if that one is no longer used, remove %s",
                self._home.corpora_dir,
                self._home.corpora_owner,
            )
        self._strays.put_back_corpora()
        for corpus_id in self._store.corpora_with_moves():
            self._hold(corpus_id, [], self._set_aside)
        self._stopping.clear()
        self._thread = threading.Thread(target=self._clear_away, name="clearing", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until what was begun by ``start`` has ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def close(self) -> None:
        """End what was begun by ``start``."""
        self._stopping.set()
        self.wait(STOP_S)

    def find(self) -> Iterator[Path]:
        """Yield files and folders that no record names, those that were set aside included."""
        yield from self._strays.folders()
        yield from self._find_unknown()

    def _find_unknown(self) -> Iterator[Path]:
        is_ours = self._is_ours()
        for folder in self._corpus_folders():
            # Looked for after the folder: a corpus is recorded before it has one.
            if self._is_recorded(folder.name):
                yield from self._find_in(folder.name)
            elif is_ours:
                yield folder

    def _is_ours(self) -> bool:
        """Return whether the corpora here belong to this database; note it, if nobody has."""
        owner, identity = self._home.corpora_owner, self._store.identity()
        if owner.exists():
            return owner.read_text().strip() == identity
        # Of an earlier version: most of them must be known.
        recorded = [self._is_recorded(folder.name) for folder in self._corpus_folders()]
        is_ours = not recorded or 2 * sum(recorded) > len(recorded)
        if is_ours:
            write_bytes(owner, f"{identity}\n".encode())
        return is_ours

    def remove(self, paths: Sequence[Path]) -> None:
        """Remove what ``find`` has found, unless it has been recorded meanwhile."""
        self._dispose_of(paths, _remove)

    def _clear_away(self) -> None:
        try:
            self._delete_unfinished()
            for corpus_id in self._store.deleted_corpora():
                remove_folder(self._home.corpus_dir(corpus_id))
                self._store.forget_deleted(corpus_id)
            self._strays.put_back_documents()
            self._strays.expire()
            self._dispose_of(list(self._find_unknown()), self._set_aside)
        except Exception:  # the app works without this, and its own errors say more
            logger.exception("files without a record could not be cleared away")

    def _delete_unfinished(self) -> None:
        """Delete corpora that a killed process had begun to fill, so that none looks whole."""
        for corpus_id, token in self._store.unfinished_corpora().items():
            try:
                self._store.delete_corpus(corpus_id)
            except BusyError:
                continue  # the next start finds it again
            except JobError as error:
                # Its build had been submitted, which is the last thing to be done.
                logger.info("corpus %s stays: %s", corpus_id, error)
            self._store.release_lock(token)

    def _dispose_of(self, paths: Sequence[Path], dispose: Dispose) -> None:
        inside: dict[str, list[Path]] = {}
        for path in paths:
            if self._stopping.is_set():
                return
            name, *below = path.relative_to(self._home.corpora_dir).parts
            if below and is_id(name):
                inside.setdefault(name, []).append(path)
            elif not is_id(name) or not self._is_recorded(name):
                dispose(path)
        for corpus_id, files in inside.items():
            self._hold(corpus_id, files, dispose)

    def _hold(self, corpus_id: str, files: Sequence[Path], dispose: Dispose) -> None:
        """Dispose of files of a corpus while nobody can be about to record them."""
        try:
            with hold_corpus(self._home, self._store, corpus_id, CorpusUse.TIDY, wait_s=0) as held:
                for start in range(0, len(files), FILES_AT_ONCE):
                    unknown = self._still_unknown(corpus_id, files[start : start + FILES_AT_ONCE])
                    if self._stopping.is_set() or not self._store.is_held(held.token):
                        return
                    for path in unknown:
                        dispose(path)
                        _remove_empty_parents(path, self._home.corpus_dir(corpus_id))
        except (JobError, RetroError, OSError) as error:
            logger.warning("corpus %s is left as it is for now: %s", corpus_id, error)

    def _still_unknown(self, corpus_id: str, files: Sequence[Path]) -> list[Path]:
        root = self._home.corpus_dir(corpus_id) / DOCUMENTS_NAME
        documents = {path: _relative(path, root) for path in files if path.is_relative_to(root)}
        known = self._store.document_sums(corpus_id, paths=list(documents.values()))
        waiting = {move.staged for move in self._store.list_moves(corpus_id)}
        return [
            path
            for path in files
            if (documents[path] not in known if path in documents else path.name not in waiting)
        ]

    def _find_in(self, corpus_id: str) -> Iterator[Path]:
        folder = self._home.corpus_dir(corpus_id)
        root = folder / DOCUMENTS_NAME
        # Files first: one that is there has its record already.
        present = [
            Path(place) / name for place, _, names in os.walk(root) for name in sorted(names)
        ]
        incoming = sorted((folder / INCOMING_NAME).glob("*"))
        known = self._store.document_sizes(corpus_id)
        yield from (path for path in present if _relative(path, root) not in known)
        if incoming and not self._store.is_locked(lock_name(corpus_id)):
            waiting = {move.staged for move in self._store.list_moves(corpus_id)}
            yield from (path for path in incoming if path.name not in waiting)

    def _is_recorded(self, corpus_id: str) -> bool:
        try:
            self._store.get_corpus(corpus_id)
        except NotFoundError:
            return False
        return True

    def _corpus_folders(self) -> list[Path]:
        return sorted(
            path
            for path in self._home.corpora_dir.glob("*")
            if is_id(path.name) and path.is_dir() and not path.is_symlink()
        )

    def _set_aside(self, path: Path) -> None:
        if path.parent.name == INCOMING_NAME or path.name.startswith(STAGING_PREFIX):
            _remove(path)
        else:
            self._strays.add(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    path.unlink(missing_ok=True)


def _remove_empty_parents(path: Path, corpus_dir: Path) -> None:
    """Remove the folders of a document that held nothing else."""
    with contextlib.suppress(OSError):  # the first that is not empty
        for folder in path.parents:
            if folder.parent == corpus_dir:
                return
            folder.rmdir()


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
