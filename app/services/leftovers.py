"""What can be removed without losing anything: old logs, damaged checkpoints, leftovers."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from app.services.sizes import tree_bytes
from app.services.unrecorded import Unrecorded
from jobs.home import Home
from jobs.store.states import JobState
from jobs.store.store import Store
from retro.checkpoints import DAMAGED_SUFFIX
from retro.data.document_batch import INCOMING_NAME
from retro.data.documents import DOCUMENTS_NAME
from retro.errors import ConfigError, shown
from retro.whole_files import RETIRED_PREFIX, STAGING_PREFIX, TOKEN_BYTES

OLD_LOG_S = 7 * 24 * 3600
"""Logs are kept this long after the end of their job, seconds."""
UNTOUCHED_S = 3600
"""What was changed later than this may still be in use, seconds."""
MOST_JOBS = 100_000
UNRECORDED = "unrecorded"
"""Kind of what is found and removed under the locks of corpora."""
UNRECORDED_PARTS = (DOCUMENTS_NAME, INCOMING_NAME)


@dataclass(frozen=True, kw_only=True, slots=True)
class Leftover:
    """Files or folders of one kind that can be removed."""

    paths: tuple[Path, ...]
    num_bytes: int


class Leftovers:
    """Finds and removes what nobody needs any more.

    Nothing of a corpus or run that a job works on is touched, and nothing that was changed
    lately.
    """

    def __init__(self, home: Home, store: Store, unrecorded: Unrecorded) -> None:
        self._home = home
        self._store = store
        self._unrecorded = unrecorded
        self._finders: dict[str, Callable[[], Iterator[Path]]] = {
            "logs": self._old_logs,
            "damaged": self._damaged_checkpoints,
            "temporary": self._temporary,
            UNRECORDED: unrecorded.find,
        }

    @property
    def kinds(self) -> tuple[str, ...]:
        """What can be asked for."""
        return tuple(self._finders)

    def find(self, kind: str) -> Leftover:
        """Return what there is of a kind.

        Raises:
            ConfigError: There is no such kind.
        """
        if kind not in self._finders:
            known = ", ".join(repr(name) for name in self._finders)
            raise ConfigError(f"what must be one of {known}, got {shown(kind)}.")
        paths = tuple(self._finders[kind]())
        seen: set[tuple[int, int]] = set()
        return Leftover(paths=paths, num_bytes=sum(tree_bytes(path, seen) for path in paths))

    def remove(self, kind: str) -> Leftover:
        """Remove all there is of a kind, and return it.

        Raises:
            ConfigError: There is no such kind.
        """
        found = self.find(kind)
        if kind == UNRECORDED:
            self._unrecorded.remove(found.paths)
            return found
        for path in found.paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return found

    def _old_logs(self) -> Iterator[Path]:
        kept = {
            job.id
            for job in self._store.list_jobs(limit=MOST_JOBS)
            if not JobState(job.state).is_finished
            or (job.finished_at or 0.0) > self._store.now() - OLD_LOG_S
        }
        for path in sorted(self._home.job_logs_dir.glob("*.log")):
            if path.stem not in kept and is_untouched(path):
                yield path

    def _damaged_checkpoints(self) -> Iterator[Path]:
        for folder in self._idle_folders(self._home.runs_dir):
            yield from sorted(folder.glob(f"checkpoints/*{DAMAGED_SUFFIX}"))

    def _temporary(self) -> Iterator[Path]:
        for parent in (self._home.corpora_dir, self._home.runs_dir):
            yield from filter(is_untouched, sorted(parent.glob(f"{STAGING_PREFIX}*")))
            for folder in self._idle_folders(parent):
                inside = [path for path in _folders(folder) if path.name not in UNRECORDED_PARTS]
                for place in (folder, *inside):
                    yield from filter(is_left_over, sorted(place.glob(f"{STAGING_PREFIX}*")))

    def _idle_folders(self, parent: Path) -> Iterator[Path]:
        active = [*self._store.held_jobs(), *self._store.list_queue()]
        busy = {job.corpus_id for job in active} | {job.run_id for job in active}
        for folder in _folders(parent):
            if folder.name not in busy and not folder.name.startswith("."):
                yield folder


def is_left_over(path: Path) -> bool:
    """Whether a temporary file or folder belongs to nothing that still needs it.

    A finished folder whose replacement has not taken its name yet is the only copy: the
    next job puts it back.
    """
    if path.name.startswith(RETIRED_PREFIX):
        final = path.with_name(path.name[len(RETIRED_PREFIX) : -2 * TOKEN_BYTES - 1])
        if not final.exists():
            return False
    return is_untouched(path)


def is_untouched(path: Path) -> bool:
    """Whether neither a file nor anything in a folder was changed lately."""
    latest = time.time() - UNTOUCHED_S
    try:
        return all(one.lstat().st_mtime < latest for one in (path, *path.rglob("*")))
    except OSError:
        return False


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.glob("*") if path.is_dir() and not path.is_symlink())
