"""Finds and opens a causal language model of transformers, if it can read neighbors.

Nothing that a model brings is run: weights are safetensors, and code of the Hub is refused.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from retro.errors import ArtifactMismatchError, ArtifactMissingError
from retro.model.hub_names import download, first_sentence
from retro.model.pretrained.attention import ATTENTION_NAME
from retro.model.pretrained.bundled import (
    BUNDLED_NAME,
    Progress,
    bundled_model,
    free_memory,
    require_memory,
    without_bars,
)
from retro.model.pretrained.stored import CONFIG_NAME

PATTERNS = ("*.json", "*.safetensors", "tokenizer.model", "*.txt")
"""Files of the Hub that are wanted; pickles are not."""
KNOWN_LAYERS = {"full_attention", "sliding_attention"}


@dataclass(frozen=True, slots=True)
class Base:
    """A pretrained model, opened."""

    model: PreTrainedModel
    folder: Path
    window: int
    """Most positions, those of the neighbors included."""
    bos_id: int
    """Token that begins a text."""


def is_base(folder: Path) -> bool:
    """Return whether a folder holds a model of transformers."""
    path = folder / CONFIG_NAME
    try:
        return isinstance(json.loads(path.read_text(encoding="utf-8"))["model_type"], str)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def find_base(
    name: str | Path,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    on_progress: Progress = lambda *_: None,
) -> Path:
    """Return the folder of a pretrained model, converting or downloading it if need be.

    Args:
        name: The bundled model, a folder, or a name on the Hub.
        revision: Branch, tag or commit on the Hub.
        local_files_only: Use the cache of the Hub alone.
        on_progress: Hears how far a conversion is.

    Raises:
        ConfigError: No model could be called so.
        ArtifactMissingError: It is neither here nor can it be had.
        DiskFullError: There is no room.
    """
    if str(name) == BUNDLED_NAME:
        return bundled_model(on_progress)
    return download(
        name,
        PATTERNS,
        f"Check the name and the network, or use {BUNDLED_NAME}, which needs none.",
        revision=revision,
        local_files_only=local_files_only,
    )


def open_base(folder: Path, device: torch.device, *, is_trained: bool = False) -> Base:
    """Open a pretrained model for reading neighbors.

    Args:
        folder: What ``find_base`` found.
        device: Where it is to be.
        is_trained: Whether its weights are going to change; they are float32 then.

    Raises:
        ArtifactMissingError: A file of it is not there.
        ArtifactMismatchError: It cannot read neighbors, a file is damaged, or it does not fit
            into the memory.
    """
    config = _read_config(folder)
    _check_config(folder, config)
    halves = device.type == "cuda" and not is_trained
    _check_room(folder, device, halves=halves)
    # bfloat16 is a hundred times slower on many processors.
    dtype = torch.bfloat16 if halves else torch.float32
    try:
        with without_bars():
            model = AutoModelForCausalLM.from_pretrained(
                folder, config=config, dtype=dtype, use_safetensors=True, trust_remote_code=False
            )
        model.set_attn_implementation(ATTENTION_NAME)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ArtifactMismatchError(
            f"The weights of {folder.name} are damaged or do not fit its {CONFIG_NAME} "
            f"({first_sentence(error)}). Copy the model again."
        ) from error
    network: nn.Module = model
    network.to(device).eval()
    _check_output(folder, model)
    return Base(model=model, folder=folder, window=_window(config), bos_id=_bos_id(model))


def _bos_id(model: Any) -> int:
    for name in ("bos_token_id", "eos_token_id"):
        for settings in (model.generation_config, model.config):
            value = getattr(settings, name, None)
            value = value[0] if isinstance(value, list) and value else value
            if isinstance(value, int):
                return value
    return 0


def _read_config(folder: Path) -> PreTrainedConfig:
    if not (folder / CONFIG_NAME).is_file():
        raise ArtifactMissingError(
            f"{folder.name} must hold {CONFIG_NAME} and safetensors of a language model, and "
            f"{CONFIG_NAME} is missing. Name the folder of a model."
        )
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactMismatchError(
            f"{folder.name} is not a model that transformers knows ({first_sentence(error)}). "
            f"Models with code of their own are not opened; choose another one."
        ) from error


def _check_config(folder: Path, config: PreTrainedConfig) -> None:
    """Refuse what cannot read neighbors, in one sentence each."""
    kind = config.model_type
    refusal = _refusal(config)
    if refusal is not None:
        raise ArtifactMismatchError(
            f"A model that reads neighbors must be a causal language model with plain attention, "
            f"and {folder.name} ({kind}) {refusal}. Choose another model, for example "
            f"{BUNDLED_NAME}."
        )
    if not list(folder.glob("*.safetensors")):
        raise ArtifactMissingError(
            f"{folder.name} must hold its weights as safetensors, and there are none; other "
            f"formats can run code when they are opened. Choose a model that has them."
        )


def _refusal(config: PreTrainedConfig) -> str | None:
    if config.is_encoder_decoder:
        return "has an encoder and a decoder"
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return "is not one that writes text"
    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if not getattr(model_class, "_supports_attention_backend", False):
        return "computes attention in a way of its own"
    if getattr(config, "attn_logit_softcapping", None):
        return "caps the scores of its attention"
    if getattr(config, "alibi", False):
        return "weighs tokens by their distance"
    layers = set(getattr(config, "layer_types", None) or ())
    if layers - KNOWN_LAYERS:
        return f"has layers of the kind {sorted(layers - KNOWN_LAYERS)[0]}"
    return None


def _check_room(folder: Path, device: torch.device, *, halves: bool) -> None:
    """Refuse a model that would not fit, before it is loaded."""
    stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    needed = stored if halves else stored * _widening(folder)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    require_memory(folder.name, needed, free)


def _widening(folder: Path) -> int:
    """Return how many times more bytes the weights take in float32."""
    values = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    stored = str(values.get("dtype") or values.get("torch_dtype") or "float32")
    return 2 if "16" in stored else 1


def _window(config: PreTrainedConfig) -> int:
    limits = [getattr(config, "max_position_embeddings", None)]
    if getattr(config, "use_sliding_window", True):
        limits.append(getattr(config, "sliding_window", None))
    return min((int(limit) for limit in limits if limit), default=2**20)


@torch.inference_mode()
def _check_output(folder: Path, model: PreTrainedModel) -> None:
    """Refuse a model whose logits are more than a product of its last states."""
    ids = torch.arange(8, device=model.device)[None] % int(model.config.vocab_size)
    states = model.base_model(input_ids=ids).last_hidden_state
    made = model.get_output_embeddings()(states)
    if not torch.allclose(made.float(), model(input_ids=ids).logits.float(), atol=1e-3):
        raise ArtifactMismatchError(
            f"A model that reads neighbors must take its logits from its last states as they "
            f"are, and {folder.name} ({model.config.model_type}) changes them. Choose another "
            f"model, for example {BUNDLED_NAME}."
        )
