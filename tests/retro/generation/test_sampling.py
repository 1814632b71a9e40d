"""Sampling keeps exactly the tokens its settings promise."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from retro.config.sampling import SamplingConfig
from retro.generation.finder import NOTHING
from retro.generation.sample import Sample
from retro.generation.sampling import Candidates, Draws, candidates, logprob
from retro.generation.writer import SampleWriter
from retro.retro_pytorch.filters import tempered, top_k, top_p
from tests.fakes import ByteTokenizer

# Probabilities in an order that is not sorted.
PROBABILITIES = np.array([0.2, 0.4, 0.1, 0.3])
LOGITS = np.log(PROBABILITIES).astype(np.float32)


def config(**changes: object) -> SamplingConfig:
    return SamplingConfig(**{"temperature": 1.0, "top_p": 1.0, **changes})  # type: ignore[arg-type]


def probabilities(
    logits: NDArray[np.float32], settings: SamplingConfig, *seen: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the probability of every token."""
    found = candidates(logits, settings, *seen)
    assert (np.diff(found.ids_N) > 0).all()
    everything = np.zeros(len(logits))
    everything[found.ids_N] = found.probability_N
    return everything


def kept(found: NDArray[np.float64]) -> list[int]:
    assert found.sum() == pytest.approx(1)
    return [int(id) for id in np.flatnonzero(found)]


def test_without_filters_the_probabilities_are_those_of_the_model() -> None:
    np.testing.assert_allclose(probabilities(LOGITS, config()), PROBABILITIES, rtol=1e-6)


def test_temperature_zero_is_argmax() -> None:
    assert probabilities(LOGITS, config(temperature=0)).tolist() == [0, 1, 0, 0]


def test_temperature_sharpens() -> None:
    squared = PROBABILITIES**2

    found = probabilities(LOGITS, config(temperature=0.5))

    np.testing.assert_allclose(found, squared / squared.sum(), rtol=1e-6)


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-30, 1e-5, 100.0])
def test_extreme_temperatures_stay_finite(temperature: float) -> None:
    found = probabilities(LOGITS * 50, config(temperature=temperature))

    assert np.isfinite(found).all()
    assert found.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("top_k", "expected"),
    [(1, [1]), (2, [1, 3]), (3, [0, 1, 3]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])],
)
def test_top_k_keeps_that_many(top_k: int, expected: list[int]) -> None:
    assert kept(probabilities(LOGITS, config(top_k=top_k))) == expected


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.05, [1]),
        (0.39, [1]),
        (0.41, [1, 3]),
        (0.69, [1, 3]),
        (0.71, [0, 1, 3]),
        (0.95, [0, 1, 2, 3]),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float, expected: list[int]) -> None:
    assert kept(probabilities(LOGITS, config(top_p=top_p))) == expected


def test_of_equally_likely_tokens_at_the_border_so_many_are_kept_as_there_is_room_for() -> None:
    logits = np.array([0, 1, 0, 0], dtype=np.float32)

    assert kept(probabilities(logits, config(top_k=2))) == [0, 1]
    assert kept(probabilities(logits, config(top_k=3))) == [0, 1, 2]


def test_a_number_at_a_border_takes_the_token_that_begins_there() -> None:
    tokens = Candidates(np.array([4, 7, 9]), np.array([0.5, 0.25, 0.25]))

    drawn = [tokens.draw(number) for number in (0.0, 0.49, 0.5, 0.74, 0.75, 1 - 2**-53)]

    assert drawn == [4, 4, 7, 7, 9, 9]
    # Rounding may leave the sum below the number.
    assert Candidates(np.array([4, 7]), np.array([0.5, 0.4999])).draw(1 - 2**-53) == 7


def test_top_p_counts_the_mass_of_what_top_k_left() -> None:
    # After top_k=2 the two tokens have 4/7 and 3/7; the first alone reaches 0.55.
    assert kept(probabilities(LOGITS, config(top_k=2, top_p=0.55))) == [1]


@pytest.mark.parametrize(
    ("min_p", "expected"), [(0.2, [0, 1, 2, 3]), (0.3, [0, 1, 3]), (0.74, [1, 3]), (1.0, [1])]
)
def test_min_p_compares_with_the_likeliest(min_p: float, expected: list[int]) -> None:
    assert kept(probabilities(LOGITS, config(min_p=min_p))) == expected


def test_of_equally_likely_tokens_the_lower_ids_are_kept() -> None:
    even = np.zeros(10, dtype=np.float32)

    assert kept(probabilities(even, config(top_k=3))) == [0, 1, 2]
    assert kept(probabilities(even, config(top_p=0.35))) == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(10))
def test_the_filters_are_those_of_the_model_module(seed: int) -> None:
    logits = torch.randn(500, generator=torch.Generator().manual_seed(seed))
    settings = config(temperature=0.7, top_k=200, top_p=0.9)

    found = probabilities(logits.numpy(), settings)

    reference = top_p(top_k(tempered(logits, 0.7)[None], 200), 0.9)[0].softmax(-1)
    np.testing.assert_allclose(found, reference.numpy(), atol=1e-6)
    assert 10 < len(kept(found)) < 200


def test_the_repetition_penalty_makes_seen_tokens_less_likely() -> None:
    logits = np.array([2.0, -2.0, 2.0, -2.0], dtype=np.float32)
    seen = np.array([True, True, False, False])

    found = np.log(probabilities(logits, config(repetition_penalty=2.0), seen))

    # Positive logits are divided, negative ones multiplied.
    np.testing.assert_allclose(found - found[2], [-1.0, -6.0, 0.0, -4.0], atol=1e-6)


def test_draws_depend_on_seed_and_position_alone() -> None:
    draws = Draws(7)
    forwards = [draws.at(position) for position in range(200)]

    assert [Draws(7).at(position) for position in (150, 3, 64, 63)] == [
        forwards[position] for position in (150, 3, 64, 63)
    ]
    assert len(set(forwards)) == 200
    assert forwards != [Draws(8).at(position) for position in range(200)]


def test_frequencies_follow_the_probabilities() -> None:
    draws = Draws(1)
    tokens = Candidates(np.arange(4), PROBABILITIES)
    drawn = [tokens.draw(draws.at(position)) for position in range(4000)]

    frequencies = np.bincount(drawn, minlength=4) / len(drawn)
    # Four standard deviations of a share of 4,000 draws.
    np.testing.assert_allclose(frequencies, PROBABILITIES, atol=4 * (0.25 / 4000) ** 0.5)


@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2**-53])
def test_forbidden_tokens_are_never_drawn(number: float) -> None:
    for forbidden in range(4):
        logits = LOGITS.copy()
        logits[forbidden] = -np.inf

        for settings in (config(), config(top_k=4), config(top_p=0.999)):
            found = candidates(logits, settings)
            assert found.draw(number) != forbidden
            # Not even where rounding leaves the sum of the others below the number.
            assert len(found.ids_N) == 3


def test_the_log_probability_is_that_before_all_settings() -> None:
    for token, probability in enumerate(PROBABILITIES):
        assert logprob(LOGITS * 1, token) == pytest.approx(np.log(probability), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_text_never_gets_the_token_that_is_ruled_out(temperature: float) -> None:
    sample = Sample(
        writer=SampleWriter(0, ByteTokenizer(), [], ()),
        draws=Draws(0),
        seen_V=None,
        found=NOTHING,
        logits_V=LOGITS.copy(),
        share_K2=None,
        other=None,
        other_logits_V=None,
    )

    for position in range(20):
        assert sample.draw(config(temperature=temperature), never=1) != 1
        sample.writer.tokens.append(position)

    # The log-probability of the token is told from the same logits.
    np.testing.assert_array_equal(sample.logits_V, LOGITS)
