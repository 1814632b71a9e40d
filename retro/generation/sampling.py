"""Drawing the next token.

Shape suffixes: V vocabulary.
"""

import torch
from torch import Tensor

from retro.config import SamplingConfig


def filtered_probabilities(logits_V: Tensor, config: SamplingConfig) -> Tensor:
    """Return the probabilities a token is drawn from.

    Temperature first, then the ``top_k`` likeliest tokens, then the smallest set of likeliest
    tokens that reaches ``top_p``. Temperature 0 leaves the likeliest token alone.

    Args:
        logits_V: Logits, (vocabulary,).
        config: Settings.

    Returns:
        Probabilities, (vocabulary,), float32, which sum to one.
    """
    logits_V = logits_V.float()
    if config.temperature == 0:
        return torch.zeros_like(logits_V).scatter(0, logits_V.argmax(keepdim=True), 1.0)
    # Subtracting the maximum first keeps tiny temperatures from overflowing.
    probability_V = torch.softmax((logits_V - logits_V.max()) / config.temperature, -1)
    sorted_V, order_V = probability_V.sort(descending=True, stable=True)
    kept_V = torch.ones_like(sorted_V, dtype=torch.bool)
    if 0 < config.top_k < len(kept_V):
        kept_V[config.top_k :] = False
        sorted_V = torch.where(kept_V, sorted_V, 0.0)
        sorted_V = sorted_V / sorted_V.sum()
    if config.top_p < 1:
        kept_V &= sorted_V.cumsum(0) - sorted_V < config.top_p
    sorted_V = torch.where(kept_V, sorted_V, 0.0)
    return torch.zeros_like(probability_V).scatter(0, order_V, sorted_V / sorted_V.sum())


def sample(logits_V: Tensor, config: SamplingConfig, generator: torch.Generator) -> int:
    """Draw a token.

    Args:
        logits_V: Logits on the CPU, (vocabulary,); -inf where a token must not be drawn.
        config: Settings.
        generator: Source of randomness; its state advances by one draw.

    Returns:
        Token id.
    """
    probability_V = filtered_probabilities(logits_V, config)
    return int(torch.multinomial(probability_V, 1, generator=generator))
