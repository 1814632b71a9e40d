"""Weights of a model as a safetensors file."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model as load_safetensors
from safetensors.torch import save_model as save_safetensors

from retro.config import ModelConfig, config_to_dict
from retro.errors import ArtifactMismatchError
from retro.model.retro import RETRO


def save_weights(model: RETRO, path: Path) -> None:
    """Write the weights; tied matrices are written once."""
    save_safetensors(model, str(path))


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
    try:
        load_safetensors(model, path)
    except (SafetensorError, RuntimeError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise ArtifactMismatchError(
            f"{path.parent.name}/{path.name} does not fit the model of this run ({first_line}). "
            f"Choose another checkpoint."
        ) from error
    return model.to(device).eval()
