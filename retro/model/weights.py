"""Weights of a model as a safetensors file."""

from pathlib import Path

import torch

from retro.config import ModelConfig, config_to_dict
from retro.model.retro.model import RETRO
from retro.model.tensor_file import load_tensors, save_tensors


def save_weights(model: RETRO, path: Path) -> None:
    """Write the weights; tied matrices are written once."""
    save_tensors(model, path)


def load_model(path: Path, config: ModelConfig, device: torch.device) -> RETRO:
    """Make a model and load its weights.

    Args:
        path: A safetensors file.
        config: Sizes of the model.
        device: Where the model is to be.

    Returns:
        The model in evaluation mode.

    Raises:
        ArtifactMismatchError: The file is damaged or belongs to a model of other sizes.
    """
    model = RETRO(**config_to_dict(config))
    load_tensors(model, path, "Choose another checkpoint.")
    return model.to(device).eval()
