"""What a written chunk shares with the neighbors it was written from.

Source: Borgeaud et al., arXiv:2112.04426, section 4.4 and the sample tables of its appendix.
"""

from collections.abc import Sequence

import numpy as np

COPIED_RUN = 5
"""Shortest run of tokens that counts as copied."""


def run_lengths(tokens: Sequence[int], sources: Sequence[Sequence[int]]) -> list[int]:
    """Return, for each token, the longest run ending at it that also occurs in a source.

    Args:
        tokens: Token ids of a chunk.
        sources: Token ids of what it is compared with, without padding.

    Returns:
        Run lengths in tokens; 0 where the token occurs in no source.
    """
    longest = np.zeros(len(tokens), dtype=np.int64)
    for source in sources:
        array = np.asarray(source, dtype=np.int64)
        # ending[j]: length of the common run that ends at the token before and source[j - 1].
        ending = np.zeros(len(array) + 1, dtype=np.int64)
        for i, token in enumerate(tokens):
            ending[1:] = np.where(array == token, ending[:-1] + 1, 0)
            longest[i] = max(longest[i], ending.max(initial=0))
    return [int(length) for length in longest]


def copied_fraction(runs: Sequence[int]) -> float:
    """Return the share of tokens that lie in runs of at least ``COPIED_RUN`` tokens."""
    if not runs:
        return 0.0
    copied = np.zeros(len(runs), dtype=bool)
    for i, run in enumerate(runs):
        if run >= COPIED_RUN:
            copied[i + 1 - run : i + 1] = True
    return float(copied.mean())
