"""Run lengths agree with their definition, tried out naively."""

import random

import pytest

from retro.generation.overlap import (
    MOST_PLACES,
    Place,
    RunTracker,
    SharedRun,
    copied_fraction,
    run_lengths,
)


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


def naive_runs(tokens: list[int], sources: list[list[int]]) -> list[SharedRun]:
    """Return the longest runs that end at a token, without those that go on with the next."""
    lengths = [*naive_run_lengths(tokens, sources), 0]
    found = []
    for end in range(1, len(tokens) + 1):
        length = lengths[end - 1]
        if length == 0 or lengths[end] == length + 1:
            continue
        run = tokens[end - length : end]
        places = [
            Place(number, start)
            for number, source in enumerate(sources)
            for start in range(len(source))
            if source[start : start + length] == run
        ]
        found.append(SharedRun(end - length, end, tuple(places[:MOST_PLACES])))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_runs_are_told_at_any_time_with_the_first_places(seed: int) -> None:
    rng = random.Random(seed)
    tokens = [rng.randint(1, 3) for _ in range(20)]
    sources = [[rng.randint(1, 3) for _ in range(rng.randint(0, 30))] for _ in range(2)]
    tracker = RunTracker(sources)

    for end, token in enumerate(tokens, start=1):
        tracker.add(token)
        assert tracker.runs() == naive_runs(tokens[:end], sources)


def test_a_source_is_told_by_its_rank() -> None:
    run = SharedRun(2, 4, (Place(0, 5), Place(1, 0)))

    assert run.to_dict() == {
        "start": 2,
        "end": 4,
        "places": [{"rank": 1, "start": 5}, {"rank": 2, "start": 0}],
    }


def test_nothing_shared_and_nothing_to_share_with() -> None:
    assert run_lengths([1, 2], [[3]]) == [0, 0]
    assert run_lengths([1, 2], []) == [0, 0]
    assert run_lengths([], [[1]]) == []


def test_copied_tokens_are_whole_runs_of_five_or_more() -> None:
    assert copied_fraction([0, 1, 2, 3, 4, 5, 0, 1, 2, 3]) == 0.5
    assert copied_fraction([1, 2, 3, 4]) == 0.0
    assert copied_fraction([]) == 0.0
