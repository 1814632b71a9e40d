"""How a stage reports its progress to its caller."""

from typing import Protocol


class Progress(Protocol):
    """A callback for progress; it may raise to stop the work."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note that ``done`` of ``total`` units of ``stage`` are finished."""


def no_progress(stage: str, done: int, total: int) -> None:  # the protocol's names
    """Ignore progress."""
