"""Filters keep exactly the tokens they promise, for a whole batch."""

import pytest
import torch

from retro.errors import ConfigError
from retro.retro_pytorch.filters import tempered, top_k, top_p

# Probabilities 0.4, 0.3, 0.2, 0.1 in two orders.
LOGITS = torch.tensor([[0.2, 0.4, 0.1, 0.3], [0.1, 0.2, 0.3, 0.4]]).log()


def kept(logits: torch.Tensor) -> list[list[int]]:
    return [row.isfinite().nonzero().flatten().tolist() for row in logits]


@pytest.mark.parametrize(
    ("thres", "expected"),
    [
        (0.1, [[1], [3]]),
        (0.5, [[1, 3], [2, 3]]),
        (0.75, [[0, 1, 3], [1, 2, 3]]),
        (1, [[0, 1, 2, 3], [0, 1, 2, 3]]),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_the_mass(
    thres: float, expected: list[list[int]]
) -> None:
    filtered = top_p(LOGITS, thres=thres)

    assert kept(filtered) == expected
    assert torch.equal(filtered[filtered.isfinite()], LOGITS[filtered.isfinite()])


def test_nine_tenths_keep_nine_tenths() -> None:
    # RETRO-pytorch kept what exceeds a tenth: a single token here.
    logits = torch.full((1, 100), 0.01).log()

    assert top_p(logits, thres=0.9).isfinite().sum() == pytest.approx(90, abs=1)


@pytest.mark.parametrize(("thres", "count"), [(1, 1), (3, 3), (3.0, 3), (9, 4)])
def test_top_k_keeps_that_many(thres: float, count: int) -> None:
    assert [len(row) for row in kept(top_k(LOGITS, thres=thres))] == [count, count]
    assert kept(top_k(LOGITS, thres=1)) == [[1], [3]]


def test_of_equal_tokens_the_first_are_kept() -> None:
    assert kept(top_k(torch.zeros(1, 5), thres=2)) == [[0, 1]]


@pytest.mark.parametrize("thres", [0.9, 0, -1, True])
def test_top_k_takes_a_number_of_tokens(thres: float) -> None:
    with pytest.raises(ConfigError, match=r"whole number of tokens.*filter_fn=top_p"):
        top_k(LOGITS, thres=thres)


@pytest.mark.parametrize("thres", [0, -0.1, 1.1, 40])
def test_top_p_takes_a_probability(thres: float) -> None:
    with pytest.raises(ConfigError, match=r"above 0 and at most 1.*filter_fn=top_k"):
        top_p(LOGITS, thres=thres)


def test_temperature_zero_leaves_the_likeliest_alone() -> None:
    assert kept(tempered(LOGITS, 0)) == [[1], [3]]
