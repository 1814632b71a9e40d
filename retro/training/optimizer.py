"""Optimizer and learning-rate schedule."""

import math
from typing import Any

import torch
from torch import nn

from retro.config.training import TrainingConfig


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Return AdamW for all that is trainable, with weight decay on matrices only.

    See ``parameter_groups``.
    """
    return torch.optim.AdamW(
        parameter_groups(model, config.weight_decay, only_trainable=True),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=True,
    )


def parameter_groups(
    model: nn.Module, weight_decay: float, *, only_trainable: bool = False
) -> list[dict[str, Any]]:
    """Return the parameters with weight decay and those without, for an optimizer.

    The groups list parameters in the order of ``model.named_parameters()``, which is the same
    in every process, so that loaded moments go to the weights they belong to. Embeddings,
    norms and gates have no decay.

    Args:
        model: Whose parameters.
        weight_decay: Of matrices.
        only_trainable: Leave out parameters that need no gradient.
    """
    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
    }
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for _, parameter in model.named_parameters():
        if only_trainable and not parameter.requires_grad:
            continue
        matrix = parameter.ndim >= 2 and id(parameter) not in embeddings
        (decayed if matrix else plain).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine to a final share.

    It depends on nothing else, so a checkpoint needs to hold no state of the schedule.

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


def extension_note(step: int, before: TrainingConfig, after: TrainingConfig) -> str | None:
    """Return what another length of a run does to its learning rate; None without a change.

    Args:
        step: Optimizer steps taken.
        before: Settings until now.
        after: Settings with the new length.
    """
    if before.max_steps == after.max_steps or step >= after.max_steps:
        return None
    old, new = learning_rate(max(1, step), before), learning_rate(step + 1, after)
    return (
        f"the run now ends at step {after.max_steps} instead of {before.max_steps}: its learning "
        f"rate goes from {old:.3g} to {new:.3g} with step {step + 1}, and falls to "
        f"{learning_rate(after.max_steps, after):.3g} at the end"
    )
