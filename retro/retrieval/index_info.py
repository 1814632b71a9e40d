"""Facts about an index that are known without loading it, and which one fits into memory.

Shape suffixes: Z key width.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from retro.config import IndexKind
from retro.errors import ConfigError

LARGEST_FLAT = 65_536
"""Keys up to which exact search is used: it takes some milliseconds per query."""

HNSW_LINKS = 32
TRAINING_KEYS_PER_LIST = 64
KEYS_PER_BLOCK = 16_384
FEWEST_KEYS_PER_BLOCK = 64
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
    """Return a kind of index for so many keys, never ``AUTO``."""
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
    largest_bytes: int | None = None,
    available_bytes: int | None = None,
) -> IndexPlan:
    """Choose an index that fits into memory: full keys if they do, else shorter codes.

    Args:
        kind: Structure; ``AUTO`` chooses by the number of keys.
        num_keys: Keys in the index.
        width: Key width.
        largest_bytes: Most the index may take; None is no limit.
        available_bytes: Most that building may hold: the index twice (it is copied while
            it is written), and the keys it is trained on or the block that is added.

    Raises:
        ConfigError: No index is small enough; the smallest possible size is given.
    """
    kind = choose_kind(kind, num_keys)
    smallest, least = math.inf, math.inf
    for code, code_bytes in _codes(num_keys, width):
        # Codes are kept in inverted lists, whatever full keys would be in.
        form = kind if code is KeyCode.FULL else IndexKind.IVF
        plan = _plan(form, code, code_bytes, num_keys, width, available_bytes)
        smallest = min(smallest, plan.index_bytes)
        least = min(least, plan.index_bytes * 2 + _fewest_keys(plan) * width * FLOAT_BYTES)
        if largest_bytes is not None and plan.index_bytes > largest_bytes:
            continue
        if available_bytes is not None and _building_bytes(plan, width) > available_bytes:
            continue
        return plan
    if largest_bytes is not None and smallest > largest_bytes:
        raise ConfigError(
            f"max_index_memory_usage must be at least {smallest} bytes for {num_keys} keys of "
            f"width {width}, got {largest_bytes}. Raise it or index fewer chunks."
        )
    raise ConfigError(
        f"current_memory_available must be at least {least} bytes to index {num_keys} keys of "
        f"width {width}, got {available_bytes}. Raise it or index fewer chunks."
    )


def _codes(num_keys: int, width: int) -> Iterator[tuple[KeyCode, int]]:
    yield KeyCode.FULL, width * FLOAT_BYTES
    yield KeyCode.SCALAR, width
    if num_keys >= PRODUCT_CENTROIDS:
        yield from (
            (KeyCode.PRODUCT, groups) for groups in range(width // 2, 0, -1) if width % groups == 0
        )


def _plan(
    kind: IndexKind,
    code: KeyCode,
    code_bytes: int,
    num_keys: int,
    width: int,
    available_bytes: int | None,
) -> IndexPlan:
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
    plan = IndexPlan(
        kind=kind,
        code=code,
        code_bytes=code_bytes,
        num_lists=num_lists,
        num_training=min(num_training, num_keys),
        keys_per_block=min(KEYS_PER_BLOCK, num_keys),
        index_bytes=index_bytes,
    )
    return plan if available_bytes is None else _within(plan, width, available_bytes)


def _within(plan: IndexPlan, width: int, available_bytes: int) -> IndexPlan:
    """Return the plan with as many keys held at once as memory has room for."""
    room = max(0, available_bytes - 2 * plan.index_bytes) // (width * FLOAT_BYTES)
    fewest = _fewest_keys(plan)
    return replace(
        plan,
        # FAISS holds what it trains on twice.
        num_training=min(plan.num_training, max(room // 2, fewest // 2)),
        keys_per_block=min(plan.keys_per_block, max(room, fewest)),
    )


def _fewest_keys(plan: IndexPlan) -> int:
    """Return the keys that must be held at once, at the least, to build an index."""
    trained = max(
        min(plan.num_lists, plan.num_training),
        PRODUCT_CENTROIDS if plan.code is KeyCode.PRODUCT else 0,
    )
    return max(2 * trained, min(FEWEST_KEYS_PER_BLOCK, plan.keys_per_block))


def _building_bytes(plan: IndexPlan, width: int) -> int:
    held = max(2 * plan.num_training, plan.keys_per_block)
    return 2 * plan.index_bytes + held * width * FLOAT_BYTES
