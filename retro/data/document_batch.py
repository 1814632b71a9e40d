"""Keeping many documents at once, with a flush for all of them instead of one for each.

It takes two steps, so that a record of the documents can be made between them. First all
texts are written beside the documents, under names of their own; then each takes its place. The
second step can be done again, by any process, and by several at once: a text has one name, and
moving it away succeeds once.
"""

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from retro.data.documents import DOCUMENTS_NAME, check_relative_path
from retro.errors import ArtifactMissingError, InputError
from retro.whole_files import disk_errors, link_file, sync_file, sync_folder

INCOMING_NAME = "incoming"
"""Folder of a corpus with texts that have not taken their places yet."""
FLUSHES_AT_ONCE = 8
"""The disk writes its journal once for flushes that wait for it together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IncomingDocument:
    """A text that is to be stored under a path."""

    path: str
    """Relative path; it is checked again."""

    name: str
    """Name of its own while it waits, which no other text ever gets."""

    content: bytes | Path
    """The text in UTF-8, or a stored document whose file it may share."""


def stage_documents(
    corpus_dir: Path, documents: Sequence[IncomingDocument]
) -> list[InputError | None]:
    """Write texts to the disk that are to take their places in a corpus.

    Only one process at a time may do this in a corpus.

    Args:
        corpus_dir: The corpus.
        documents: What is to be stored, under different paths.

    Returns:
        Why a document cannot be stored, or None, for each in order. Of those that can, the
        texts are on the disk.

    Raises:
        DiskFullError: The disk is full; none of the texts is left.
        ArtifactMissingError: A file that is to be shared is not there.
    """
    incoming = corpus_dir / INCOMING_NAME
    is_new = not incoming.is_dir()
    with disk_errors(incoming), ThreadPoolExecutor(FLUSHES_AT_ONCE) as pool:
        incoming.mkdir(parents=True, exist_ok=True)
        problems = _make_places(corpus_dir / DOCUMENTS_NAME, documents)
        chosen = [
            (document, incoming / document.name)
            for document, problem in zip(documents, problems, strict=True)
            if problem is None
        ]
        try:
            written = [path for document, path in chosen if _write(document, path)]
            list(pool.map(sync_file, written))
            for folder in (incoming, *((corpus_dir, corpus_dir.parent) if is_new else ())):
                sync_folder(folder)
        except BaseException:
            for _, path in chosen:
                path.unlink(missing_ok=True)
            raise
    return problems


def publish_documents(corpus_dir: Path, moves: Sequence[tuple[str, str]]) -> list[str]:
    """Let texts that were staged take their places; older documents are replaced.

    Args:
        corpus_dir: The corpus.
        moves: Path and name of each.

    Returns:
        The paths that are settled, in order: those of texts that have their places on the disk,
        now or since before. The others cannot have them, as something is in the way.

    Raises:
        DiskFullError: The disk is full; what has not taken its place still waits.
    """
    root = corpus_dir / DOCUMENTS_NAME
    settled = []
    with disk_errors(root), ThreadPoolExecutor(FLUSHES_AT_ONCE) as pool:
        for path, name in moves:
            final = root / path
            try:
                _make_folders(root, path)
                (corpus_dir / INCOMING_NAME / name).replace(final)
            except FileNotFoundError:
                pass  # another process has moved it, or the corpus is deleted
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                continue
            settled.append(path)
        list(pool.map(_sync_if_there, sorted(_folders(root, settled))))
    return settled


def _make_places(root: Path, documents: Sequence[IncomingDocument]) -> list[InputError | None]:
    """Make the folders of documents, and return which documents cannot be there."""
    root.mkdir(exist_ok=True)
    problems = [_make_place(root, document.path) for document in documents]
    needed = {
        folder
        for document, problem in zip(documents, problems, strict=True)
        if problem is None
        for folder in _parents(document.path)
    }
    for row, document in enumerate(documents):
        place = root / document.path
        is_folder = problems[row] is None and place.is_dir()
        if is_folder and (document.path in needed or not remove_empty(place)):
            problems[row] = _name_taken(document.path)
    return problems


def _make_place(root: Path, path: str) -> InputError | None:
    try:
        relative = check_relative_path(path)
        assert relative == path, "paths are recorded in their normal form"
        _make_folders(root, path)
        with contextlib.suppress(FileNotFoundError):
            (root / path).lstat()
    except InputError as error:
        return error
    except (FileExistsError, NotADirectoryError):
        return _name_taken(path)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return InputError(
            f"A path must be short enough for the system of the server, and this one has "
            f"{len(path.encode()):,} bytes: {path[:40]!r}... Rename the file or its folders."
        )
    return None


def _write(document: IncomingDocument, path: Path) -> bool:
    """Write a text, and return whether it has to be flushed."""
    if isinstance(document.content, bytes):
        path.write_bytes(document.content)
        return True
    try:
        link_file(document.content, path)
    except FileNotFoundError:
        raise ArtifactMissingError(
            f"There is no document {document.path!r} on the disk. Add it to the corpus again."
        ) from None
    return path.stat().st_nlink == 1


def _parents(path: str) -> Iterator[str]:
    """Yield the folders that a path goes through, the outermost first."""
    parts = path.split("/")
    return ("/".join(parts[:length]) for length in range(1, len(parts)))


def _make_folders(root: Path, path: str) -> None:
    """Make the folders of a path below ``root``, which itself must be there."""
    if (root / path).parent.is_dir():
        return
    for folder in _parents(path):
        (root / folder).mkdir(exist_ok=True)


def _folders(root: Path, paths: Sequence[str]) -> set[Path]:
    """Return every folder on the way to documents, which may be new."""
    return {root, *(root / folder for path in paths for folder in _parents(path))}


def _sync_if_there(folder: Path) -> None:
    # The corpus may have been deleted meanwhile.
    with contextlib.suppress(FileNotFoundError):
        sync_folder(folder)


def remove_empty(folder: Path) -> bool:
    """Remove a folder that holds nothing but folders; return whether it is gone."""
    try:
        for place, _, _ in os.walk(folder, topdown=False):
            Path(place).rmdir()
    except OSError:  # it is not empty
        return False
    return True


def _name_taken(path: str) -> InputError:
    return InputError(
        f"{path} cannot be stored, because a file and a folder would have the same name. "
        f"Rename one of them."
    )
