"""What the files of a pretrained model say of it, without loading it.

Importing this module does not import torch.
"""

import hashlib
import json
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from retro.config.pretrained import PretrainedConfig, TrainingMode
from retro.errors import ArtifactError, ArtifactMismatchError
from retro.json_files import parse_json, read_object
from retro.model.hub_names import cached_folder
from retro.model.pretrained.bundled import BUNDLED_NAME, is_converted, models_dir

CONFIG_NAME = "config.json"
ATTENTION = re.compile(r"\.(self_)?(attn|attention)\.")
LONGEST_HEADER = 100_000_000
SIZE_NAMES = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "width": ("hidden_size", "n_embd", "d_model"),
    "vocab_size": ("vocab_size",),
    "inner": ("intermediate_size", "n_inner", "ffn_dim"),
}
"""Settings of transformers by what they say; families call them differently."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor in a safetensors file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    start: int
    """First byte in the file."""
    stop: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseSizes:
    """How large a pretrained model is."""

    parameters: int
    layers: int
    heads: int
    width: int
    vocab_size: int
    inner: int
    """Width inside of the feed-forward layers."""
    lora_columns: int
    """Rows and columns of all matrices of the attention: parameters of ``lora`` at rank 1."""

    def trained(self, config: PretrainedConfig) -> int:
        """Return the number of parameters that a mode trains."""
        gates = self.layers * self.heads
        return {
            TrainingMode.NONE: 0,
            TrainingMode.GATES: gates,
            TrainingMode.LORA: gates + config.lora_rank * self.lora_columns,
            TrainingMode.FULL: gates + self.parameters,
        }[config.mode]


BUNDLED_SIZES = BaseSizes(
    parameters=134_515_008,
    layers=30,
    heads=9,
    width=576,
    vocab_size=49_152,
    inner=1536,
    lora_columns=115_200,
)
"""Of the bundled model, which may not have been converted yet."""


def read_sizes(folder: Path) -> BaseSizes:
    """Return the sizes of a model.

    Raises:
        ArtifactMissingError: A file is not there.
        ArtifactMismatchError: A file is damaged.
    """
    return _sizes(folder, _stamp(folder))


@lru_cache(maxsize=8)
def _sizes(folder: Path, _stamp: object) -> BaseSizes:
    values = read_object(folder / CONFIG_NAME)
    found: dict[str, int] = {}
    for what, names in SIZE_NAMES.items():
        known = [values[name] for name in names if isinstance(values.get(name), int)]
        if not known and what == "inner":
            known = [4 * found["width"]]
        if not known:
            raise ArtifactMismatchError(
                f"{folder.name}/{CONFIG_NAME} must say the model's sizes, and {names[0]} is "
                f"missing. Copy the model again."
            )
        found[what] = known[0]
    tensors = list(_tensors(folder))
    attention = [one for one in tensors if ATTENTION.search(one.name) and len(one.shape) == 2]
    return BaseSizes(
        parameters=sum(prod(one.shape) for one in tensors),
        lora_columns=sum(sum(one.shape) for one in attention),
        **found,
    )


def known_sizes(config: PretrainedConfig) -> BaseSizes | None:
    """Return the sizes of a base that is on this machine; None where it is not, or is damaged."""
    folder = local_folder(config.base, config.revision)
    if folder is None:
        return BUNDLED_SIZES if config.base == BUNDLED_NAME else None
    try:
        return read_sizes(folder)
    except ArtifactError:
        return None


def local_folder(name: str, revision: str | None = None) -> Path | None:
    """Return the folder of a model that is on this machine, without any network; None elsewhere."""
    if name == BUNDLED_NAME:
        return models_dir() / BUNDLED_NAME if is_converted() else None
    folder = Path(name)
    if folder.is_dir():
        return folder
    return cached_folder(name, CONFIG_NAME, revision)


def tensors_sha256(folder: Path) -> str:
    """Return the identity of a model's tensors, in whichever order and files they lie.

    Raises:
        ArtifactMismatchError: A file is damaged.
    """
    return _sha256(folder, _stamp(folder))


@lru_cache(maxsize=8)
def _sha256(folder: Path, _stamp: object) -> str:
    digest = hashlib.sha256()
    for tensor in sorted(_tensors(folder), key=lambda one: one.name):
        digest.update(json.dumps([tensor.name, tensor.dtype, tensor.shape]).encode())
        if tensor.stop > tensor.start:
            with (
                tensor.path.open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
                memoryview(content) as view,
                view[tensor.start : tensor.stop] as part,
            ):
                digest.update(part)
    return digest.hexdigest()


def _stamp(folder: Path) -> tuple[Any, ...]:
    """Return what changes when a file of the model does."""
    files = sorted([*folder.glob("*.safetensors"), folder / CONFIG_NAME])
    try:
        return tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files)
    except OSError:
        return ()


def _tensors(folder: Path) -> Iterator[Tensor]:
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                if size > LONGEST_HEADER:
                    raise ValueError("its header is too long")
                header = parse_json(file.read(size))
            begin = 8 + size
            for name, entry in header.items():
                if name != "__metadata__":
                    start, stop = entry["data_offsets"]
                    if not 0 <= start <= stop <= path.stat().st_size - begin:
                        raise ValueError(f"{name} lies outside of it")
                    shape = tuple(int(number) for number in entry["shape"])
                    yield Tensor(
                        name, str(entry["dtype"]), shape, path, begin + start, begin + stop
                    )
        except ArtifactError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactMismatchError(
                f"{folder.name}/{path.name} is damaged ({error}). Copy the model again."
            ) from error
