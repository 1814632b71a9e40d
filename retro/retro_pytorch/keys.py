"""The keys of raw chunk files, kept with what they were made from.

Keys are written in order to ``<file>.partial``; how many rows are on the disk is noted
beside it, so an interrupted run goes on there. The finished file has a sidecar with the
fingerprint of chunks and encoder, and its own sha256. A file whose sidecar does not fit is
made again.

Shape suffixes: C chunks, N any number of rows, W tokens of a stored row, Z key width.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro.artifacts import disk_errors, fingerprint, sync_folder, write_json
from retro.errors import ArtifactError
from retro.json_files import read_object
from retro.retrieval.embedder import Embedder
from retro.retro_pytorch.files import open_rows, sha256_rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class MemmapKeys:
    """Keys by chunk id, in one read-only file."""

    keys_CZ: NDArray[np.float32]
    """The memory map."""

    fingerprint: str
    """Identity of the content."""

    @property
    def width(self) -> int:
        """Key width."""
        return int(self.keys_CZ.shape[1])

    def gather(self, ids: NDArray[Any]) -> NDArray[np.float32]:
        """Return keys by chunk id, (..., width); every id must exist."""
        return np.asarray(self.keys_CZ[ids])

    def blocks(self, start: int, stop: int, size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first chunk id, keys) of at most ``size`` chunks at a time, in order."""
        for first in range(start, stop, size):
            # A copy: the map is read-only, which torch would warn about.
            yield first, np.array(self.keys_CZ[first : min(first + size, stop)])


def embed_rows(
    rows_CW: NDArray[np.int32],
    path: Path,
    embedder: Embedder,
    *,
    rows_per_save: int,
    force: bool = False,
) -> MemmapKeys:
    """Return the keys of chunks, computing those that are not there yet.

    Args:
        rows_CW: Stored rows; the last column is not of the chunk.
        path: Where the keys are kept, (chunks, width), raw float32.
        embedder: Maps chunks to keys.
        rows_per_save: Rows computed between two notes of how far the work is.
        force: Start anew in any case.

    Raises:
        DiskFullError: The disk is full; what was computed is kept.
        ArtifactMismatchError: The encoder gives keys that cannot be used.
    """
    num_chunks, width = len(rows_CW), embedder.width
    wanted = fingerprint(
        {
            "chunks": sha256_rows(rows_CW),
            "shape": list(rows_CW.shape),
            "embedder": embedder.fingerprint,
        }
    )
    if not force and is_current(path, np.float32, (num_chunks, width), wanted):
        logger.info("%s is up to date", path.name)
    else:
        _write_keys(rows_CW, path, embedder, wanted, rows_per_save, force=force)
        note_made(path, np.float32, (num_chunks, width), wanted)
    keys_CZ = open_rows(path, np.float32, num_chunks, (width,), counted="num_chunks")
    return MemmapKeys(keys_CZ=keys_CZ, fingerprint=wanted)


def sidecar(path: Path) -> Path:
    """Return where it stands what a file was made from."""
    return path.with_name(f"{path.name}.json")


def is_current(path: Path, dtype: type, shape: tuple[int, int], wanted: str) -> bool:
    """Return whether a finished file was made from these inputs and is undamaged."""
    try:
        note = read_object(sidecar(path))
        rows = open_rows(path, dtype, shape[0], shape[1:], counted="rows")
    except ArtifactError:
        return False
    if note.get("fingerprint") != wanted:
        return False
    whole = path.stat().st_size == rows.nbytes
    return whole and note.get("sha256") == sha256_rows(rows)


def note_made(path: Path, dtype: type, shape: tuple[int, int], wanted: str) -> None:
    """Write down what a finished file was made from."""
    rows = open_rows(path, dtype, shape[0], shape[1:], counted="rows")
    write_json(
        sidecar(path),
        {"fingerprint": wanted, "sha256": sha256_rows(rows), "shape": list(shape)},
    )


def _write_keys(
    rows_CW: NDArray[np.int32],
    path: Path,
    embedder: Embedder,
    wanted: str,
    rows_per_save: int,
    *,
    force: bool,
) -> None:
    partial = path.with_name(f"{path.name}.partial")
    row_bytes = embedder.width * np.dtype(np.float32).itemsize
    done = 0 if force else _rows_done(partial, wanted, row_bytes)
    if done:
        logger.info("%s: going on after %d of %d rows", path.name, done, len(rows_CW))
    with disk_errors(path):
        with partial.open("r+b" if done else "wb") as file:
            file.truncate(done * row_bytes)
            file.seek(done * row_bytes)
            for start in range(done, len(rows_CW), rows_per_save):
                block_NW = np.asarray(rows_CW[start : start + rows_per_save])
                file.write(embedder.embed(block_NW[:, :-1]).tobytes())
                file.flush()
                os.fsync(file.fileno())
                done = start + len(block_NW)
                write_json(sidecar(partial), {"fingerprint": wanted, "rows": done})
                logger.info("%s: %d of %d rows", path.name, done, len(rows_CW))
        partial.replace(path)
        sidecar(partial).unlink(missing_ok=True)
        sync_folder(path.parent)


def _rows_done(partial: Path, wanted: str, row_bytes: int) -> int:
    try:
        note = read_object(sidecar(partial))
    except ArtifactError:
        return 0
    if note.get("fingerprint") != wanted or not partial.exists():
        return 0
    rows = note.get("rows")
    if not isinstance(rows, int) or rows < 0 or partial.stat().st_size < rows * row_bytes:
        return 0
    return rows
