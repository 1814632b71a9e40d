"""The comparison of losses with and without neighbors, and what the benchmarks print."""

import numpy as np

from bench.pretrained import Losses


def test_a_change_has_an_interval_that_holds_it() -> None:
    off = np.array([100.0, 200.0, 300.0, 150.0])
    losses = Losses(off=off, on=off * [0.8, 0.9, 0.85, 0.7], shuffled=off, num_bytes=1000)

    change = losses.change(losses.on)

    value, low, high = (float(part.strip("[],%")) for part in change.split() if part.strip("[],%"))
    assert value == -17.3
    assert -30 <= low <= value <= high <= -10
    assert losses.change(losses.shuffled).startswith("+0.0 %")
