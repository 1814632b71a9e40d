"""The index: finds nearest keys with FAISS, on the GPU where FAISS sees one.

Shape suffixes: Q queries, S search results per query, N any number of keys, Z key width.
"""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from retro.config.corpus import IndexKind
from retro.data.database import NO_NEIGHBOR
from retro.errors import ArtifactMismatchError, ArtifactMissingError, ShapeError
from retro.progress import Progress, no_progress
from retro.retrieval.exact import Keys, exact_search
from retro.retrieval.index_info import IndexInfo, IndexPlan, KeyCode, plan_index
from retro.retrieval.index_training import Steps, train_index

INDEX_FILE = "index.faiss"
WANTED_RECALL = 0.95
RECALL_AT = 10
RECALL_QUERIES = 256
SMALLEST_GAIN = 0.005
"""Of recall; codes too short for the wanted recall are searched no further than this."""
FIRST_EFFORT = {IndexKind.IVF: 4, IndexKind.HNSW: 32}


class Index:
    """Keys in a FAISS index; the position of a key is its chunk id."""

    def __init__(self, backend: Any, kind: IndexKind, code: KeyCode = KeyCode.FULL) -> None:
        self.kind = kind
        self.code = code
        self.num_keys: int = backend.ntotal
        self.width: int = backend.d
        self._backend = backend
        self._searcher = _on_gpu(backend, kind, code)

    @property
    def backend(self) -> Any:
        """The index of FAISS itself, on the CPU, for ``search(vectors, k=...)``."""
        return self._backend

    def search(
        self, queries_QZ: NDArray[np.float32], num_results: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the nearest keys.

        Args:
            queries_QZ: Queries, (queries, width).
            num_results: Results per query.

        Returns:
            Ids, (queries, num_results), -1 where the index found no further one, and
            squared L2 distances, infinity there.

        Raises:
            ShapeError: The queries have another width.
        """
        if queries_QZ.ndim != 2 or queries_QZ.shape[1] != self.width:
            raise ShapeError(
                f"Queries must have the shape (queries, {self.width}), got {queries_QZ.shape}. "
                f"Embed them with the encoder of the index."
            )
        ids_QS = np.full((len(queries_QZ), num_results), NO_NEIGHBOR, dtype=np.int64)
        distances_QS = np.full((len(queries_QZ), num_results), np.inf, dtype=np.float32)
        wanted = min(num_results, self.num_keys)
        if wanted > 0 and len(queries_QZ) > 0:
            contiguous_QZ = np.ascontiguousarray(queries_QZ, dtype=np.float32)
            found_QS, ids = self._searcher.search(contiguous_QZ, wanted)[:2]
            ids_QS[:, :wanted] = ids
            # FAISS returns -1 when the lists it probed hold fewer keys.
            distances_QS[:, :wanted] = np.where(ids >= 0, np.maximum(found_QS, 0), np.inf)
        return ids_QS, distances_QS

    def set_effort(self, effort: int) -> None:
        """Search more lists or candidates; exact search has no such choice."""
        name = {IndexKind.IVF: "nprobe", IndexKind.HNSW: "efSearch"}.get(self.kind)
        if name is not None:
            for backend in (self._backend, self._searcher):
                setattr(backend.hnsw if self.kind is IndexKind.HNSW else backend, name, effort)

    def serialized(self) -> NDArray[np.uint8]:
        """Return the bytes of the index as FAISS writes them."""
        data: NDArray[np.uint8] = faiss.serialize_index(self._backend)
        return data

    def save(self, folder: Path) -> None:
        """Write ``index.faiss`` into a folder."""
        (folder / INDEX_FILE).write_bytes(self.serialized().data)


def build_index(
    keys: Keys,
    num_keys: int,
    kind: IndexKind,
    *,
    seed: int = 0,
    on_progress: Progress = no_progress,
    plan: IndexPlan | None = None,
) -> tuple[Index, IndexInfo]:
    """Put keys into an index and measure how much it finds.

    The effort of an approximate index is doubled until it finds ``WANTED_RECALL`` of the
    true nearest keys of a sample.

    Args:
        keys: Where keys come from.
        num_keys: The ids 0 to ``num_keys - 1`` are indexed.
        kind: Structure of the index.
        seed: Choice of the keys that inverted lists are trained on, and of the sample.
        on_progress: Called with the progress of the stage ``index`` in chunks; training counts as
            a share of them.
        plan: The index, where the caller has chosen one that fits into memory; ``kind`` is
            then not used.

    Returns:
        The index and facts about it.
    """
    plan = plan or plan_index(kind, num_keys, keys.width)
    kind = plan.kind
    steps = Steps(plan, num_keys, on_progress)
    rng = np.random.default_rng(seed)
    backend = train_index(keys, num_keys, plan, rng, steps)
    for _, keys_NZ in keys.blocks(0, num_keys, plan.keys_per_block):
        backend.add(keys_NZ)
        steps.take(len(keys_NZ))
    index = Index(backend, kind, plan.code)
    assert index.num_keys == num_keys, f"{index.num_keys} of {num_keys} keys"
    recall, effort = (1.0, 0) if kind is IndexKind.FLAT else _tune(index, keys, rng)
    on_progress("index", num_keys, num_keys)
    info = IndexInfo(
        kind=kind,
        num_keys=num_keys,
        recall=recall,
        recall_at=RECALL_AT,
        effort=effort,
        code=plan.code,
    )
    return index, info


def open_index(folder: Path, info: IndexInfo, name: str = INDEX_FILE) -> Index:
    """Load an index from a folder.

    Args:
        folder: Where it is.
        info: Facts about it.
        name: Its file.

    Raises:
        ArtifactMissingError: It is not there.
        ArtifactMismatchError: It is damaged or another index.
    """
    path = folder / name
    if not path.exists():
        raise ArtifactMissingError(f"There is no {name}. Build the corpus again.")
    try:
        # Without the flag, product codes would get tables larger than the keys.
        backend = faiss.deserialize_index(
            np.fromfile(path, dtype=np.uint8), faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE
        )
    except RuntimeError as error:
        raise ArtifactMismatchError(f"{name} is damaged. Build the corpus again.") from error
    if backend.ntotal != info.num_keys:
        raise ArtifactMismatchError(
            f"{name} must hold {info.num_keys} keys, got {backend.ntotal}. Build the corpus again."
        )
    return Index(backend, info.kind, info.code)


def _tune(index: Index, keys: Keys, rng: np.random.Generator) -> tuple[float, int]:
    """Raise the effort until the recall is reached; return both."""
    sample_N = rng.choice(index.num_keys, min(RECALL_QUERIES, index.num_keys), replace=False)
    queries_QZ = keys.gather(sample_N)
    wanted = min(RECALL_AT + 1, index.num_keys)
    true_QS, _ = exact_search(queries_QZ, keys, index.num_keys, wanted)
    effort = FIRST_EFFORT[index.kind]
    before = 0.0
    while True:
        index.set_effort(effort)
        found_QS, _ = index.search(queries_QZ, wanted)
        recall = _recall(sample_N, true_QS, found_QS)
        in_vain = index.code is not KeyCode.FULL and recall < before + SMALLEST_GAIN
        if recall >= WANTED_RECALL or effort >= index.num_keys or in_vain:
            return recall, effort
        before = recall
        effort *= 2


def _recall(
    sample_N: NDArray[np.int64], true_QS: NDArray[np.int64], found_QS: NDArray[np.int64]
) -> float:
    # The key itself is no achievement.
    expected = [set(true) - {own} for own, true in zip(sample_N, true_QS.tolist(), strict=True)]
    hits = sum(
        len(true & set(found)) for true, found in zip(expected, found_QS.tolist(), strict=True)
    )
    total = sum(len(true) for true in expected)
    return hits / total if total else 1.0


def _on_gpu(backend: Any, kind: IndexKind, code: KeyCode) -> Any:
    # On a GPU, product codes work only in some lengths, and memory is what is short.
    on_cpu = kind is IndexKind.HNSW or code is not KeyCode.FULL
    if on_cpu or not hasattr(faiss, "get_num_gpus") or faiss.get_num_gpus() == 0:
        return backend
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, backend)
