"""Drawing the next token.

Shape suffixes: V vocabulary.
"""

import torch
from torch import Tensor

from retro.config import SamplingConfig
from retro.model.sampling import tempered, top_k, top_p


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
    logits_V = tempered(logits_V, config.temperature)
    if config.top_k > 0:
        logits_V = top_k(logits_V, config.top_k)
    return top_p(logits_V, config.top_p).softmax(-1)


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
