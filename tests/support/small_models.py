"""Small causal language models of transformers with random weights, one for each family."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from tests.conftest import country_texts

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


def save_model_with_tokenizer(folder: Path, kind: str = "bytes", family: str = "llama") -> Path:
    """Write a model with random weights and a tokenizer of a kind that pretrained models have."""
    made = Tokenizer(models.BPE(byte_fallback=kind == "word start"))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<s>", "<|end|>"]
    if kind == "word start":
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
        made.decoder = decoders.Sequence(
            [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
        alphabet = []
    else:
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
    if kind == "composed":
        made.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(country_texts().values(), trainer)
    if kind == "word start":
        values = json.loads(made.to_str())
        vocabulary = values["model"]["vocab"]
        vocabulary |= {f"<0x{byte:02X}>": len(vocabulary) + byte for byte in range(256)}
        made = Tokenizer.from_str(json.dumps(values))
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    config = FAMILIES[family]()
    config.vocab_size = made.get_vocab_size()
    save_small_model(folder, config)
    return folder
