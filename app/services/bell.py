"""Wakes what waits in event loops, from any thread."""

import asyncio
import contextlib
import threading


class Bell:
    """Rings for all that wait for it, in whatever event loop.

    A ring costs the one who rings a message to each loop, however many wait there, and next to
    nothing where nobody waits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rings = 0
        self._waiting: dict[asyncio.AbstractEventLoop, set[asyncio.Future[None]]] = {}

    @property
    def rings(self) -> int:
        """How often it rang so far."""
        return self._rings

    def ring(self) -> None:
        """Wake all that wait."""
        with self._lock:
            self._rings += 1
            waiting, self._waiting = self._waiting, {}
        for loop, sleepers in waiting.items():
            # A loop that was closed has nobody left to wake.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_wake, sleepers)

    async def wait(self, rings: int, timeout_s: float | None = None) -> None:
        """Wait until it has rung another number of times than ``rings``.

        Args:
            rings: What ``rings`` was when the state of things was looked at.
            timeout_s: Most seconds to wait; None is for ever.
        """
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._rings != rings:
                return
            self._waiting.setdefault(loop, set()).add(sleeper)
        try:
            await asyncio.wait((sleeper,), timeout=timeout_s)
        finally:
            with self._lock:
                self._waiting.get(loop, set()).discard(sleeper)


def _wake(sleepers: set[asyncio.Future[None]]) -> None:
    for sleeper in sleepers:
        if not sleeper.done():
            sleeper.set_result(None)
