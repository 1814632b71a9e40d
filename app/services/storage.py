"""How full the disk is and with what; measured beside the requests that ask."""

import threading
import time

from app.services.leftovers import Leftovers
from app.services.sizes import Sizes, measure
from app.services.unrecorded import Unrecorded
from app.services.views import system as views
from jobs.home import Home
from jobs.store.store import Store
from retro.disk import FLOOR_BYTES, free_bytes

STALE_S = 60.0
"""Sizes are measured again when they are asked for and older than this."""
MOST_LARGEST = 5


class StorageService:
    """Measures the home folder and removes what is safe to remove.

    Adding up hundreds of thousands of files takes seconds. So pages get what was measured
    last, at once, and a thread measures anew.
    """

    def __init__(self, home: Home, store: Store) -> None:
        self._home = home
        self._store = store
        self.unrecorded = Unrecorded(home, store)
        self.leftovers = Leftovers(home, store, self.unrecorded)
        self._lock = threading.Lock()
        self._measuring = threading.Lock()
        self._measured: views.Storage | None = None
        self._thread: threading.Thread | None = None

    def describe(self) -> views.Storage | None:
        """Return what was measured last, None before the first time; free disk is as of now."""
        with self._lock:
            measured = self._measured
            is_old = measured is None or time.time() - measured.measured_at > STALE_S
            if is_old and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(
                    target=self.measure, name="storage-measuring", daemon=True
                )
                self._thread.start()
        return None if measured is None else self._now(measured)

    def measure(self) -> views.Storage:
        """Add everything up now and return it."""
        with self._measuring:
            measured = self._describe(measure(self._home))
            with self._lock:
                self._measured = measured
        return self._now(measured)

    def clean(self, what: str) -> views.Cleaned:
        """Remove leftovers of one kind.

        Args:
            what: One of the names in ``leftovers`` of ``describe``.

        Raises:
            ConfigError: There is no such kind.
        """
        removed = self.leftovers.remove(what)
        self.measure()
        return views.Cleaned.model_validate(
            {
                "what": what,
                "num_removed": len(removed.paths),
                "freed_bytes": removed.num_bytes,
            }
        )

    def backups(self) -> views.Backups:
        """Return the copies of the database, newest first."""
        folder = self._home.backups_dir
        copies = sorted(folder.glob("*.db"), key=lambda path: path.stat().st_mtime, reverse=True)
        return views.Backups(
            num_copies=len(copies),
            newest=copies[0].name if copies else None,
            newest_at=copies[0].stat().st_mtime if copies else None,
        )

    def _now(self, measured: views.Storage) -> views.Storage:
        return measured.model_copy(update={"free_bytes": free_bytes(self._home.path)})

    def _describe(self, sizes: Sizes) -> views.Storage:
        corpora = {row.id: row.name for row in self._store.list_corpora()}
        runs = {row.id: row.name for row in self._store.list_runs()}
        found = {kind: self.leftovers.find(kind) for kind in self.leftovers.kinds}
        return views.Storage(
            home=self._home.path.name,
            measured_at=time.time(),
            total_bytes=sizes.total,
            parts=views.StorageParts.model_validate(sizes.parts),
            checkpoint_bytes=sizes.checkpoint_bytes,
            floor_bytes=FLOOR_BYTES,
            largest_corpora=_largest(sizes.corpora, corpora),
            largest_runs=_largest(sizes.runs, runs),
            leftovers=views.Leftovers.model_validate(
                {
                    kind: {"num": len(one.paths), "bytes": one.num_bytes}
                    for kind, one in found.items()
                }
            ),
            free_bytes=free_bytes(self._home.path),
        )


def _largest(num_bytes: dict[str, int], names: dict[str, str]) -> list[views.NamedBytes]:
    ordered = sorted(num_bytes.items(), key=lambda item: item[1], reverse=True)
    return [
        views.NamedBytes(id=one, name=names[one], bytes=taken)
        for one, taken in ordered
        if one in names
    ][:MOST_LARGEST]
