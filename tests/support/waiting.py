"""Waiting for what happens in other threads and processes."""

import time
from collections.abc import Callable

PATIENCE_S = 120.0
"""Longer than anything takes on a busy machine."""


def wait_until(
    condition: Callable[[], object],
    *,
    every_s: float = 0.02,
    patience_s: float = PATIENCE_S,
    meanwhile: Callable[[], object] = lambda: None,
) -> None:
    """Wait until something is true, and fail if it does not come true.

    Args:
        condition: What to wait for.
        every_s: How often it is looked at, seconds.
        patience_s: Longest wait, seconds.
        meanwhile: Called before every wait.
    """
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen in {patience_s:g} seconds"
        meanwhile()
        time.sleep(every_s)
