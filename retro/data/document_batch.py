"""Keeping many documents at once, with a flush for all of them instead of one for each."""

import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from retro.artifacts import STAGING_PREFIX, TOKEN_BYTES, disk_errors, sync_file, sync_folder
from retro.data.documents import DOCUMENTS_NAME, TextDocument, check_relative_path
from retro.errors import InputError

FLUSHES_AT_ONCE = 8
"""The disk writes its journal once for flushes that wait for it together."""
Outcome = int | InputError
"""Bytes written, or why a document was not stored."""


def store_documents(corpus_dir: Path, documents: Sequence[TextDocument]) -> list[Outcome]:
    """Keep documents in a corpus, each whole or not at all; older ones are replaced.

    When this returns, what it reports as written is on the disk.

    Args:
        corpus_dir: The corpus.
        documents: What to keep. Their paths are checked again.

    Returns:
        What became of each, in order.

    Raises:
        DiskFullError: The disk is full; none of them is stored.
    """
    root = corpus_dir / DOCUMENTS_NAME
    staged: list[_Staged | InputError] = []
    with disk_errors(root), ThreadPoolExecutor(FLUSHES_AT_ONCE) as pool:
        try:
            for document in documents:
                staged.append(_stage(root, document))
            written = [item for item in staged if isinstance(item, _Staged)]
            list(pool.map(lambda item: sync_file(item.staging), written))
            outcomes = [item.publish() if isinstance(item, _Staged) else item for item in staged]
            list(pool.map(sync_folder, sorted(_folders(corpus_dir, written))))
        finally:
            for item in staged:
                if isinstance(item, _Staged):
                    item.staging.unlink(missing_ok=True)
    return outcomes


class _Staged:
    """A document under a temporary name beside its own."""

    def __init__(self, final: Path, relative: str, num_bytes: int) -> None:
        name = f"{STAGING_PREFIX}{final.name}-{secrets.token_hex(TOKEN_BYTES)}"
        self.final = final
        self.staging = final.with_name(name)
        self._relative = relative
        self._num_bytes = num_bytes

    def publish(self) -> Outcome:
        try:
            self.staging.replace(self.final)
        except (IsADirectoryError, NotADirectoryError):
            return _name_taken(self._relative)
        return self._num_bytes


def _stage(root: Path, document: TextDocument) -> "_Staged | InputError":
    try:
        relative = check_relative_path(document.path)
    except InputError as error:
        return error
    data = document.text.encode()
    item = _Staged(root / relative, relative, len(data))
    try:
        item.final.parent.mkdir(parents=True, exist_ok=True)
        item.staging.write_bytes(data)
    except (FileExistsError, NotADirectoryError):
        return _name_taken(relative)
    except OSError:
        item.staging.unlink(missing_ok=True)
        raise
    return item


def _name_taken(relative: str) -> InputError:
    return InputError(
        f"{relative} cannot be stored, because a file and a folder would have the same name. "
        f"Rename one of them."
    )


def _folders(corpus_dir: Path, staged: Sequence[_Staged]) -> set[Path]:
    """Return every folder on the way to the documents, which may be new."""
    found: set[Path] = set()
    for item in staged:
        folder = item.final.parent
        while folder not in found and folder != corpus_dir.parent:
            found.add(folder)
            folder = folder.parent
    return found
