"""What lay among the corpora without a record, set aside for a week.

The database may have been put back from a copy, or be another one by mistake. When it is the
right one again, what it records goes back to its place at the next start.
"""

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from jobs.corpus_files import hold_corpus
from jobs.errors import JobError, NotFoundError
from jobs.home import Home
from jobs.store.corpus_locks import CorpusUse
from jobs.store.database import is_id
from jobs.store.store import Store
from retro.artifacts import sha256_file
from retro.data.documents import DOCUMENTS_NAME
from retro.errors import RetroError

logger = logging.getLogger(__name__)

KEPT_S = 7 * 24 * 3600
"""How long it is kept, seconds."""


class Strays:
    """Sets files and folders aside, and puts them back.

    ``corpora/.strays/<UTC seconds>/`` holds them under the paths they had below ``corpora``.
    """

    def __init__(self, home: Home, store: Store) -> None:
        self._home = home
        self._store = store

    def folders(self) -> list[Path]:
        """Return what there is, a folder for each time, the oldest first."""
        return sorted(path for path in self._home.strays_dir.glob("*") if path.name.isdecimal())

    def add(self, path: Path) -> None:
        """Set something aside."""
        relative = path.relative_to(self._home.corpora_dir)
        logger.warning("%s, which no record names, is set aside for a week", relative)
        place = self._home.strays_dir / str(now()) / relative
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)

    def expire(self) -> None:
        """Remove what was set aside long ago."""
        for folder in self.folders():
            if int(folder.name) < now() - KEPT_S:
                shutil.rmtree(folder, ignore_errors=True)

    def put_back_corpora(self) -> None:
        """Put back the folders of corpora that are recorded and have none."""
        for corpus_id, folder in self._recorded():
            place = self._home.corpus_dir(corpus_id)
            if not place.exists():
                logger.warning("the folder of corpus %s is put back", corpus_id)
                try:
                    folder.rename(place)
                except OSError:  # its documents will be reported as missing
                    logger.exception("it cannot be put back")

    def put_back_documents(self) -> None:
        """Put back documents that are recorded as they are, and are not in their places."""
        for corpus_id, folder in self._recorded():
            root = folder / DOCUMENTS_NAME
            files = [Path(place) / name for place, _, names in os.walk(root) for name in names]
            try:
                self._put_back_all(corpus_id, root, files)
            except (JobError, RetroError, OSError) as error:
                logger.warning("what was set aside of corpus %s stays: %s", corpus_id, error)

    def _put_back_all(self, corpus_id: str, root: Path, files: Sequence[Path]) -> None:
        if not files:
            return
        with hold_corpus(self._home, self._store, corpus_id, CorpusUse.TIDY, wait_s=0):
            for file in files:
                self._put_back(corpus_id, file, file.relative_to(root).as_posix())

    def _put_back(self, corpus_id: str, file: Path, path: str) -> None:
        place = self._home.corpus_dir(corpus_id) / DOCUMENTS_NAME / path
        with contextlib.suppress(NotFoundError):
            row = self._store.get_document(corpus_id, path)
            if not place.exists() and sha256_file(file) == row.sha256:
                logger.warning("%s of corpus %s is put back", path, corpus_id)
                place.parent.mkdir(parents=True, exist_ok=True)
                file.rename(place)

    def _recorded(self) -> Iterator[tuple[str, Path]]:
        """Yield the ids of corpora that are recorded, with what was set aside of each."""
        known = {row.id for row in self._store.list_corpora()}
        for folder in self.folders():
            for path in sorted(folder.iterdir()):
                if is_id(path.name) and path.name in known:
                    yield path.name, path


def now() -> int:
    """Return UTC seconds."""
    return int(time.time())
