"""Drawing the next token.

In NumPy: for one token of a text, calling torch costs more than the work.

Shape suffixes: V vocabulary.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retro.config.sampling import SamplingConfig

DRAWS_PER_BLOCK = 64
BLOCK = 64
TINIEST_TEMPERATURE = 1e-30
"""Smaller ones are no different, but divide to infinity."""


class Draws:
    """Random numbers by position: the same seed gives the same number at the same place.

    So a text that was branched or continued goes on as if it had been written at once, and two
    branches differ only by what was changed between them.

    Args:
        seed: Whole number from 0 on.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._block = -1
        self._numbers = np.empty(0)

    def at(self, position: int) -> float:
        """Return a number from 0 up to, but not including, 1."""
        block, place = divmod(position, DRAWS_PER_BLOCK)
        if block != self._block:
            # Counters of two blocks are far apart, so that no number is used twice.
            randomness = np.random.Philox(key=self._seed, counter=[0, 0, block, 0])
            self._numbers = np.random.Generator(randomness).random(DRAWS_PER_BLOCK)
            self._block = block
        return float(self._numbers[place])


@dataclass(frozen=True, slots=True)
class Candidates:
    """The tokens that may be drawn."""

    ids_N: NDArray[np.int64]
    """Their ids, rising."""
    probability_N: NDArray[np.float64]
    """Their probabilities, which sum to one."""

    def draw(self, number: float) -> int:
        """Return the token at a place between 0 and 1 of the probabilities laid side by side."""
        place = int(np.searchsorted(self.probability_N.cumsum(), number, side="right"))
        return int(self.ids_N[min(place, len(self.ids_N) - 1)])


def candidates(
    logits_V: NDArray[np.float32],
    config: SamplingConfig,
    seen_V: NDArray[np.bool_] | None = None,
) -> Candidates:
    """Return the tokens that may be drawn, and how likely each is.

    First the repetition penalty (arXiv:1909.05858: logits of seen tokens are divided by it
    where positive, multiplied where negative), then temperature, the ``top_k`` likeliest tokens,
    the smallest set of likeliest tokens that reaches ``top_p``, and the tokens that are at least
    ``min_p`` times as likely as the likeliest (arXiv:2407.01082). Temperature 0 leaves the
    likeliest token alone. Of equally likely tokens the lower ids are kept.

    Args:
        logits_V: Logits, (vocabulary,); -inf where a token must not be drawn.
        config: Settings.
        seen_V: True for tokens that are in the text already, for the repetition penalty.
    """
    if seen_V is not None and config.repetition_penalty != 1:
        penalty = np.float32(config.repetition_penalty)
        weaker_V = np.where(logits_V > 0, logits_V / penalty, logits_V * penalty)
        logits_V = np.where(seen_V, weaker_V, logits_V)
    best = int(logits_V.argmax())
    if config.temperature == 0:
        return Candidates(np.array([best]), np.array([1.0]))
    with np.errstate(over="ignore"):
        # Subtracting the maximum first keeps tiny temperatures from overflowing.
        gap_V = (logits_V[best] - logits_V) / max(config.temperature, TINIEST_TEMPERATURE)
    weight_V = np.exp(-gap_V)
    ids_N = _likeliest(weight_V, config)
    if config.min_p > 0:
        ids_N = ids_N[weight_V[ids_N] >= np.float32(config.min_p)]
    probability_N = weight_V[ids_N].astype(np.float64)
    return Candidates(ids_N, probability_N / probability_N.sum())


def _likeliest(weight_V: NDArray[np.float32], config: SamplingConfig) -> NDArray[np.int64]:
    """Return the ids that ``top_k`` and ``top_p`` leave, rising, without impossible ones."""
    number = min(config.top_k or len(weight_V), len(weight_V))
    if config.top_p == 1 and number == len(weight_V):
        return np.flatnonzero(weight_V)
    falling_N = np.sort(weight_V)[::-1][:number]
    number = _reaching(falling_N, config.top_p)
    border = falling_N[number - 1]
    ids_N = np.flatnonzero(weight_V >= border)
    if len(ids_N) > number:
        above_N = np.flatnonzero(weight_V > border)
        equal_N = np.flatnonzero(weight_V == border)[: number - len(above_N)]
        ids_N = np.sort(np.concatenate((above_N, equal_N)))
    return ids_N if border > 0 else ids_N[weight_V[ids_N] > 0]


def _reaching(falling_N: NDArray[np.float32], share: float) -> int:
    """Return how many of the first numbers reach a share of the whole sum."""
    # Sums of blocks first: adding up one after the other is what takes the time.
    blocks_J = np.add.reduceat(falling_N, range(0, len(falling_N), BLOCK), dtype=np.float64)
    sums_J = blocks_J.cumsum()
    wanted = share * sums_J[-1]
    block = min(int(np.searchsorted(sums_J, wanted)), len(sums_J) - 1)
    inner_N = falling_N[block * BLOCK : (block + 1) * BLOCK].cumsum(dtype=np.float64)
    before = sums_J[block] - inner_N[-1]
    # Rounding may put the last sum below its share of 1.
    return block * BLOCK + min(int(np.searchsorted(inner_N, wanted - before)) + 1, len(inner_N))


def logprob(logits_V: NDArray[np.float32], token: int) -> float:
    """Return the log-probability of a token in nats, with no setting applied."""
    highest = logits_V.max()
    total = np.exp(logits_V - highest).sum(dtype=np.float64)
    return float(np.float64(logits_V[token]) - np.float64(highest) - np.log(total))
