"""Raw arrays on disk, as RETRO-pytorch keeps them: rows of numbers, no header.

Shape and type are not in the file, so what opens one says what it expects and is refused when
the file cannot hold that. Files are opened read-only and never grow.
"""

import errno
import fcntl
import glob
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from retro.artifacts import sha256_file
from retro.errors import (
    ArtifactError,
    ArtifactMismatchError,
    ArtifactMissingError,
    ConfigError,
    shown,
)
from retro.json_files import read_object
from retro.places import check_place
from retro.whole_files import STAGING_PREFIX, staged_files, write_json

logger = logging.getLogger(__name__)


def as_path(name: str, value: object) -> Path:
    """Return an argument as a path.

    Raises:
        ConfigError: It is none.
    """
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ConfigError(f"{name} must be a path, got {shown(value)}.")
    return check_place(name, value)


def open_rows(
    path: Path, dtype: DTypeLike, num_rows: int, row_shape: tuple[int, ...], *, counted: str
) -> NDArray[Any]:
    """Open the first rows of a raw file as a read-only memory map.

    Args:
        path: The file.
        dtype: Type of its numbers.
        num_rows: Rows to open; the file may hold more.
        row_shape: Shape of one row.
        counted: Name of the argument that says how many rows there are, for messages.

    Returns:
        The rows, (num_rows, *row_shape).

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactMismatchError: It is smaller, or does not consist of such rows.
    """
    if not path.is_file():
        raise ArtifactMissingError(
            f"There is no file {str(path)!r}. Run the step that writes it, or correct the path."
        )
    row_bytes = np.dtype(dtype).itemsize * int(np.prod(row_shape, dtype=np.int64))
    held, rest = divmod(path.stat().st_size, row_bytes)
    if rest:
        raise ArtifactMismatchError(
            f"{path.name} must consist of rows of {row_bytes} bytes "
            f"({np.dtype(dtype)} of shape {row_shape}), got {path.stat().st_size} bytes. "
            f"Check the sizes it was made with."
        )
    if num_rows > held:
        raise ArtifactMismatchError(
            f"{counted} must be at most the {held} rows that {path.name} holds, got {num_rows}. "
            f"Give the number that was returned when the file was made."
        )
    return np.memmap(path, dtype=dtype, mode="r", shape=(num_rows, *row_shape))


def note_path(path: Path) -> Path:
    """Return where it stands what a file was made from."""
    return path.with_name(f"{path.name}.json")


def write_note(path: Path, wanted: str, **facts: object) -> None:
    """Write down what a finished file was made from.

    Args:
        path: The file.
        wanted: Fingerprint of its inputs.
        **facts: What else is to be known of it.
    """
    write_json(note_path(path), {"fingerprint": wanted, "sha256": sha256_file(path), **facts})


def read_note(path: Path, wanted: str) -> dict[str, Any] | None:
    """Return the note of a file that was made from these inputs and is undamaged, else None."""
    try:
        note = read_object(note_path(path))
    except ArtifactError:
        return None
    if note.get("fingerprint") != wanted or not path.is_file():
        return None
    return note if note.get("sha256") == sha256_file(path) else None


@contextmanager
def replaced_together(paths: Sequence[Path]) -> Iterator[list[BinaryIO]]:
    """Give files to write; see ``staged_files``. What killed processes left is removed first.

    Raises:
        ConfigError: Two paths are the same, or one is a folder.
        DiskFullError: The disk is full.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError(f"Each file must have its own path, got {[str(path) for path in paths]}.")
    for path in paths:
        if path.is_dir():
            raise ConfigError(f"{str(path)!r} must be a file, but is a folder. Choose another.")
        for left in path.parent.glob(f"{STAGING_PREFIX}{glob.escape(path.name)}-*"):
            left.unlink(missing_ok=True)
    with staged_files(paths) as files:
        yield files


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Wait until no other process works on a file, and keep others waiting meanwhile.

    The lock is on ``<path>.lock`` and ends with the process, however it ends.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock").open("wb")
    except OSError as error:
        raise ConfigError(
            f"{str(path.parent)!r} must be a folder that can be written to for {path.name}, "
            f"got {error.strerror!r}. Choose another place."
        ) from error
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            logger.info("another process works on %s; waiting for it", path.name)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
