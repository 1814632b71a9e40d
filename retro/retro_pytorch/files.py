"""Raw arrays on disk, as RETRO-pytorch keeps them: rows of numbers, no header.

Shape and type are not in the file, so what opens one says what it expects and is told when
the file cannot hold that. Files are opened read-only and never grow.
"""

import errno
import fcntl
import glob
import hashlib
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from retro.artifacts import STAGING_PREFIX, disk_errors, sync_folder
from retro.errors import ArtifactMismatchError, ArtifactMissingError, ConfigError, shown
from retro.places import check_place

logger = logging.getLogger(__name__)

PAGE_BYTES = 2**22


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
    held = count_rows(path, dtype, row_shape)
    if num_rows > held:
        raise ArtifactMismatchError(
            f"{counted} must be at most the {held} rows that {path.name} holds, got {num_rows}. "
            f"Give the number that was returned when the file was made."
        )
    return np.memmap(path, dtype=dtype, mode="r", shape=(num_rows, *row_shape))


def count_rows(path: Path, dtype: DTypeLike, row_shape: tuple[int, ...]) -> int:
    """Return how many rows a raw file holds.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactMismatchError: It does not consist of such rows.
    """
    if not path.is_file():
        raise ArtifactMissingError(
            f"There is no file {str(path)!r}. Run the step that writes it, or correct the path."
        )
    row_bytes = np.dtype(dtype).itemsize * int(np.prod(row_shape, dtype=np.int64))
    num_bytes = path.stat().st_size
    if num_bytes % row_bytes != 0:
        raise ArtifactMismatchError(
            f"{path.name} must consist of rows of {row_bytes} bytes "
            f"({np.dtype(dtype)} of shape {row_shape}), got {num_bytes} bytes. "
            f"Check the sizes it was made with."
        )
    return num_bytes // row_bytes


def sha256_rows(rows: NDArray[Any]) -> str:
    """Return the sha256 of an array's bytes, read page by page."""
    digest = hashlib.sha256()
    flat = rows.reshape(-1)
    step = max(1, PAGE_BYTES // rows.itemsize)
    for start in range(0, len(flat), step):
        digest.update(np.ascontiguousarray(flat[start : start + step]).data)
    return digest.hexdigest()


@contextmanager
def replaced_together(paths: Sequence[Path]) -> Iterator[list[BinaryIO]]:
    """Give files to write, which take their names together if the block ends well.

    Before that they have temporary names beside the final ones; if the block raises, they
    are removed and older files stay as they were.

    Args:
        paths: Where the files will be.

    Yields:
        The open files.

    Raises:
        ConfigError: Two paths are the same, or one is a folder.
        DiskFullError: The disk is full.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError(f"Each file must have its own path, got {[str(path) for path in paths]}.")
    for path in paths:
        if path.is_dir():
            raise ConfigError(f"{str(path)!r} must be a file, but is a folder. Choose another.")
    token = secrets.token_hex(4)
    staging = [path.with_name(f"{STAGING_PREFIX}{path.name}-{token}") for path in paths]
    with disk_errors(paths[0]):
        try:
            with ExitStack() as stack:
                files: list[BinaryIO] = []
                for path in staging:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    files.append(stack.enter_context(path.open("wb")))
                yield files
                for file in files:
                    file.flush()
                    os.fsync(file.fileno())
            for path, final in zip(staging, paths, strict=True):
                path.replace(final)
            for folder in {path.parent for path in paths}:
                sync_folder(folder)
        finally:
            for path in staging:
                path.unlink(missing_ok=True)


def remove_stale(path: Path) -> None:
    """Remove what a killed process left of a file it was writing; call as the only writer."""
    for left in path.parent.glob(f"{STAGING_PREFIX}{glob.escape(path.name)}-*"):
        left.unlink(missing_ok=True)


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
