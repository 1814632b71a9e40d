"""Optimizer and learning-rate schedule."""

import math

import torch
from torch import nn

from retro.config import TrainingConfig


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices only.

    The groups list parameters in the order of ``model.named_parameters()``, which is the same
    in every process, so that loaded moments go to the weights they belong to. Embeddings,
    norms and gates have no decay.
    """
    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
    }
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for _, parameter in model.named_parameters():
        matrix = parameter.ndim >= 2 and id(parameter) not in embeddings
        (decayed if matrix else plain).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=True,
    )


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine to a final share.

    Args:
        step: Optimizer step, counted from 1.
        config: Peak, warm-up, length and final share.
    """
    peak = config.learning_rate
    if step <= config.warmup_steps:
        return peak * step / config.warmup_steps
    final = peak * config.final_learning_rate_fraction
    rest = max(1, config.max_steps - config.warmup_steps)
    progress = min(1.0, (step - config.warmup_steps) / rest)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress))
