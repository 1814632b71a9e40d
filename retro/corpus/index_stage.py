"""The last stages of a build: the index over the keys, and the neighbors it finds.

A corpus that had no index can be searched, and written from, as soon as this one is filled: it
is put in place without neighbors, which only training needs, and replaced when they are found.

While they are made, ``index.partial/`` holds what is finished: the index, and neighbors in
shards. A build that was stopped goes on from there. Training and filling the index is one step:
for a million keys it takes about a minute on two cores, far less than embedding them.

Shape suffixes: C chunks, K neighbors per chunk, N chunks of one shard.
"""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from retro.artifacts import fingerprint, is_finished, read_record, sha256_file, write_manifest
from retro.config.checks import config_to_dict
from retro.config.corpus import CorpusConfig, identifying
from retro.corpus.corpus import Corpus
from retro.corpus.files import (
    DATABASE_NAME,
    INDEX_KIND,
    INDEX_NAME,
    INDEX_PARTIAL_NAME,
    KEYS_NAME,
)
from retro.data.database import NO_NEIGHBOR, RetrievalDatabase
from retro.errors import ArtifactError, ArtifactMismatchError
from retro.progress import Progress
from retro.retrieval.index import INDEX_FILE, Index, build_index, open_index
from retro.retrieval.index_info import IndexInfo, choose_kind
from retro.retrieval.keys import KeyStore
from retro.retrieval.neighbors import find_neighbors, resolve_exclusion
from retro.retrieval.scores import SQUARED_L2, Score
from retro.whole_files import link_file, open_array, remove_staging, save_array, staged_folder

FILLED_KIND = "filled index"
SHARD_KIND = "shard of neighbors"
CHUNKS_PER_SHARD = 4096
"""Searched in seconds; a multiple of the chunks that are searched at once."""


class IndexStage:
    """Makes ``index/`` of a corpus whose chunks and keys are finished."""

    def __init__(
        self,
        corpus_dir: Path,
        config: CorpusConfig,
        *,
        device: torch.device | None,
        on_progress: Progress,
    ) -> None:
        self._final = corpus_dir / INDEX_NAME
        self._partial = corpus_dir / INDEX_PARTIAL_NAME
        self._config = config
        self._device = device
        self._on_progress = on_progress
        self._database = RetrievalDatabase.open(corpus_dir / DATABASE_NAME)
        self._keys = KeyStore.open(corpus_dir / KEYS_NAME)
        self._exclusion = resolve_exclusion(self._database, config)
        self._kind = choose_kind(config.index_kind, self._database.num_retrievable)
        self._wanted = fingerprint(
            {
                "stage": INDEX_KIND,
                "keys": self._keys.fingerprint,
                "config": identifying(config_to_dict(config), type(config)),
                "exclusion": self._exclusion,
                "kind": self._kind,
            }
        )
        self._filled = fingerprint(
            {
                "stage": FILLED_KIND,
                "keys": self._keys.fingerprint,
                "kind": self._kind,
                "seed": config.seed,
            }
        )

    def run(self) -> None:
        """Make what is missing; the old index stays until the new one is whole."""
        num_chunks = self._database.num_chunks
        if is_finished(self._final, INDEX_KIND, self._wanted) and not self._is_early():
            for stage in ("index", "neighbors"):
                self._on_progress(stage, num_chunks, num_chunks)
        else:
            self._partial.mkdir(exist_ok=True)
            remove_staging(self._partial)
            index, info = self._find_index()
            self._publish_early(info)
            ids_CK, distances_CK = self._find_neighbors(index, info)
            check_neighbors(ids_CK, distances_CK, self._database.num_retrievable, SQUARED_L2)
            self._publish(info, ids_CK, distances_CK)
        shutil.rmtree(self._partial, ignore_errors=True)

    def _find_index(self) -> tuple[Index, IndexInfo]:
        """Open the index that is there; build it first if there is none."""
        folder = self._partial / INDEX_NAME
        if not is_finished(folder, FILLED_KIND, self._filled):
            with staged_folder(folder) as staging:
                facts = self._take_index(staging) or self._build_index(staging)
                settings = {"index": facts, "keys": self._keys.fingerprint}
                write_manifest(staging, FILLED_KIND, content=self._filled, settings=settings)
        info = IndexInfo(**read_record(folder, FILLED_KIND).settings["index"])
        self._on_progress("index", info.num_keys, info.num_keys)
        return open_index(folder, info), info

    def _build_index(self, staging: Path) -> dict[str, Any]:
        index, info = build_index(
            self._keys,
            self._database.num_retrievable,
            self._kind,
            seed=self._config.seed,
            on_progress=self._on_progress,
        )
        index.save(staging)
        return asdict(info)

    def _take_index(self, staging: Path) -> dict[str, Any] | None:
        """Take the index out of the last build, if it is the wanted one, and return its facts.

        So it is where other neighbors are asked for, or the file of the old ones is damaged.
        """
        try:
            manifest = read_record(self._final, INDEX_KIND)
        except ArtifactError:
            return None
        path = self._final / INDEX_FILE
        if manifest.settings.get("filled") != self._filled or not path.is_file():
            return None
        if sha256_file(path) != manifest.files[INDEX_FILE]["sha256"]:
            return None
        link_file(path, staging / INDEX_FILE)
        facts: dict[str, Any] = manifest.settings["index"]
        return facts

    def _find_neighbors(
        self, index: Index, info: IndexInfo
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the neighbors of all chunks, (chunks, neighbors), and their distances."""
        num_chunks = self._database.num_chunks
        ids_CK = np.empty((num_chunks, self._config.num_neighbors), dtype=np.int32)
        distances_CK = np.empty(ids_CK.shape, dtype=np.float32)
        for start in range(0, num_chunks, CHUNKS_PER_SHARD):
            rows = slice(start, min(start + CHUNKS_PER_SHARD, num_chunks))
            folder = self._partial / f"neighbors-{start:012d}"
            wanted = fingerprint([SHARD_KIND, self._wanted, rows.start, rows.stop])
            if not is_finished(folder, SHARD_KIND, wanted):
                self._save_shard(folder, wanted, index, info, rows)
            ids_CK[rows] = open_array(folder / "neighbors.npy")
            distances_CK[rows] = open_array(folder / "distances.npy")
        self._on_progress("neighbors", num_chunks, num_chunks)
        return ids_CK, distances_CK

    def _save_shard(
        self, folder: Path, wanted: str, index: Index, info: IndexInfo, rows: slice
    ) -> None:
        ids_NK, distances_NK = find_neighbors(
            self._database,
            self._keys,
            index,
            info,
            num_neighbors=self._config.num_neighbors,
            exclusion=self._exclusion,
            window=self._config.exclusion_window,
            chunks=range(rows.start, rows.stop),
            device=self._device,
            on_progress=self._on_progress,
        )
        with staged_folder(folder) as staging:
            save_array(staging / "neighbors.npy", ids_NK)
            save_array(staging / "distances.npy", distances_NK)
            settings = {"rows": len(ids_NK), "dtypes": [str(ids_NK.dtype), str(distances_NK.dtype)]}
            write_manifest(staging, SHARD_KIND, content=wanted, settings=settings)

    def _is_early(self) -> bool:
        return bool(read_record(self._final, INDEX_KIND).settings.get("is_early"))

    def _publish_early(self, info: IndexInfo) -> None:
        """Put the index in place without neighbors, unless there is one that can be searched."""
        try:
            Corpus.open(self._final.parent)
        except ArtifactError:
            with staged_folder(self._final) as staging:
                self._describe(staging, info, num_short=self._database.num_chunks, is_early=True)

    def _publish(
        self, info: IndexInfo, ids_CK: NDArray[np.int32], distances_CK: NDArray[np.float32]
    ) -> None:
        with staged_folder(self._final) as staging:
            save_array(staging / "neighbors.npy", ids_CK)
            save_array(staging / "distances.npy", distances_CK)
            self._describe(staging, info, num_short=int((ids_CK[:, -1] < 0).sum()))

    def _describe(
        self, staging: Path, info: IndexInfo, *, num_short: int, is_early: bool = False
    ) -> None:
        """Put the index beside what is there, and write the manifest."""
        link_file(self._partial / INDEX_NAME / INDEX_FILE, staging / INDEX_FILE)
        settings = {
            "config": config_to_dict(self._config),
            "exclusion": self._exclusion,
            "index": asdict(info),
            "filled": self._filled,
            "num_short": num_short,
            "database": self._database.fingerprint,
            "tokenizer": self._database.tokenizer_fingerprint,
            "keys": self._keys.fingerprint,
        }
        if is_early:
            settings["is_early"] = True
        write_manifest(staging, INDEX_KIND, content=self._wanted, settings=settings)


def check_neighbors(
    ids_CK: NDArray[np.int32], scores_CK: NDArray[np.float32], num_retrievable: int, score: Score
) -> None:
    """Refuse neighbors that cannot be.

    Raises:
        ArtifactMismatchError: An id is of no chunk that can be found, or a score is no number,
            lower than there can be one, or missing where there is a neighbor.
    """
    is_missing_CK = ids_CK == NO_NEIGHBOR
    in_range = (is_missing_CK | ((ids_CK >= 0) & (ids_CK < num_retrievable))).all()
    is_low_enough_CK = is_missing_CK | (scores_CK >= score.lowest)
    if not in_range or not is_low_enough_CK.all():
        raise ArtifactMismatchError(
            f"Neighbors must be chunks 0 to {num_retrievable - 1} with a {score.name} from "
            f"{score.lowest:g}, got ids from {ids_CK.min()} to {ids_CK.max()} and scores from "
            f"{scores_CK.min()}. "
            f"The index or the keys are damaged: remove them and build the corpus again."
        )
    if not np.array_equal(is_missing_CK, scores_CK == score.missing):
        raise ArtifactMismatchError(
            f"A neighbor must have a {score.name}, and a missing one none, got others. "
            "The keys are damaged: remove them and build the corpus again."
        )


def remove_stale(corpus_dir: Path, keys_fingerprint: str) -> None:
    """Remove what was kept of an index over other keys, so that new keys have its room."""
    partial = corpus_dir / INDEX_PARTIAL_NAME
    try:
        found = read_record(partial / INDEX_NAME, FILLED_KIND).settings.get("keys")
    except ArtifactError:
        return
    if found != keys_fingerprint:
        shutil.rmtree(partial, ignore_errors=True)
