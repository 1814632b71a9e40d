"""The keys of raw chunk files, kept with what they were made from.

Keys are written in order to ``<file>.partial``; how many rows are on the disk is noted
beside it, so an interrupted run goes on there. The finished file has a sidecar with the
fingerprint of chunks and encoder, and its own sha256. A file whose sidecar does not fit is
made again.

Shape suffixes: C chunks, N any number of rows, W tokens of a stored row.
"""

import logging
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retro.artifacts import fingerprint, sha256_array
from retro.errors import ArtifactError
from retro.json_files import read_object
from retro.retrieval.embedder import Embedder
from retro.retrieval.keys import KeyStore
from retro.retro_pytorch.files import note_path, open_rows, read_note, write_note
from retro.whole_files import disk_errors, sync_folder, write_json

logger = logging.getLogger(__name__)


def embed_rows(
    rows_CW: NDArray[np.int32],
    path: Path,
    embedder: Embedder,
    *,
    rows_per_save: int,
    force: bool = False,
) -> KeyStore:
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
            "chunks": sha256_array(rows_CW),
            "shape": list(rows_CW.shape),
            "embedder": embedder.fingerprint,
        }
    )
    if not force and read_note(path, wanted) is not None:
        logger.info("%s is up to date", path.name)
    else:
        _write_keys(rows_CW, path, embedder, wanted, rows_per_save, force=force)
        write_note(path, wanted, shape=[num_chunks, width])
    return KeyStore(
        starts=np.array([0, num_chunks]),
        shards=[open_rows(path, np.float32, num_chunks, (width,), counted="num_chunks")],
        width=width,
        fingerprint=wanted,
        embedder=embedder.fingerprint,
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
                write_json(note_path(partial), {"fingerprint": wanted, "rows": done})
                logger.info("%s: %d of %d rows", path.name, done, len(rows_CW))
        partial.replace(path)
        note_path(partial).unlink(missing_ok=True)
        sync_folder(path.parent)


def _rows_done(partial: Path, wanted: str, row_bytes: int) -> int:
    try:
        note = read_object(note_path(partial))
    except ArtifactError:
        return 0
    if note.get("fingerprint") != wanted or not partial.exists():
        return 0
    rows = note.get("rows")
    if not isinstance(rows, int) or rows < 0 or partial.stat().st_size < rows * row_bytes:
        return 0
    return rows
