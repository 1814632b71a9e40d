"""The keys of all chunks, in shards.

Shape suffixes: N any number of rows, Z key width.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro.artifacts import read_manifest
from retro.data.database import check_array
from retro.whole_files import open_array

KEYS_KIND = "keys"


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyStore:
    """The keys of all chunks by chunk id, held-out chunks included; read-only."""

    starts: NDArray[np.int64]
    """First chunk id of each shard, and the number of chunks at the end."""

    shards: list[NDArray[np.float32]]
    """One memory map per shard."""

    width: int
    """Key width."""

    fingerprint: str
    """Identity of the content."""

    embedder: str
    """Identity of the embedder."""

    @classmethod
    def open(cls, folder: Path) -> "KeyStore":
        """Open the ``keys`` folder of a corpus.

        Raises:
            ArtifactMissingError: It has not been built.
            ArtifactMismatchError: Its files do not belong together or are damaged.
        """
        manifest = read_manifest(folder, KEYS_KIND)
        starts, width = manifest.settings["starts"], manifest.settings["width"]
        shards: list[NDArray[np.float32]] = []
        for start, stop in itertools.pairwise(starts):
            shard = open_array(folder / shard_name(start))
            check_array(shard_name(start), shard, np.float32, (stop - start, width))
            shards.append(shard)
        return cls(
            starts=np.array(starts, dtype=np.int64),
            shards=shards,
            width=width,
            fingerprint=manifest.fingerprint,
            embedder=manifest.settings["embedder"],
        )

    def gather(self, ids: NDArray[Any]) -> NDArray[np.float32]:
        """Return keys by chunk id, (..., width); every id must exist."""
        flat_N = np.asarray(ids, dtype=np.int64).reshape(-1)
        keys_NZ = np.empty((len(flat_N), self.width), dtype=np.float32)
        shard_N = np.searchsorted(self.starts, flat_N, side="right") - 1
        for shard in np.unique(shard_N).tolist():
            rows = np.flatnonzero(shard_N == shard)
            keys_NZ[rows] = self.shards[shard][flat_N[rows] - self.starts[shard]]
        return keys_NZ.reshape(*np.shape(ids), self.width)

    def blocks(self, start: int, stop: int, size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first chunk id, keys) of at most ``size`` chunks at a time, in order."""
        for first in range(start, stop, size):
            yield first, self.gather(np.arange(first, min(first + size, stop)))


def shard_name(start: int) -> str:
    """Return the file name of the shard that begins with a chunk id."""
    return f"keys-{start:012d}.npy"
