"""Files and folders that are written whole or not at all, and flushed to disk."""

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from retro.errors import ArtifactMismatchError, ArtifactMissingError, DiskFullError

STAGING_PREFIX = ".tmp-"
RETIRED_PREFIX = f"{STAGING_PREFIX}old-"
TOKEN_BYTES = 4
FULL_DISK = {
    errno.ENOSPC: "There is no space left on the disk for {name!r}. Free some space",
    errno.EDQUOT: "The disk quota leaves no room for {name!r}. Free some space",
    errno.EFBIG: "The system allows no file as large as {name!r} must be. Raise the limit",
}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn "no space left" into a ``DiskFullError`` that names the file.

    Args:
        path: What is being written; only its name is shown.

    Raises:
        DiskFullError: The disk or the quota is full, or a limit on sizes of files is reached.
    """
    try:
        yield
    except OSError as error:
        reason = FULL_DISK.get(error.errno or 0)
        if reason is None:
            raise
        raise DiskFullError(
            f"{reason.format(name=path.name)} and start the step again; what was finished is kept."
        ) from error


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Flush a file's content to disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        DiskFullError: The disk is full; an older file of this name is untouched.
    """
    with _staged_file(path) as file:
        file.write(data)


@contextmanager
def _staged_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write into, which becomes ``path`` if the block ends well."""
    with staged_files([path]) as files:
        yield files[0]


@contextmanager
def staged_files(paths: Sequence[Path]) -> Iterator[list[BinaryIO]]:
    """Give files to write into, which take their names together if the block ends well.

    If the block raises, they are removed, and older files of these names stay as they were.

    Args:
        paths: Where the files will be.

    Yields:
        The open files.

    Raises:
        DiskFullError: The disk is full.
    """
    token = secrets.token_hex(TOKEN_BYTES)
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
        finally:
            for path in staging:
                path.unlink(missing_ok=True)
        for folder in {path.parent for path in paths}:
            sync_folder(folder)


def write_json(path: Path, value: object) -> None:
    """Write a value as readable JSON, whole or not at all."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: object) -> bytes:
    """Return what ``write_json`` writes."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as ``.npy`` whole or not at all; the file knows shape and type."""
    rows = np.ascontiguousarray(array)
    header = {
        "descr": np.lib.format.dtype_to_descr(rows.dtype),
        "fortran_order": False,
        "shape": rows.shape,
    }
    with _staged_file(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        # numpy would write past Python, and report a full disk without the system's reason.
        file.write(rows.reshape(-1).view(np.uint8).data)


def open_array(path: Path) -> NDArray[Any]:
    """Open a ``.npy`` file read-only; assigning to the result raises.

    Raises:
        ArtifactMissingError: The file is not there.
        ArtifactMismatchError: The file is truncated or not an array.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ArtifactMissingError(
            f"{path.parent.name}/{path.name} does not exist. Run the step that writes it."
        ) from None
    except (ValueError, EOFError, OSError) as error:
        raise ArtifactMismatchError(
            f"{path.parent.name}/{path.name} is damaged ({error}). Write it again."
        ) from error
    return array


@contextmanager
def staged_folder(final: Path) -> Iterator[Path]:
    """Give a folder to write into, which becomes ``final`` if the block ends well.

    Every file in it is flushed to disk before the rename. An existing ``final`` is
    replaced only then. If the block raises, the staging folder is removed.

    Args:
        final: Where the folder will be.

    Yields:
        The staging folder, beside ``final``.
    """
    staging = final.with_name(f"{STAGING_PREFIX}{final.name}-{secrets.token_hex(TOKEN_BYTES)}")
    with disk_errors(final):
        staging.mkdir(parents=True)
        try:
            yield staging
            for path in sorted(staging.rglob("*")):
                if path.is_file():
                    sync_file(path)
                elif path.is_dir():
                    sync_folder(path)
            sync_folder(staging)
            _replace_folder(staging, final)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _replace_folder(staging: Path, final: Path) -> None:
    if final.exists():
        token = secrets.token_hex(TOKEN_BYTES)
        retired = final.with_name(f"{RETIRED_PREFIX}{final.name}-{token}")
        final.rename(retired)
        staging.rename(final)
        shutil.rmtree(retired, ignore_errors=True)
    else:
        staging.rename(final)
    sync_folder(final.parent)


def remove_staging(folder: Path) -> None:
    """Remove what a killed process left half-written directly in ``folder``.

    A finished folder whose replacement had not yet taken its name gets its name back.
    """
    for path in folder.glob(f"{RETIRED_PREFIX}*"):
        final = folder / path.name[len(RETIRED_PREFIX) : -2 * TOKEN_BYTES - 1]
        if not final.exists():
            path.rename(final)
    for path in folder.glob(f"{STAGING_PREFIX}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def link_file(source: Path, target: Path) -> None:
    """Give a finished file a second name; it is copied where the disk cannot do that."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
