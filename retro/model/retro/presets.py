"""Named sizes: three for the machines most people have, four from the paper.

Source of the paper's sizes: Borgeaud et al., arXiv:2112.04426, table 1 and section 2.
"""

from collections.abc import Mapping
from typing import Any

from retro.config.checks import config_from_dict
from retro.config.model import ModelConfig
from retro.config.training import TrainingConfig
from retro.errors import ConfigError
from retro.model.preset import Preset, find_preset, resolve_training


def _paper_preset(
    name: str, width: int, heads: int, head_width: int, depth: int, first_cca: int, peak: float
) -> Preset:
    return Preset(
        name=name,
        description=f"The paper's {name.removeprefix('retro-').upper()} model; needs a GPU.",
        model={
            "enc_dim": 896,
            "enc_depth": 2,
            "enc_cross_attn_layers": (1,),
            "dec_dim": width,
            "dec_depth": depth,
            "dec_cross_attn_layers": tuple(range(first_cca, depth + 1, 3)),
            "heads": heads,
            "dim_head": head_width,
        },
        training={
            "sequence_length": 2048,
            "batch_size": 8,
            "accumulation": 32,
            "learning_rate": peak,
            "warmup_steps": 750,
            "max_steps": 100_000,
            "eval_every": 500,
            "checkpoint_every": 1000,
            "log_every": 10,
            "num_workers": 2,
        },
    )


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="tiny",
            description="A first model within minutes on a laptop CPU.",
            model={
                "enc_dim": 128,
                "enc_depth": 2,
                "enc_cross_attn_layers": (1,),
                "dec_dim": 160,
                "dec_depth": 4,
                "dec_cross_attn_layers": (2, 4),
                "heads": 5,
                "dim_head": 32,
            },
            training={
                "sequence_length": 256,
                "batch_size": 4,
                "learning_rate": 3e-3,
                "warmup_steps": 20,
                "max_steps": 600,
                "eval_every": 100,
                "eval_sequences": 48,
                "checkpoint_every": 100,
            },
        ),
        Preset(
            name="small",
            description="An evening on a CPU, minutes on a GPU.",
            model={
                "enc_dim": 256,
                "enc_depth": 2,
                "enc_cross_attn_layers": (1,),
                "dec_dim": 256,
                "dec_depth": 6,
                "dec_cross_attn_layers": (3, 5),
                "heads": 8,
                "dim_head": 32,
            },
            training={
                "sequence_length": 512,
                "batch_size": 8,
                "learning_rate": 1e-3,
                "warmup_steps": 50,
                "max_steps": 5_000,
                "eval_every": 100,
                "checkpoint_every": 100,
            },
        ),
        Preset(
            name="base",
            description="A serious experiment on one GPU.",
            model={
                "enc_dim": 512,
                "enc_depth": 2,
                "enc_cross_attn_layers": (1,),
                "dec_dim": 512,
                "dec_depth": 12,
                "dec_cross_attn_layers": (6, 9, 12),
                "heads": 8,
                "dim_head": 64,
            },
            training={
                "sequence_length": 1024,
                "batch_size": 16,
                "learning_rate": 6e-4,
                "warmup_steps": 500,
                "max_steps": 50_000,
                "eval_every": 250,
                "checkpoint_every": 500,
                "log_every": 10,
            },
        ),
        _paper_preset("retro-172m", 896, 16, 64, 12, 6, 2e-4),
        _paper_preset("retro-425m", 1536, 12, 128, 12, 6, 2e-4),
        _paper_preset("retro-1.5b", 2048, 16, 128, 24, 9, 2e-4),
        _paper_preset("retro-7.5b", 4096, 32, 128, 32, 9, 1e-4),
    )
}


def resolve_preset(
    name: str,
    *,
    model: Mapping[str, Any],
    training: Mapping[str, Any],
    num_tokens: int,
    chunk_size: int,
    num_neighbors: int,
) -> tuple[ModelConfig, TrainingConfig]:
    """Combine a preset, a person's choices and the facts of a corpus.

    Args:
        name: Name of the preset.
        model: Fields of ``ModelConfig`` that override the preset.
        training: Fields of ``TrainingConfig`` that override the preset.
        num_tokens: Vocabulary of the corpus's tokenizer.
        chunk_size: Tokens per chunk of the corpus.
        num_neighbors: Neighbors the corpus stores for each chunk.

    Returns:
        Checked settings of the model and of its training.

    Raises:
        ConfigError: A name is unknown, or a value is outside its range or does not fit.
    """
    preset = find_preset(name, PRESETS)
    training_config = resolve_training(
        preset, training, chunk_size=chunk_size, num_neighbors=num_neighbors
    )
    length = training_config.sequence_length
    model_config = config_from_dict(
        ModelConfig,
        {
            **preset.model,
            "max_seq_len": length,
            **model,
            "num_tokens": num_tokens,
            "chunk_size": chunk_size,
        },
    )
    if model_config.max_seq_len < length:
        raise ConfigError(
            f"max_seq_len must be at least sequence_length = {length}, "
            f"got {model_config.max_seq_len}."
        )
    return model_config, training_config


def parameter_count(config: ModelConfig) -> int:
    """Return the number of parameters of a model without making it."""
    inner = config.heads * config.dim_head
    # LayerNorm has a bias, gated RMSNorm a gate.
    norm = 2 if config.gated_rmsnorm or config.use_deepnet else 1
    enc, dec = config.enc_dim, config.dec_dim

    total = config.num_tokens * dec * (1 if config.tie_embeddings else 2)
    total += config.dec_depth * (4 * dec * inner + 8 * dec * dec + 2 * norm * dec)
    if not config.use_deepnet:
        total += norm * dec
    if config.dec_cross_attn_layers:
        cca = 2 * dec * inner + 2 * enc * inner + norm * dec
        total += len(config.dec_cross_attn_layers) * cca
        total += config.enc_depth * (4 * enc * inner + 8 * enc * enc + 2 * norm * enc)
        cross = 2 * enc * inner + 2 * dec * inner + norm * enc
        total += len(config.encoder_cross_layers) * cross
        if config.separate_encoder_embedding:
            total += config.num_tokens * enc
        elif enc != dec:
            total += enc * dec
        if not config.use_deepnet:
            total += norm * (enc + dec)
    return total
