"""A text that is still written: what the model says next, and what has been drawn.

Shape suffixes: K neighbors, V vocabulary.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retro.config.sampling import SamplingConfig
from retro.generation.events import FinishReason
from retro.generation.finder import Found
from retro.generation.reader import Reader
from retro.generation.sampling import Draws, candidates, logprob
from retro.generation.writer import SampleWriter, Share


@dataclass(kw_only=True, slots=True)
class Sample:
    """One of the texts that are written side by side."""

    writer: SampleWriter
    draws: Draws
    seen_V: NDArray[np.bool_] | None
    """Tokens that are in the text, where the repetition penalty asks."""
    found: Found
    """Neighbors of the last complete chunk."""
    logits_V: NDArray[np.float32]
    """What the model says after the last token."""
    share_K2: Share
    """Share of attention that each neighbor's text and continuation got there."""
    other: Reader | None
    """Reads the same tokens with retrieval the other way."""
    other_logits_V: NDArray[np.float32] | None
    """What it says after the tokens it has read."""
    reason: FinishReason | None = None
    """Why the text has ended; None while it goes on."""

    def draw(self, config: SamplingConfig, *, never: int) -> int:
        """Draw the next token.

        Args:
            config: Settings.
            never: A token that is not drawn; below 0 for none.
        """
        logits_V = self.logits_V.copy()
        if never >= 0:
            logits_V[never] = -np.inf
        number = self.draws.at(len(self.writer.tokens))
        return candidates(logits_V, config, self.seen_V).draw(number)

    def write(self, token: int) -> None:
        """Add a token to the text."""
        self.writer.write(token, logprob(self.logits_V, token), self.share_K2)
        if self.seen_V is not None:
            self.seen_V[token] = True
