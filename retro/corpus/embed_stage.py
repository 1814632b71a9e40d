"""The stage of a build that gives every chunk its key.

Shards are written once and checked when a build is resumed.

Shape suffixes: N any number of rows, M tokens per chunk, Z key width.
"""

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro.artifacts import MANIFEST_NAME, fingerprint, sha256_array, sha256_file, write_manifest
from retro.corpus.files import DATABASE_NAME, KEYS_NAME
from retro.corpus.key_reuse import EarlierKeys, chunk_digests, forget_earlier, set_aside
from retro.data.database import RetrievalDatabase
from retro.errors import ArtifactMismatchError
from retro.progress import Progress, no_progress
from retro.retrieval.embedder import Embedder
from retro.retrieval.keys import KEYS_KIND, shard_name
from retro.whole_files import json_bytes, remove_staging, save_array, sync_folder, write_json

ROWS_PER_SHARD = 4096
FIRST_SLICE = 128
"""Rows embedded between the first two reports of progress; doubled while that is quick."""
QUICK_S = 0.5


def keys_fingerprint(database: RetrievalDatabase, embedder: str) -> str:
    """Return the identity of the keys of a database."""
    return fingerprint({"stage": KEYS_KIND, "database": database.fingerprint, "embedder": embedder})


def embed_database(
    corpus_dir: Path, embedder: Embedder, on_progress: Progress = no_progress
) -> int:
    """Write the key of every chunk, held-out ones included, to ``keys/``.

    A shard that is already there, is whole, and was made from the same chunks by the
    same embedder is kept, so an interrupted build goes on where it stopped. A chunk that
    an earlier build has embedded keeps its key.

    Args:
        corpus_dir: The corpus; its ``database/`` is finished.
        embedder: Maps chunks to keys.
        on_progress: Called with the progress of the stage ``embed`` in chunks.

    Returns:
        Chunks that had to be embedded.
    """
    database = RetrievalDatabase.open(corpus_dir / DATABASE_NAME)
    folder = corpus_dir / KEYS_NAME
    prepare_keys(corpus_dir, database, embedder)
    earlier = EarlierKeys(corpus_dir, embedder.fingerprint, embedder.width)
    starts = _shard_starts(database)
    done = num_embedded = 0
    for start, stop in itertools.pairwise(starts):
        chunks_NM = np.ascontiguousarray(database.chunks_CM[start:stop])
        expected = {
            "rows": stop - start,
            "width": embedder.width,
            "dtype": "float32",
            "input_sha256": sha256_array(chunks_NM),
            "embedder": embedder.fingerprint,
            "chunks": (digests := chunk_digests(chunks_NM)).hex(),
        }
        on_progress("embed", done, database.num_chunks)
        if not _is_finished(folder / shard_name(start), expected):
            found_N, keys_NZ = earlier.find(digests)
            missing = np.flatnonzero(~found_N)
            num_embedded += len(missing)
            keys_NZ[missing] = _embed_rows(
                chunks_NM[missing], embedder, stop - len(missing), database.num_chunks, on_progress
            )
            path = folder / shard_name(start)
            save_array(path, keys_NZ)
            write_json(path.with_suffix(".json"), {**expected, "sha256": sha256_file(path)})
        done += stop - start
    _remove_others(folder, starts)
    write_manifest(
        folder,
        KEYS_KIND,
        content=keys_fingerprint(database, embedder.fingerprint),
        settings={
            "starts": starts,
            "width": embedder.width,
            "num_retrievable": database.num_retrievable,
            "database": database.fingerprint,
            "embedder": embedder.fingerprint,
        },
    )
    forget_earlier(corpus_dir)
    on_progress("embed", done, database.num_chunks)
    return num_embedded


def prepare_keys(corpus_dir: Path, database: RetrievalDatabase, embedder: Embedder) -> None:
    """Set keys of other chunks aside; from here on the folder is unfinished, and says so."""
    folder = corpus_dir / KEYS_NAME
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    sync_folder(folder)
    remove_staging(folder)
    wanted = {
        Path(shard_name(start)).with_suffix(".json").name: sha256_array(
            database.chunks_CM[start:stop]
        )
        for start, stop in itertools.pairwise(_shard_starts(database))
    }
    set_aside(corpus_dir, folder, wanted, embedder.fingerprint)


def _shard_starts(database: RetrievalDatabase) -> list[int]:
    """Return first ids of shards, and the end; no shard holds both kinds of chunks."""
    border, stop = database.num_retrievable, database.num_chunks
    return [*range(0, border, ROWS_PER_SHARD), *range(border, stop, ROWS_PER_SHARD), stop]


def _is_finished(path: Path, expected: dict[str, Any]) -> bool:
    sidecar = path.with_suffix(".json")
    if not (path.is_file() and sidecar.is_file()):
        return False
    return sidecar.read_bytes() == json_bytes({**expected, "sha256": sha256_file(path)})


def _embed_rows(
    chunks_NM: NDArray[np.int32],
    embedder: Embedder,
    done: int,
    total: int,
    on_progress: Progress,
) -> NDArray[np.float32]:
    keys_NZ = np.empty((len(chunks_NM), embedder.width), dtype=np.float32)
    start, size = 0, FIRST_SLICE
    while start < len(chunks_NM):
        began = time.monotonic()
        stop = min(start + size, len(chunks_NM))
        keys_NZ[start:stop] = embedder.embed(chunks_NM[start:stop])
        if time.monotonic() - began < QUICK_S:
            size *= 2
        start = stop
        on_progress("embed", done + start, total)
    if not (np.isfinite(keys_NZ).all() and keys_NZ.any(axis=1).all()):
        raise ArtifactMismatchError(
            "The embedder gave a key that is zero or not finite. Choose another encoder."
        )
    return keys_NZ


def _remove_others(folder: Path, starts: list[int]) -> None:
    wanted = {shard_name(start) for start in starts[:-1]}
    for path in folder.iterdir():
        if path.with_suffix(".npy").name not in wanted:
            path.unlink()
