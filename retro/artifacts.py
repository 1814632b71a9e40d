"""Files that later steps rely on: written whole or not at all, and checked when read.

A stage writes into a staging folder beside its final place. When everything is on
disk, ``manifest.json`` is written last (sizes, sha256, settings, fingerprint of the
inputs) and the folder takes its final name. A reader that finds a manifest therefore
finds everything the manifest names.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from retro.errors import (
    ArtifactError,
    ArtifactMismatchError,
    ArtifactMissingError,
    DiskFullError,
    shown,
)
from retro.json_files import read_object
from retro.places import check_place

MANIFEST_NAME = "manifest.json"
TOKENIZER_FILE = "tokenizer.json"
"""Of a corpus, a run, a saved model."""
FORMAT_VERSION = 1
STAGING_PREFIX = ".tmp-"
RETIRED_PREFIX = f"{STAGING_PREFIX}old-"
TOKEN_BYTES = 4
SUM_NAME = "sha256"
"""Field of a manifest with the fingerprint of its other fields; earlier versions wrote none."""
FULL_DISK = {
    errno.ENOSPC: "There is no space left on the disk for {name!r}. Free some space",
    errno.EDQUOT: "The disk quota leaves no room for {name!r}. Free some space",
    errno.EFBIG: "The system allows no file as large as {name!r} must be. Raise the limit",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a finished folder holds and what it was made from."""

    kind: str
    """What the folder is, for example ``database`` or ``checkpoint``."""

    fingerprint: str
    """Identity of the content: settings and inputs, as a sha256 in hexadecimal."""

    settings: dict[str, Any]
    """Settings and facts the stage recorded."""

    files: dict[str, dict[str, Any]]
    """Relative path to ``{"bytes", "sha256"}``."""


def fingerprint(value: object) -> str:
    """Return the sha256 of a JSON-serialisable value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_array(array: NDArray[Any]) -> str:
    """Return the sha256 of an array's numbers in hexadecimal, row after row."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


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
        # numpy would write past Python, and tell of a full disk without the system's reason.
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


def write_manifest(
    folder: Path, kind: str, *, content: str, settings: Mapping[str, Any]
) -> Manifest:
    """Describe every file in ``folder``; call it last.

    Args:
        folder: A folder whose other files are complete.
        kind: What the folder is.
        content: Fingerprint of settings and inputs, see ``fingerprint``.
        settings: Settings and facts to record.

    Returns:
        The manifest as written.
    """
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": sha256_file(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST_NAME
    }
    values = {
        "format": FORMAT_VERSION,
        "kind": kind,
        "fingerprint": content,
        "settings": dict(settings),
        "files": files,
    }
    write_json(folder / MANIFEST_NAME, {**values, SUM_NAME: _sum(values)})
    return Manifest(kind=kind, fingerprint=content, settings=dict(settings), files=files)


def _sum(values: dict[str, Any]) -> str:
    # As a reader finds them: JSON has neither tuples nor numbers as keys.
    return fingerprint(json.loads(json.dumps(values)))


def read_manifest(folder: Path, kind: str) -> Manifest:
    """Read a folder's manifest and check what can be checked without reading the files.

    Args:
        folder: The finished folder.
        kind: What it must be.

    Raises:
        ArtifactMissingError: There is no finished folder here.
        ArtifactMismatchError: It is something else, of another format, or a file is
            missing or has another size.
    """
    manifest = read_record(folder, kind)
    for name, entry in manifest.files.items():
        file = folder / name
        found = file.stat().st_size if file.exists() else None
        if found != entry["bytes"]:
            raise ArtifactMismatchError(
                f"{folder.name}/{name} must have {entry['bytes']} bytes, "
                f"got {'no file' if found is None else found}. Make the {kind} again."
            )
    return manifest


def read_record(folder: Path, kind: str) -> Manifest:
    """Read a folder's manifest alone, whatever became of the files that it names.

    Raises:
        ArtifactMissingError: There is no finished folder here.
        ArtifactMismatchError: It is something else, of another format, or is damaged.
    """
    path = folder / MANIFEST_NAME
    if not path.exists():
        raise ArtifactMissingError(
            f"{folder.parent.name} has no finished {kind}. Run the step that makes it first."
        )
    values = read_object(path)
    if values.get("format") != FORMAT_VERSION:
        raise ArtifactMismatchError(
            f"{folder.name}/{MANIFEST_NAME} must have format {FORMAT_VERSION}, "
            f"got {shown(values.get('format'))}. Make the {kind} again with this version."
        )
    if values.get("kind") != kind:
        raise ArtifactMismatchError(
            f"{folder.name} must be a {kind}, got {shown(values.get('kind'))}. "
            f"Choose another folder."
        )
    try:
        manifest = Manifest(
            kind=kind,
            fingerprint=values["fingerprint"],
            settings=values["settings"],
            files={_inner(name): _entry(entry) for name, entry in values["files"].items()},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ArtifactMismatchError(
            f"{folder.name}/{MANIFEST_NAME} is incomplete ({error}). Make the {kind} again."
        ) from error
    _check_sum(folder, values)
    return manifest


def _inner(name: str) -> str:
    """Return the name of a file if it lies in the folder."""
    path = check_place("a file", name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{shown(name)} is not in the folder")
    return name


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    return {"bytes": entry["bytes"], "sha256": entry["sha256"]}


def _check_sum(folder: Path, values: dict[str, Any]) -> None:
    fields = {name: value for name, value in values.items() if name != SUM_NAME}
    # An unknown field may be the one with the sum, damaged.
    is_known = fields.keys() == {"format", "kind", "fingerprint", "settings", "files"}
    is_same = (folder / MANIFEST_NAME).read_bytes() == json_bytes(values)
    if not (is_known and is_same and values.get(SUM_NAME) in (None, _sum(fields))):
        raise ArtifactMismatchError(
            f"{folder.name}/{MANIFEST_NAME} is damaged: its sha256 differs from its content. "
            f"Make the {values['kind']} again."
        )


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Compare the sha256 of every file with the manifest.

    Raises:
        ArtifactMismatchError: A file's content is not what was written.
    """
    for name, entry in manifest.files.items():
        if sha256_file(folder / name) != entry["sha256"]:
            raise ArtifactMismatchError(
                f"{folder.name}/{name} is damaged: its sha256 differs from the manifest. "
                f"Make the {manifest.kind} again."
            )


def is_finished(folder: Path, kind: str, wanted: str) -> bool:
    """Return whether a folder is whole, undamaged, and made from these inputs."""
    try:
        manifest = read_manifest(folder, kind)
        if manifest.fingerprint != wanted:
            return False
        verify_files(folder, manifest)
    except ArtifactError:
        return False
    return True


def link_file(source: Path, target: Path) -> None:
    """Give a finished file a second name; it is copied where the disk cannot do that."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
