"""What the scores of neighbors mean, and what finds chunks by them.

Shape suffixes: N queries, M tokens per chunk, K neighbors, X excluded ranges. A trailing 2 is
(first chunk id, id after the last).
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A number by which neighbors are ordered."""

    name: str
    """What people call it, such as ``squared L2 distance``."""

    is_lower_nearer: bool
    """Whether the nearest neighbor has the lowest score rather than the highest."""

    lowest: float
    """No neighbor has a lower one."""

    @property
    def missing(self) -> float:
        """Score where there is no neighbor: further away than every other."""
        return math.inf if self.is_lower_nearer else -math.inf

    @property
    def nearer(self) -> str:
        """Word for the direction in which neighbors are nearer."""
        return "lower" if self.is_lower_nearer else "higher"


SQUARED_L2 = Score(name="squared L2 distance", is_lower_nearer=True, lowest=0.0)
"""Between the keys of two chunks."""


class ChunkSearch(Protocol):
    """Finds the nearest chunks of one corpus."""

    @property
    def score(self) -> Score:
        """What it orders chunks by."""
        ...

    def nearest(
        self, chunks_NM: NDArray[np.int32], num_neighbors: int, excluded_X2: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the nearest retrievable chunks, the nearest first.

        Args:
            chunks_NM: Token ids, (chunks, tokens).
            num_neighbors: Neighbors per chunk.
            excluded_X2: Ranges of ids that are not found, (ranges, 2).

        Returns:
            Ids, (chunks, num_neighbors), -1 where there is no further one, and their scores,
            ``Score.missing`` there.
        """
        ...
