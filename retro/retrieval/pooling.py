"""How the states of an encoder become one vector per row.

Shape suffixes: N rows, T tokens, Z width. A trailing 1 is broadcast over the width.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

TINY = 1e-30
"""Keeps the mean over no tokens at all zero instead of undefined."""

Pool = Callable[[Tensor, Tensor], Tensor]
"""Makes vectors, (rows, width), of states, (rows, tokens, width), and where tokens exist."""


def first_state(states_NTZ: Tensor, exists_NT: Tensor) -> Tensor:  # noqa: ARG001  # a Pool
    """Return the state of the first token."""
    return states_NTZ[:, 0]


def mean_of_others(eps: float) -> Pool:
    """Return a pool that takes the mean over the tokens that exist, without the first."""

    def pool(states_NTZ: Tensor, exists_NT: Tensor) -> Tensor:
        others_NT1 = exists_NT[:, 1:, None].float()
        return (states_NTZ[:, 1:] * others_NT1).sum(1) / (others_NT1.sum(1) + max(eps, TINY))

    return pool


def row_lengths(exists_NT: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the tokens of each row up to the last that exists, at least one."""
    after_NT = np.where(exists_NT, np.arange(1, exists_NT.shape[1] + 1), 1)
    lengths_N: NDArray[np.int64] = after_NT.max(axis=1, initial=1)
    return lengths_N
