"""Keeps strangers from filling the log: lines that they can cause at will come rarely."""

import logging
import time
from collections.abc import Callable

STRANGERS = ("uvicorn.error", "asyncio")
"""Loggers that write a line for what anyone may send."""
MOST_KINDS = 1_000


class AtMostEvery:
    """Allows one line of a kind in a while, and counts those that are left out.

    Args:
        window_s: The while, seconds.
        clock: Seconds that only grow.
    """

    def __init__(self, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s = window_s
        self._clock = clock
        self._last: dict[str, tuple[float, int]] = {}

    def allows(self, kind: str) -> int | None:
        """Return how many lines were left out since the last one, None if this one is, too."""
        at, left_out = self._last.get(kind, (float("-inf"), 0))
        now = self._clock()
        if now - at < self._window_s:
            self._last[kind] = (at, left_out + 1)
            return None
        if len(self._last) >= MOST_KINDS:
            self._last.clear()
        self._last[kind] = (now, 0)
        return left_out


class RareLines(logging.Filter):
    """Lets a line of the web server through once in a while, whatever is sent to it."""

    def __init__(self, window_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._lines = AtMostEvery(window_s, clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is written."""
        if record.name not in STRANGERS:
            return True
        left_out = self._lines.allows(f"{record.name} {record.msg}")
        if left_out:
            record.msg = f"{record.msg} (and {left_out:,} lines like it before)"
        return left_out is not None
