"""Run lengths agree with their definition, tried out naively."""

import random

import pytest

from retro.generation.overlap import copied_fraction, run_lengths


def naive_run_lengths(tokens: list[int], sources: list[list[int]]) -> list[int]:
    def occurs(run: list[int]) -> bool:
        return any(
            source[i : i + len(run)] == run for source in sources for i in range(len(source))
        )

    return [
        max((n for n in range(1, end + 1) if occurs(tokens[end - n : end])), default=0)
        for end in range(1, len(tokens) + 1)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_runs_are_the_longest_that_end_at_the_token(seed: int) -> None:
    rng = random.Random(seed)
    tokens = [rng.randint(1, 3) for _ in range(20)]
    sources = [[rng.randint(1, 3) for _ in range(rng.randint(0, 30))] for _ in range(2)]

    assert run_lengths(tokens, sources) == naive_run_lengths(tokens, sources)


def test_a_run_may_not_join_two_sources() -> None:
    assert run_lengths([1, 2, 3, 4], [[1, 2], [3, 4]]) == [1, 2, 1, 2]


def test_nothing_shared_and_nothing_to_share_with() -> None:
    assert run_lengths([1, 2], [[3]]) == [0, 0]
    assert run_lengths([1, 2], []) == [0, 0]
    assert run_lengths([], [[1]]) == []


def test_copied_tokens_are_whole_runs_of_five_or_more() -> None:
    assert copied_fraction([0, 1, 2, 3, 4, 5, 0, 1, 2, 3]) == 0.5
    assert copied_fraction([1, 2, 3, 4]) == 0.0
    assert copied_fraction([]) == 0.0
