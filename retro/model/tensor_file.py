"""Weights of a network as a safetensors file."""

import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_model as load_safetensors
from safetensors.torch import save_model as save_safetensors
from torch import nn

from retro.errors import ArtifactMismatchError

WEIGHTS_NAME = "model.safetensors"


def save_tensors(model: nn.Module, path: Path) -> None:
    """Write the weights; tied matrices are written once.

    Raises:
        OSError: The file could not be written, with the number the system gave.
    """
    try:
        save_safetensors(model, str(path))
    except SafetensorError as error:
        # The package gives the system's error in words only.
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), str(error), str(path)) from error


def load_tensors(model: nn.Module, path: Path, next_step: str) -> None:
    """Read the weights of a model, on whichever device it is.

    Args:
        model: A network of the same sizes.
        path: A safetensors file.
        next_step: What a person can do if the file cannot be used; a sentence.

    Raises:
        ArtifactMismatchError: The file is damaged or belongs to a model of other sizes.
    """
    try:
        load_safetensors(model, path)
    except (SafetensorError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # The first line of torch only names the class; the second has the first difference.
        detail = lines[min(1, len(lines) - 1)] if lines else type(error).__name__
        raise ArtifactMismatchError(
            f"{path.parent.name}/{path.name} is damaged or does not fit the model's settings "
            f"({detail.rstrip('.')}). {next_step}"
        ) from error
