"""Which index fits into the memory that a script allows."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace

from retro.config.corpus import IndexKind
from retro.errors import ConfigError
from retro.retrieval.index_info import (
    FLOAT_BYTES,
    PRODUCT_CENTROIDS,
    IndexPlan,
    KeyCode,
    plan_index,
)

MemorySize = str | int | None
MEMORY_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
FEWEST_KEYS_PER_BLOCK = 64


def memory_bytes(name: str, value: MemorySize) -> int | None:
    """Return a size of memory in bytes; k, m, G, T are powers of 1,024.

    Raises:
        ConfigError: It is no such size.
    """
    if value is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", str(value).lower())
    if isinstance(value, bool) or found is None or float(found[1]) == 0:
        raise ConfigError(
            f"{name} must be a size like '100m', '1G' or a number of bytes, got {value!r}."
        )
    return int(float(found[1]) * MEMORY_UNITS[found[2]])


def plan_within(
    num_keys: int,
    width: int,
    *,
    largest_bytes: int | None = None,
    available_bytes: int | None = None,
) -> IndexPlan:
    """Choose an index that fits into memory: full keys if they do, else shorter codes.

    Args:
        num_keys: Keys in the index.
        width: Key width.
        largest_bytes: Most the index may take; None is no limit.
        available_bytes: Most that building may hold: the index twice (it is copied while
            it is written), and the keys it is trained on or the block that is added.

    Raises:
        ConfigError: No index is small enough; the smallest possible size is given.
    """
    smallest, least = math.inf, math.inf
    for plan in _plans(num_keys, width):
        if available_bytes is not None:
            plan = _within(plan, width, available_bytes)
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


def _plans(num_keys: int, width: int) -> Iterator[IndexPlan]:
    """Yield plans, those that find most first; short codes are kept in inverted lists."""
    yield plan_index(IndexKind.AUTO, num_keys, width)
    lists = IndexKind.IVF
    yield plan_index(lists, num_keys, width, code=KeyCode.SCALAR, code_bytes=width)
    if num_keys >= PRODUCT_CENTROIDS:
        for groups in range(width // 2, 0, -1):
            if width % groups == 0:
                yield plan_index(lists, num_keys, width, code=KeyCode.PRODUCT, code_bytes=groups)


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
