"""Documents: text that people bring, accepted once and kept as UTF-8.

What is accepted is stored under ``documents/<relative path>`` of a corpus, with its
newlines untouched, so that character offsets into the stored text stay valid.
"""

import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from retro.data.decoding import check_text, decode
from retro.errors import ArtifactMismatchError, ArtifactMissingError, InputError
from retro.places import check_place
from retro.whole_files import STAGING_PREFIX, sync_folder, write_bytes

DOCUMENTS_NAME = "documents"
LARGEST_DOCUMENT_BYTES = 256 * 2**20
LONGEST_PATH = 1024
LONGEST_NAME_BYTES = 240
"""File systems allow 255; the rest is for the name a file has while it is written."""

DIRECTION_CONTROLS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
RESERVED_NAMES = frozenset(
    {"con", "prn", "aux", "nul"}
    | {f"{name}{digit}" for name in ("com", "lpt") for digit in "123456789"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextDocument:
    """One accepted text."""

    path: str
    """Relative path with forward slashes."""

    text: str
    """The text, newlines as they were."""

    encoding: str
    """How the bytes were read."""

    note: str | None = None
    """What a person should know about the reading, or None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SkippedFile:
    """One file that was not accepted."""

    path: str
    """Relative path with forward slashes, fit to be shown."""

    reason: str
    """Why, as one sentence."""


def decode_text(data: bytes, path: str) -> TextDocument:
    """Read bytes as text: UTF-8, UTF-16 or UTF-32, else Latin-1 with a note.

    Args:
        data: Content of the file.
        path: Its relative path, for the result and for messages.

    Returns:
        The document.

    Raises:
        InputError: The file is empty, too large, or not text.
    """
    check_size(len(data), path)
    text, encoding, note = decode(data, path)
    check_text(text, path)
    return TextDocument(path=path, text=text, encoding=encoding, note=note)


def check_size(num_bytes: int, path: str) -> None:
    """Refuse an empty file and one that is too large.

    Raises:
        InputError: The size is outside its range.
    """
    if num_bytes == 0:
        raise InputError(f"{path} is empty. Leave it out.")
    if num_bytes > LARGEST_DOCUMENT_BYTES:
        raise InputError(
            f"{path} must have at most {LARGEST_DOCUMENT_BYTES} bytes, got {num_bytes}. "
            f"Split it into several files."
        )


def check_relative_path(path: str) -> str:
    """Return a path in its normal form, if it names a visible place inside a folder.

    Args:
        path: Parts separated by slashes or backslashes.

    Returns:
        The parts joined by slashes, without empty parts and ``.``.

    Raises:
        InputError: The path is empty, absolute, leaves the folder, is hidden or too
            long, or holds characters or names that some systems cannot store.
    """
    if len(path) > LONGEST_PATH:
        raise InputError(
            f"A file name must have at most {LONGEST_PATH} characters, got {len(path)}. Rename it."
        )
    shown = _shown(path)
    if not path.isprintable() and any(_is_control(character) for character in path):
        raise InputError(f"A file name must not hold control characters, got {shown}. Rename it.")
    slashed = path.replace("\\", "/")
    if slashed.startswith("/") or re.match(r"[A-Za-z]:", slashed):
        raise InputError(f"A file name must be relative, got {shown}. Upload the folder itself.")
    parts = [part for part in slashed.split("/") if part not in ("", ".")]
    if not "".join(parts).strip():
        raise InputError(f"A file must have a name, got {shown}. Rename it.")
    for part in parts:
        _check_part(part, shown)
    return "/".join(parts)


def _is_control(character: str) -> bool:
    is_separator = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    return is_separator or character in DIRECTION_CONTROLS


def _check_part(part: str, shown: str) -> None:
    if part.strip() == "..":
        raise InputError(f"A file name must stay inside its folder, got {shown}. Remove the '..'.")
    if part.startswith(".") or part == "__MACOSX":
        raise InputError(f"Hidden files are skipped, got {shown}. Rename it to include it.")
    if part.split(".")[0].strip().lower() in RESERVED_NAMES:
        raise InputError(f"A file name must not be a device name, got {shown}. Rename it.")
    num_bytes = len(part.encode())
    if num_bytes > LONGEST_NAME_BYTES:
        raise InputError(
            f"A name between slashes must have at most {LONGEST_NAME_BYTES} bytes, "
            f"got {num_bytes}. Rename the file."
        )


def _shown(path: str) -> str:
    text = ascii(path) if not path.isprintable() else repr(path)
    return text if len(text) <= 80 else f"{text[:77]}..."


def read_folder(folder: Path, on_skip: Callable[[SkippedFile], None]) -> Iterator[TextDocument]:
    """Yield every text in a folder and its subfolders, in the order of their paths.

    Args:
        folder: Where to look. Links that leave it are not followed.
        on_skip: Called for each file that is not accepted, with the reason.

    Yields:
        The documents.

    Raises:
        ConfigError: No folder could be called so.
        InputError: There is no such folder.
    """
    if not check_place("FOLDER", folder).is_dir():
        raise InputError(f"{folder.name!r} must be a folder, but there is none of this name.")
    root = folder.resolve()
    for relative in sorted(_walk(root, on_skip)):
        try:
            path = check_relative_path(relative)
            yield decode_text(read_inside(root, relative), path)
        except InputError as error:
            on_skip(SkippedFile(path=_printable(relative), reason=str(error)))
        except OSError as error:
            reason = f"It cannot be read ({error.strerror})."
            on_skip(SkippedFile(path=_printable(relative), reason=reason))


def _walk(root: Path, on_skip: Callable[[SkippedFile], None]) -> Iterator[str]:
    for place, folders, files in os.walk(root):
        base = Path(place).relative_to(root)
        for name in sorted(folders):
            if name.startswith("."):
                reason = "Hidden folders are skipped. Rename it to include it."
            elif (Path(place) / name).is_symlink():
                reason = "Links to folders are skipped. Copy the folder to include it."
            else:
                continue
            folders.remove(name)
            on_skip(SkippedFile(path=_printable((base / name).as_posix()), reason=reason))
        yield from ((base / name).as_posix() for name in files)


def read_inside(root: Path, relative: str) -> bytes:
    """Return the bytes of a regular file in a folder.

    Args:
        root: The folder, resolved.
        relative: Path in it.

    Raises:
        InputError: It leads out of the folder, or the file is not regular, empty or too large.
    """
    path = (root / relative).resolve()
    if not path.is_relative_to(root):
        raise InputError(f"{relative} is a link out of its folder. Copy the file to include it.")
    status = path.stat()
    # Opening a pipe or a device would wait for ever.
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{relative} is not a regular file. Leave it out.")
    check_size(status.st_size, relative)
    return path.read_bytes()


def _printable(path: str) -> str:
    return path.encode("utf-8", errors="backslashreplace").decode()


def store_document(corpus_dir: Path, document: TextDocument) -> int:
    """Keep a document in a corpus, whole or not at all; an older one is replaced.

    Args:
        corpus_dir: The corpus.
        document: What to keep. Its path is checked again.

    Returns:
        Bytes written.

    Raises:
        InputError: The path is refused, or a file stands where a folder is needed.
        DiskFullError: The disk is full.
    """
    relative = check_relative_path(document.path)
    data = document.text.encode()
    try:
        write_bytes(corpus_dir / DOCUMENTS_NAME / relative, data)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise InputError(
            f"{relative} cannot be stored, because a file and a folder would have the same name. "
            f"Rename one of them."
        ) from None
    return len(data)


def stored_documents(corpus_dir: Path) -> list[str]:
    """Return the relative paths of a corpus's documents, sorted."""
    root = corpus_dir / DOCUMENTS_NAME
    return sorted(
        (Path(place) / name).relative_to(root).as_posix()
        for place, _, files in os.walk(root)
        for name in files
        if not name.startswith(STAGING_PREFIX)
    )


def read_stored(corpus_dir: Path, path: str) -> str:
    """Return the text of a stored document, character for character.

    Raises:
        InputError: The path is refused.
        ArtifactMissingError: There is no such document.
        ArtifactMismatchError: It is not the UTF-8 that was written.
    """
    data = read_stored_bytes(corpus_dir, path)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArtifactMismatchError(
            f"{path} is damaged (not UTF-8 at byte {error.start}). Add the document again."
        ) from None


def read_stored_bytes(corpus_dir: Path, path: str) -> bytes:
    """Return the stored bytes of a document.

    Raises:
        InputError: The path is refused.
        ArtifactMissingError: There is no such document.
    """
    try:
        return (corpus_dir / DOCUMENTS_NAME / check_relative_path(path)).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ArtifactMissingError(f"There is no document {path!r}. Add it again.") from None


def remove_stored(corpus_dir: Path, path: str) -> None:
    """Remove a stored document, and folders that are empty then; nothing happens without it.

    Raises:
        InputError: The path is refused.
    """
    root = corpus_dir / DOCUMENTS_NAME
    place = root / check_relative_path(path)
    try:
        place.unlink()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return
    folder = place.parent
    while folder != root:
        try:
            folder.rmdir()
        except OSError:  # it is not empty
            break
        folder = folder.parent
    sync_folder(folder)
