"""Keys of an earlier build, found again by what their chunks hold.

A build that replaces the chunks of a corpus sets the shards of keys aside, in ``keys.before/``,
under names that follow from their content. A chunk whose tokens were embedded by the same encoder
takes its key from there, wherever the chunk has moved to. Only shards whose sha256 is right are
read. The folder is removed when all keys are written, so a build that was killed finds it again.

Shape suffixes: N rows, Z key width. A trailing 2 is the two halves of a digest.
"""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro.artifacts import MANIFEST_NAME, sha256_file
from retro.corpus.files import KEYS_BEFORE_NAME
from retro.errors import ArtifactError
from retro.json_files import read_object
from retro.whole_files import open_array, sync_folder

DIGEST_BYTES = 16
DIGEST_LETTERS = 2 * DIGEST_BYTES
"""A chunk in the list of what keys were made from, in hexadecimal digits."""
NAME_LETTERS = 32


def chunk_digests(chunks_NM: NDArray[np.int32]) -> bytes:
    """Return the digests of chunks, ``DIGEST_BYTES`` each, one after the other."""
    rows = np.ascontiguousarray(chunks_NM)
    return b"".join(
        hashlib.blake2b(row.tobytes(), digest_size=DIGEST_BYTES).digest() for row in rows
    )


def set_aside(corpus_dir: Path, folder: Path, wanted: Mapping[str, str], embedder: str) -> None:
    """Move finished shards out of the way that are not those of the present chunks.

    Args:
        corpus_dir: The corpus.
        folder: Its keys.
        wanted: Name of each shard's sidecar to the sha256 of the chunks it is to be of.
        embedder: Identity of the embedder; keys of another one are of no use.
    """
    before = corpus_dir / KEYS_BEFORE_NAME
    moved = False
    for sidecar in sorted(folder.glob("*.json")):
        facts = _facts(sidecar)
        if facts is None or facts["embedder"] != embedder or not _array(sidecar).is_file():
            continue
        if wanted.get(sidecar.name) == facts["input_sha256"]:
            continue
        before.mkdir(exist_ok=True)
        target = before / f"{facts['sha256'][:NAME_LETTERS]}.json"
        # The sidecar last: without it, a shard is not looked at.
        _array(sidecar).replace(_array(target))
        sidecar.replace(target)
        moved = True
    if moved:
        for place in (before, folder, corpus_dir):
            sync_folder(place)


def forget_earlier(corpus_dir: Path) -> None:
    """Remove what was set aside."""
    shutil.rmtree(corpus_dir / KEYS_BEFORE_NAME, ignore_errors=True)


class EarlierKeys:
    """The keys that were set aside.

    Args:
        corpus_dir: The corpus.
        embedder: Identity of the embedder.
        width: Key width.
    """

    def __init__(self, corpus_dir: Path, embedder: str, width: int) -> None:
        self._width = width
        self._shards = [
            _Shard(_array(sidecar), facts["sha256"], facts["rows"], bytes.fromhex(facts["chunks"]))
            for sidecar in sorted((corpus_dir / KEYS_BEFORE_NAME).glob("*.json"))
            if (facts := _facts(sidecar)) is not None and facts["embedder"] == embedder
        ]
        self._keys: dict[int, NDArray[np.float32] | None] = {}
        digests_N2 = _halves(b"".join(shard.digests for shard in self._shards))
        counts = [shard.rows for shard in self._shards]
        shard_N = np.repeat(np.arange(len(counts)), counts)
        row_N = np.concatenate([np.arange(rows) for rows in [0, *counts]])
        order = np.argsort(digests_N2[:, 0], kind="stable")
        self._digests_N2, self._shard_N, self._row_N = (
            digests_N2[order],
            shard_N[order],
            row_N[order],
        )

    def find(self, digests: bytes) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return which chunks have a key already, and the keys; those of others are zero.

        Args:
            digests: What ``chunk_digests`` gives for the chunks.
        """
        wanted_N2 = _halves(digests)
        keys_NZ = np.zeros((len(wanted_N2), self._width), dtype=np.float32)
        found_N = np.zeros(len(wanted_N2), dtype=np.bool_)
        if len(self._digests_N2) == 0:
            return found_N, keys_NZ
        place_N = np.searchsorted(self._digests_N2[:, 0], wanted_N2[:, 0])
        place_N = np.minimum(place_N, len(self._digests_N2) - 1)
        same_N = (self._digests_N2[place_N] == wanted_N2).all(axis=1)
        for number in np.unique(self._shard_N[place_N[same_N]]).tolist():
            shard_NZ = self._open(number)
            if shard_NZ is None:
                continue
            rows = np.flatnonzero(same_N & (self._shard_N[place_N] == number))
            keys_NZ[rows] = shard_NZ[self._row_N[place_N[rows]]]
            found_N[rows] = True
        return found_N, keys_NZ

    def _open(self, number: int) -> NDArray[np.float32] | None:
        if number not in self._keys:
            self._keys[number] = self._shards[number].open(self._width)
        return self._keys[number]


@dataclass(frozen=True, slots=True)
class _Shard:
    path: Path
    sha256: str
    rows: int
    digests: bytes

    def open(self, width: int) -> NDArray[np.float32] | None:
        """Return its keys, None if they are not what was written."""
        try:
            if sha256_file(self.path) != self.sha256:
                return None
            keys_NZ = open_array(self.path)
        except (OSError, ArtifactError):
            return None
        is_right = keys_NZ.shape == (self.rows, width) and keys_NZ.dtype == np.float32
        return keys_NZ if is_right else None


def _facts(sidecar: Path) -> dict[str, Any] | None:
    """Return what a sidecar says; None if it is damaged, or of a version that said less."""
    if sidecar.name == MANIFEST_NAME:
        return None
    try:
        facts: dict[str, Any] = read_object(sidecar)
        digests = bytes.fromhex(facts["chunks"])
        is_whole = len(digests) == facts["rows"] * DIGEST_BYTES
        texts = (facts["embedder"], facts["input_sha256"], facts["sha256"])
        return facts if is_whole and all(isinstance(text, str) for text in texts) else None
    except (ArtifactError, OSError, KeyError, TypeError, ValueError):
        return None


def _array(sidecar: Path) -> Path:
    return sidecar.with_suffix(".npy")


def _halves(digests: bytes) -> NDArray[np.uint64]:
    return np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2)
