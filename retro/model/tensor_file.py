"""Weights of a network as a safetensors file."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from safetensors.torch import load_model as load_safetensors
from safetensors.torch import save_model as save_safetensors
from torch import Tensor, nn

from retro.errors import ArtifactMismatchError

WEIGHTS_NAME = "model.safetensors"


def save_tensors(model: nn.Module, path: Path) -> None:
    """Write the weights; tied matrices are written once.

    Raises:
        OSError: The file could not be written, with the number the system gave.
    """
    with _system_errors(path):
        save_safetensors(model, str(path))


def save_named(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write some tensors of a network.

    Raises:
        OSError: The file could not be written, with the number the system gave.
    """
    with _system_errors(path):
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)


@contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    try:
        yield
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
    with _damage(path, next_step):
        load_safetensors(model, path)


@torch.no_grad()
def load_named(tensors: Mapping[str, Tensor], path: Path, next_step: str) -> None:
    """Read what ``save_named`` wrote into tensors of the same names and shapes.

    Args:
        tensors: Their content is replaced.
        path: A safetensors file.
        next_step: As for ``load_tensors``.

    Raises:
        ArtifactMismatchError: The file is damaged or belongs to other tensors.
    """
    with _damage(path, next_step):
        found = load_file(path)
        if different := sorted(found.keys() ^ tensors.keys()):
            raise RuntimeError(f"only one of them has {different[0]}")
        for name, tensor in tensors.items():
            if found[name].shape != tensor.shape:
                raise RuntimeError(f"{name} has the shape {tuple(found[name].shape)}")
        for name, tensor in tensors.items():
            tensor.copy_(found[name])


@contextmanager
def _damage(path: Path, next_step: str) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # The first line of torch only names the class; the second has the first difference.
        detail = lines[min(1, len(lines) - 1)] if lines else type(error).__name__
        raise ArtifactMismatchError(
            f"{path.parent.name}/{path.name} is damaged or does not fit the model's settings "
            f"({detail.rstrip('.')}). {next_step}"
        ) from error
