"""Counts those who wait or read, and turns away those that would be too many."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import TooManyError


class Seats:
    """A number of seats; whoever waits takes one, and gives it back however it ends.

    Args:
        most: Seats in all.
        what: What those who sit there do, for people, as in "200 readers may follow texts".
        next_step: What one who is turned away can do.
    """

    def __init__(self, most: int, what: str, next_step: str) -> None:
        self._most = most
        self._what = what
        self._next_step = next_step
        self._lock = threading.Lock()
        self._taken = 0

    @property
    def taken(self) -> int:
        """How many are taken."""
        return self._taken

    @contextmanager
    def take(self) -> Iterator[None]:
        """Have a seat meanwhile.

        Raises:
            TooManyError: All are taken.
        """
        with self._lock:
            if self._taken >= self._most:
                raise TooManyError(
                    f"At most {self._most} {self._what} at once, and as many do. {self._next_step}"
                )
            self._taken += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken -= 1
