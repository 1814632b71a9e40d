"""Which tokens may be drawn: filters on logits.

Shape suffixes: V vocabulary. Dimensions in front of it are kept.
"""

import torch
from torch import Tensor

from retro.errors import ConfigError

FORBIDDEN = float("-inf")
"""Logit of a token that is never drawn."""


def tempered(logits_V: Tensor, temperature: float) -> Tensor:
    """Return logits divided by the temperature; 0 leaves the likeliest token alone."""
    logits_V = logits_V.float()
    if temperature == 0:
        best_V = logits_V.argmax(-1, keepdim=True)
        return torch.full_like(logits_V, FORBIDDEN).scatter(-1, best_V, 0.0)
    # Subtracting the maximum first keeps tiny temperatures from overflowing.
    return (logits_V - logits_V.amax(-1, keepdim=True)) / temperature


def top_k(logits: Tensor, thres: float) -> Tensor:
    """Keep a number of likeliest tokens.

    Args:
        logits: Logits, (batch, vocabulary).
        thres: How many tokens, a whole number.

    Returns:
        Logits, -inf for all other tokens; of equal ones the lower ids are kept.

    Raises:
        ConfigError: ``thres`` is no whole number of tokens.
    """
    if isinstance(thres, bool) or thres != int(thres) or thres < 1:
        raise ConfigError(
            f"filter_thres of top_k must be a whole number of tokens, at least 1, got {thres!r}. "
            f"For a share of the probability choose filter_fn=top_p."
        )
    order_V = logits.sort(dim=-1, descending=True, stable=True).indices[..., : int(thres)]
    kept_V = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order_V, True)
    return logits.masked_fill(~kept_V, FORBIDDEN)


def top_p(logits: Tensor, thres: float = 0.9) -> Tensor:
    """Keep the smallest set of likeliest tokens whose probabilities reach a sum.

    Args:
        logits: Logits, (batch, vocabulary).
        thres: The sum, above 0 and at most 1; 1 keeps all.

    Returns:
        Logits, -inf for all other tokens.

    Raises:
        ConfigError: ``thres`` is outside its range.
    """
    if isinstance(thres, bool) or not 0 < thres <= 1:
        raise ConfigError(
            f"filter_thres of top_p must be above 0 and at most 1, got {thres!r}. "
            f"For a number of tokens choose filter_fn=top_k."
        )
    if thres == 1:
        return logits
    probability_V = logits.float().softmax(-1)
    sorted_V, order_V = probability_V.sort(dim=-1, descending=True, stable=True)
    kept_V = sorted_V.cumsum(-1) - sorted_V < thres
    kept_V = torch.zeros_like(kept_V).scatter(-1, order_V, kept_V)
    return logits.masked_fill(~kept_V, FORBIDDEN)
