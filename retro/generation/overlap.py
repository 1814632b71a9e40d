"""What a written chunk shares with the neighbors it was written from.

Source: Borgeaud et al., arXiv:2112.04426, section 4.4 and the sample tables of its appendix.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

COPIED_RUN = 5
"""Shortest run of tokens that counts as copied."""
MOST_PLACES = 8
"""Places of one run that are kept; a frequent word is everywhere."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run occurs in a source."""

    source: int
    """Position of the source, from 0."""
    start: int
    """First token of the run in the source."""


@dataclass(frozen=True, slots=True)
class SharedRun:
    """A run of tokens that occurs in a source and cannot be made longer at either end."""

    start: int
    """First token of the run in the chunk."""
    end: int
    """Token after its last one."""
    places: tuple[Place, ...]
    """The first places where it occurs, by source and position."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; sources are given by rank, from 1."""
        places = [{"rank": place.source + 1, "start": place.start} for place in self.places]
        return {"start": self.start, "end": self.end, "places": places}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SharedRun":
        """Undo ``to_dict``."""
        places = (Place(place["rank"] - 1, place["start"]) for place in values["places"])
        return cls(values["start"], values["end"], tuple(places))


class RunTracker:
    """Compares a chunk with its sources token by token, as it is written.

    Args:
        sources: Token ids of what the chunk is compared with, without padding.
    """

    def __init__(self, sources: Sequence[Sequence[int]]) -> None:
        self.lengths: list[int] = []
        """For each token so far, the longest run ending at it that occurs in a source."""
        self._sources = [np.asarray(source, dtype=np.int64) for source in sources]
        # ending[j]: length of the common run that ends at the newest token and source[j - 1].
        self._ending = [np.zeros(len(source) + 1, dtype=np.int64) for source in self._sources]
        self._runs: list[SharedRun] = []

    def add(self, token: int) -> int:
        """Take the next token of the chunk; return the length of the longest run ending there."""
        before = self._ending
        self._ending = []
        length = 0
        for source, ending in zip(self._sources, before, strict=True):
            longer = np.zeros_like(ending)
            (places,) = (source == token).nonzero()
            if len(places):
                longer[places + 1] = ending[places] + 1
                length = max(length, int(longer.max()))
            self._ending.append(longer)
        if self.lengths and length != self.lengths[-1] + 1:
            self._close(before)
        self.lengths.append(length)
        return length

    def runs(self) -> list[SharedRun]:
        """Return the runs of the tokens so far that cannot be made longer, by position."""
        kept = len(self._runs)
        self._close(self._ending)
        found = list(self._runs)
        del self._runs[kept:]
        return found

    def _close(self, endings: Sequence[NDArray[np.int64]]) -> None:
        """Keep the run that ends at the newest token."""
        length = self.lengths[-1] if self.lengths else 0
        if length == 0:
            return
        places = [
            Place(source, int(end) - length)
            for source, ending in enumerate(endings)
            for end in np.flatnonzero(ending == length)[:MOST_PLACES]
        ]
        stop = len(self.lengths)
        self._runs.append(SharedRun(stop - length, stop, tuple(places[:MOST_PLACES])))


def run_lengths(tokens: Sequence[int], sources: Sequence[Sequence[int]]) -> list[int]:
    """Return, for each token, the longest run ending at it that also occurs in a source.

    Args:
        tokens: Token ids of a chunk.
        sources: Token ids of what it is compared with, without padding.

    Returns:
        Run lengths in tokens; 0 where the token occurs in no source.
    """
    tracker = RunTracker(sources)
    for token in tokens:
        tracker.add(token)
    return tracker.lengths


def copied_fraction(runs: Sequence[int]) -> float:
    """Return the share of tokens that lie in runs of at least ``COPIED_RUN`` tokens."""
    if not runs:
        return 0.0
    copied = np.zeros(len(runs), dtype=bool)
    for i, run in enumerate(runs):
        if run >= COPIED_RUN:
            copied[i + 1 - run : i + 1] = True
    return float(copied.mean())
