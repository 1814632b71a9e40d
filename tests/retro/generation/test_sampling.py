"""Sampling keeps exactly the tokens its settings promise."""

import pytest
import torch

from retro.config import SamplingConfig
from retro.generation.sampling import filtered_probabilities, sample

# Probabilities 0.4, 0.3, 0.2, 0.1 in an order that is not sorted.
PROBABILITIES = torch.tensor([0.2, 0.4, 0.1, 0.3])
LOGITS = PROBABILITIES.log()


def config(**changes: object) -> SamplingConfig:
    return SamplingConfig(**{"temperature": 1.0, "top_p": 1.0, **changes})  # type: ignore[arg-type]


def test_without_filters_the_probabilities_are_those_of_the_model() -> None:
    torch.testing.assert_close(filtered_probabilities(LOGITS, config()), PROBABILITIES)


def test_temperature_zero_is_argmax() -> None:
    assert filtered_probabilities(LOGITS, config(temperature=0)).tolist() == [0, 1, 0, 0]


def test_temperature_sharpens() -> None:
    squared = PROBABILITIES**2

    found = filtered_probabilities(LOGITS, config(temperature=0.5))

    torch.testing.assert_close(found, squared / squared.sum())


@pytest.mark.parametrize("temperature", [1e-30, 1e-5, 100.0])
def test_extreme_temperatures_stay_finite(temperature: float) -> None:
    found = filtered_probabilities(LOGITS * 50, config(temperature=temperature))

    assert torch.isfinite(found).all()
    assert found.sum().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("top_k", "kept"), [(1, [1]), (2, [1, 3]), (3, [0, 1, 3]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])]
)
def test_top_k_keeps_that_many(top_k: int, kept: list[int]) -> None:
    found = filtered_probabilities(LOGITS, config(top_k=top_k))

    assert found.nonzero().flatten().tolist() == kept
    assert found.sum().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (0.05, [1]),
        (0.39, [1]),
        (0.41, [1, 3]),
        (0.69, [1, 3]),
        (0.71, [0, 1, 3]),
        (0.95, [0, 1, 2, 3]),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float, kept: list[int]) -> None:
    assert filtered_probabilities(LOGITS, config(top_p=top_p)).nonzero().flatten().tolist() == kept


def test_top_p_counts_the_mass_of_what_top_k_left() -> None:
    # After top_k=2 the two tokens have 4/7 and 3/7; the first alone reaches 0.55.
    found = filtered_probabilities(LOGITS, config(top_k=2, top_p=0.55))

    assert found.nonzero().flatten().tolist() == [1]


def test_a_seed_repeats_and_frequencies_follow_the_probabilities() -> None:
    def draw(seed: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        return [sample(LOGITS, config(), generator) for _ in range(4000)]

    drawn = draw(1)

    assert drawn == draw(1)
    assert drawn != draw(2)
    frequencies = torch.bincount(torch.tensor(drawn), minlength=4) / len(drawn)
    # Four standard deviations of a share of 4,000 draws.
    torch.testing.assert_close(frequencies, PROBABILITIES, rtol=0, atol=4 * (0.25 / 4000) ** 0.5)


def test_forbidden_tokens_are_never_drawn() -> None:
    logits = LOGITS.clone()
    logits[1] = float("-inf")
    generator = torch.Generator().manual_seed(0)

    assert 1 not in {sample(logits, config(), generator) for _ in range(200)}
