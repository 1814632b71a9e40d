"""Numbers as people read them."""

import pytest

from app.format import number


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (-0.0001, "0.000"),
        (-0.0006, "-0.001"),
        (1e6, "1,000,000.000"),
    ],
)
def test_a_number_has_its_digits_and_a_zero_no_sign(value: float | None, shown: str) -> None:
    assert number(value, 3) == shown
