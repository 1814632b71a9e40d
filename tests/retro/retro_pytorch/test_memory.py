"""An index that must fit into memory does, and keeps finding what is near."""

from pathlib import Path

import numpy as np
import pytest

from retro.config.corpus import IndexKind
from retro.errors import ConfigError
from retro.retrieval.exact import exact_search
from retro.retrieval.index import build_index, open_index
from retro.retrieval.index_info import KeyCode
from retro.retrieval.neighbors import nearest_allowed
from retro.retro_pytorch.memory import plan_within
from tests.retro.retrieval.test_exact import ArrayKeys
from tests.retro.retrieval.test_index import clustered_keys

NUM_KEYS, WIDTH = 3000, 32
FULL_BYTES = NUM_KEYS * WIDTH * 4


@pytest.fixture(scope="module")
def keys() -> ArrayKeys:
    return ArrayKeys(clustered_keys(NUM_KEYS, WIDTH))


@pytest.mark.parametrize(
    ("largest", "code"),
    [
        (None, KeyCode.FULL),
        (2 * FULL_BYTES, KeyCode.FULL),
        (FULL_BYTES // 2, KeyCode.SCALAR),
        (FULL_BYTES // 4, KeyCode.PRODUCT),
        (90_000, KeyCode.PRODUCT),
    ],
)
def test_the_index_fits_and_true_keys_decide(
    keys: ArrayKeys, largest: int | None, code: KeyCode, tmp_path: Path
) -> None:
    plan = plan_within(NUM_KEYS, WIDTH, largest_bytes=largest)

    index, info = build_index(keys, NUM_KEYS, IndexKind.AUTO, plan=plan)

    assert info.code is plan.code is code
    assert (plan.kind is IndexKind.FLAT) == (code is KeyCode.FULL) == info.is_exact
    size = index.serialized().nbytes
    assert size <= plan.index_bytes
    assert largest is None or size <= largest
    queries = keys.keys_NZ[:100]
    found, distances = nearest_allowed(
        queries, keys, index, info, 3, excluded_QX2=np.empty((100, 0, 2), np.int64), num_extra=100
    )
    true, true_distances = exact_search(queries, keys, NUM_KEYS, 3)
    assert (found == true).mean() > 0.95
    agreeing = found == true
    np.testing.assert_allclose(distances[agreeing], true_distances[agreeing])
    index.save(tmp_path)
    reopened = open_index(tmp_path, info)
    assert np.array_equal(reopened.search(queries, 5)[0], index.search(queries, 5)[0])
    # Tables that FAISS may add when it loads would take more than the keys.
    if code is KeyCode.PRODUCT:
        assert reopened.backend.precomputed_table.size() == 0


def test_more_candidates_find_more_with_short_codes(keys: ArrayKeys) -> None:
    plan = plan_within(NUM_KEYS, WIDTH, largest_bytes=90_000)
    index, info = build_index(keys, NUM_KEYS, IndexKind.AUTO, plan=plan)
    queries = keys.keys_NZ[:200]
    true, _ = exact_search(queries, keys, NUM_KEYS, 5)

    def hits(num_extra: int) -> float:
        nothing = np.empty((200, 0, 2), np.int64)
        found, _ = nearest_allowed(
            queries, keys, index, info, 5, excluded_QX2=nothing, num_extra=num_extra
        )
        return float((found == true).mean())

    assert hits(200) > hits(0) + 0.02


def test_a_small_corpus_is_searched_exactly_and_a_large_one_by_lists() -> None:
    assert plan_within(50_000, 8).kind is IndexKind.FLAT
    large = plan_within(1_000_000, 768)
    assert (large.kind, large.code) == (IndexKind.IVF, KeyCode.FULL)
    readme = plan_within(1_000_000, 768, largest_bytes=100 * 2**20, available_bytes=2**30)
    assert readme.code is KeyCode.PRODUCT
    assert readme.index_bytes <= 100 * 2**20
    assert readme.code_bytes == 64, "the longest code that fits"


@pytest.mark.parametrize("num_keys", [1, 2, 70, 300])
def test_few_keys_can_be_shortened_too(num_keys: int, capfd: pytest.CaptureFixture[str]) -> None:
    keys = ArrayKeys(clustered_keys(num_keys, 64))
    full = plan_within(num_keys, 64)
    for limit in range(full.index_bytes - 1, 0, -2000):
        try:
            plan = plan_within(num_keys, 64, largest_bytes=limit)
        except ConfigError:
            break
        index, _ = build_index(keys, num_keys, IndexKind.AUTO, plan=plan)
        assert index.serialized().nbytes <= limit
    assert capfd.readouterr() == ("", "")


def test_too_little_memory_is_refused_with_what_is_needed() -> None:
    with pytest.raises(
        ConfigError, match=r"max_index_memory_usage must be at least \d+"
    ) as refused:
        plan_within(NUM_KEYS, WIDTH, largest_bytes=1000)
    needed = int(str(refused.value).split("at least ")[1].split()[0])
    assert plan_within(NUM_KEYS, WIDTH, largest_bytes=needed).code_bytes == 1
    with pytest.raises(ConfigError):
        plan_within(NUM_KEYS, WIDTH, largest_bytes=needed - 1)

    with pytest.raises(
        ConfigError, match=r"current_memory_available must be at least \d+"
    ) as refused:
        plan_within(NUM_KEYS, WIDTH, available_bytes=1000)
    needed = int(str(refused.value).split("at least ")[1].split()[0])
    assert plan_within(NUM_KEYS, WIDTH, available_bytes=needed)
    with pytest.raises(ConfigError):
        plan_within(NUM_KEYS, WIDTH, available_bytes=needed - 1)


def test_available_memory_bounds_what_is_held_at_once(keys: ArrayKeys) -> None:
    free = plan_within(100_000, WIDTH)
    available = 2 * free.index_bytes + 1_000_000

    plan = plan_within(100_000, WIDTH, available_bytes=available)

    assert plan.code is KeyCode.FULL
    assert 2 * plan.num_training * WIDTH * 4 <= 1_000_000 < 2 * free.num_training * WIDTH * 4
    assert plan.keys_per_block * WIDTH * 4 <= 1_000_000 < free.keys_per_block * WIDTH * 4
    # Building keeps to the plan.
    small = plan_within(NUM_KEYS, WIDTH, largest_bytes=FULL_BYTES // 2, available_bytes=350_000)
    asked: list[int] = []

    class CountingKeys(ArrayKeys):
        def blocks(self, start: int, stop: int, size: int):  # type: ignore[no-untyped-def]
            asked.append(size)
            return super().blocks(start, stop, size)

    build_index(CountingKeys(keys.keys_NZ), NUM_KEYS, IndexKind.AUTO, plan=small)
    assert asked[0] == small.keys_per_block < NUM_KEYS
