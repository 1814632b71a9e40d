"""What training adds to a pretrained model, or changes in it.

Shape suffixes: L layers, H heads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D

from retro.config.pretrained import PretrainedConfig, TrainingMode

GATE_SCALE = 100.0
"""The gates are trained in hundredths, so that one learning rate suits them and the matrices."""


def add_trained(base: Any, config: PretrainedConfig) -> nn.Parameter | None:
    """Prepare a model of transformers for its mode: only what is trained requires a gradient.

    Args:
        base: The model; its attention gets matrices with ``lora``.
        config: Its mode and rank.

    Returns:
        The gates over ``GATE_SCALE``, (layers, heads); None where nothing is trained.
    """
    base.requires_grad_(config.mode is TrainingMode.FULL)
    if config.mode is TrainingMode.NONE:
        return None
    if config.mode is TrainingMode.LORA:
        _add_lora(base, config.lora_rank)
    sizes = (int(base.config.num_hidden_layers), int(base.config.num_attention_heads))
    device = base.get_output_embeddings().weight.device
    return nn.Parameter(torch.zeros(sizes, device=device))


def _add_lora(base: Any, rank: int) -> None:
    # Two seconds, and only this mode needs it.
    from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415

    names = _attention_matrices(base)
    is_turned = isinstance(base.get_submodule(names[0]), Conv1D)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names, fan_in_fan_out=is_turned)
    inject_adapter_in_model(config, base)


def _attention_matrices(base: nn.Module) -> list[str]:
    """Return the names of all matrices of the attention, however a family calls them."""
    return [
        f"{name}.{child_name}"
        for name, module in base.named_modules()
        if hasattr(module, "layer_idx")
        for child_name, child in module.named_children()
        if isinstance(child, nn.Linear | Conv1D)
    ]


def trained_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return what is trained, by name; tied matrices once."""
    return {
        name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad
    }


def effective_weight(layer: Any) -> Tensor:
    """Return the matrix of a linear layer, with what ``lora`` adds to it."""
    weight: Tensor = layer.weight
    for name in getattr(layer, "active_adapters", ()):
        weight = weight + layer.get_delta_weight(name)
    return weight


@contextmanager
def recomputing(base: nn.Module, *, active: bool) -> Iterator[None]:
    """Have the layers compute their inner states again for the gradient instead of keeping them.

    transformers does so only in layers that are being trained. Nothing else of the model is, or
    its dropout would change what a frozen model says.
    """
    layers: list[Any] = [
        module for module in base.modules() if isinstance(module, GradientCheckpointingLayer)
    ]
    for layer in layers:
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        layer.gradient_checkpointing = layer.training = active
    try:
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing = layer.training = False
