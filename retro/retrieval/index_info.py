"""Facts about an index that are known without loading it.

Shape suffixes: Z key width.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from retro.config.corpus import IndexKind

LARGEST_FLAT = 65_536
"""Keys up to which exact search is used: it takes some milliseconds per query."""

HNSW_LINKS = 32
TRAINING_KEYS_PER_LIST = 64
KEYS_PER_BLOCK = 16_384
PRODUCT_CENTROIDS = 256
"""Values of one byte of a product code; it is trained on at least as many keys."""
ID_BYTES = 8
HEADER_BYTES = 4096
"""More than FAISS writes around the keys, but for the sizes of lists."""
LIST_BYTES = 16
FLOAT_BYTES = 4


class KeyCode(StrEnum):
    """How an index stores a key."""

    FULL = "full"
    """float32."""
    SCALAR = "sq8"
    """One byte per number."""
    PRODUCT = "pq"
    """One byte per group of numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexInfo:
    """How keys are searched."""

    kind: IndexKind
    """Never ``AUTO``."""

    num_keys: int
    """Keys in the index."""

    recall: float
    """Share of the true nearest keys that it finds, measured; 1 for exact search."""

    recall_at: int
    """Nearest keys the recall was measured for."""

    effort: int
    """Lists probed (``IVF``) or candidates kept (``HNSW``) per query; 0 for exact search."""

    code: KeyCode = KeyCode.FULL
    """How it stores a key."""

    def __post_init__(self) -> None:
        """Take what JSON holds."""
        object.__setattr__(self, "kind", IndexKind(self.kind))
        object.__setattr__(self, "code", KeyCode(self.code))

    @property
    def is_exact(self) -> bool:
        """Whether it finds what brute force finds."""
        return self.kind is IndexKind.FLAT


def choose_kind(kind: IndexKind, num_keys: int) -> IndexKind:
    """Return the kind of index for a number of keys, never ``AUTO``."""
    if kind is not IndexKind.AUTO:
        return kind
    return IndexKind.FLAT if num_keys <= LARGEST_FLAT else IndexKind.IVF


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexPlan:
    """An index before it is built."""

    kind: IndexKind
    """Never ``AUTO``."""

    code: KeyCode
    """How it stores a key."""

    code_bytes: int
    """Bytes per key."""

    num_lists: int
    """Inverted lists; 0 where there are none."""

    num_training: int
    """Keys that lists and codes are trained on."""

    keys_per_block: int
    """Keys held at once while they are added."""

    index_bytes: int
    """Size of the index, at most."""


def plan_index(
    kind: IndexKind,
    num_keys: int,
    width: int,
    *,
    code: KeyCode = KeyCode.FULL,
    code_bytes: int | None = None,
) -> IndexPlan:
    """Plan an index.

    Args:
        kind: Structure; ``AUTO`` chooses by the number of keys.
        num_keys: Keys in the index.
        width: Key width.
        code: How it stores a key; codes shorter than a key are kept in inverted lists.
        code_bytes: Bytes per key; None is what a full key has.
    """
    kind = choose_kind(kind, num_keys)
    code_bytes = width * FLOAT_BYTES if code_bytes is None else code_bytes
    num_lists, num_training = 0, 0
    index_bytes = HEADER_BYTES + num_keys * code_bytes
    if kind is IndexKind.HNSW:
        index_bytes += num_keys * HNSW_LINKS * 2 * FLOAT_BYTES
    if kind is IndexKind.IVF:
        most = num_keys // TRAINING_KEYS_PER_LIST
        num_lists = max(1, min(round(4 * math.sqrt(num_keys)), most))
        num_training = num_lists * TRAINING_KEYS_PER_LIST
        index_bytes += num_keys * ID_BYTES + num_lists * (width * FLOAT_BYTES + LIST_BYTES)
        if code is KeyCode.PRODUCT:
            num_training = max(num_training, PRODUCT_CENTROIDS * TRAINING_KEYS_PER_LIST)
        if code is not KeyCode.FULL:
            index_bytes += PRODUCT_CENTROIDS * width * FLOAT_BYTES
    return IndexPlan(
        kind=kind,
        code=code,
        code_bytes=code_bytes,
        num_lists=num_lists,
        num_training=min(num_training, num_keys),
        keys_per_block=min(KEYS_PER_BLOCK, num_keys),
        index_bytes=index_bytes,
    )
