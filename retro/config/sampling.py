"""Settings of a text."""

from dataclasses import asdict, dataclass
from typing import Any

from retro.config.checks import (
    LARGEST_INTEGER,
    MOST_NEIGHBORS,
    check_flag,
    check_integer,
    check_number,
    check_texts,
)

MOST_STOPS = 16
LONGEST_STOP = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How the next token is drawn."""

    max_new_tokens: int = 192
    """Most tokens to write."""

    temperature: float = 0.8
    """Divides the logits; 0 always takes the likeliest token."""

    top_k: int = 0
    """Draw from this many likeliest tokens only; 0 is all."""

    top_p: float = 0.95
    """Draw from the smallest set of likeliest tokens that reaches this probability."""

    min_p: float = 0.0
    """Draw from tokens that are at least this share as likely as the likeliest one."""

    repetition_penalty: float = 1.0
    """Makes tokens that are in the text already less likely; 1 leaves them as they are."""

    stop: tuple[str, ...] = ()
    """The text ends in front of the first of these that would appear in it."""

    seed: int = 0
    """The same seed and settings write the same text."""

    num_samples: int = 1
    """Texts written side by side; the one with number s is that of ``seed + s``."""

    num_neighbors: int = 2
    """Neighbors read for each chunk."""

    fast: bool = False
    """Read single tokens with weights of 8 bits: faster on a CPU, and the text may differ."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        check_integer(self, "max_new_tokens", 1, 100_000)
        check_number(self, "temperature", 0.0, 100.0)
        check_integer(self, "top_k", 0, 10_000_000)
        check_number(self, "top_p", 0.0, 1.0, above_minimum=True)
        check_number(self, "min_p", 0.0, 1.0)
        check_number(self, "repetition_penalty", 0.1, 10.0)
        check_texts(self, "stop", MOST_STOPS, LONGEST_STOP)
        check_flag(self, "fast")
        check_integer(self, "seed", 0, LARGEST_INTEGER)
        check_integer(self, "num_samples", 1, 16)
        check_integer(self, "num_neighbors", 1, MOST_NEIGHBORS)


OF_PRETRAINED = {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.05}
"""Chosen by looking at texts of 135 M parameters: with the others it repeats itself, and with a
larger penalty it leaves the form of what it reads."""


def defaults_of(is_pretrained: bool) -> dict[str, Any]:
    """Return the settings of a text where nobody chooses any.

    Args:
        is_pretrained: Whether a pretrained model writes, rather than one trained from scratch.
    """
    return {**asdict(SamplingConfig()), **(OF_PRETRAINED if is_pretrained else {})}
