"""Small causal language models of transformers with random weights, one for each family."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

VOCAB_SIZE = 256
POSITIONS = 256
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": POSITIONS,
    **SPECIAL,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
GPT2 = {"vocab_size": VOCAB_SIZE, "n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": POSITIONS}
OPT = {name: value for name, value in SIZES.items() if name != "intermediate_size"}

FAMILIES: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: transformers.LlamaConfig(**GROUPED),
    "qwen2": lambda: transformers.Qwen2Config(**GROUPED),
    "qwen3": lambda: transformers.Qwen3Config(**GROUPED, head_dim=8),
    "mistral": lambda: transformers.MistralConfig(**GROUPED),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**SIZES),
    "gpt2": lambda: transformers.GPT2Config(**GPT2, **SPECIAL),
    "olmo2": lambda: transformers.Olmo2Config(**GROUPED),
    "phi3": lambda: transformers.Phi3Config(**GROUPED),
    "smollm3": lambda: transformers.SmolLM3Config(**GROUPED),
    "opt": lambda: transformers.OPTConfig(**OPT, ffn_dim=64, word_embed_proj_dim=48),
}
ABSOLUTE = {"gpt2", "opt"}
"""Families with a vector per position, in which a text that stands elsewhere is another text."""


def small_model(family: str) -> PreTrainedModel:
    """Return a model with random weights."""
    torch.manual_seed(0)
    config = FAMILIES[family]()
    config._attn_implementation = "sdpa"
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
    return model


def save_small_model(folder: Path, config: PreTrainedConfig) -> None:
    """Write a model with random weights into a folder."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
