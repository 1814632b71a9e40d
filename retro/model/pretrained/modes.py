"""How pretrained models are trained: one preset per mode.

Importing this module does not import torch.
"""

from collections.abc import Mapping
from typing import Any

from retro.config.checks import config_from_dict
from retro.config.pretrained import PretrainedConfig, TrainingMode
from retro.config.training import TrainingConfig
from retro.errors import ConfigError
from retro.model.preset import Preset, find_preset, resolve_training

MODES: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name=TrainingMode.GATES.value,
            description="Learns how much each head listens to neighbors; minutes on a CPU. "
            "Without retrieval the model stays exactly what it was.",
            model={},
            training={
                "sequence_length": 384,
                "batch_size": 1,
                "learning_rate": 5e-4,
                "warmup_steps": 5,
                "weight_decay": 0.0,
                "max_steps": 60,
                "eval_every": 20,
                "eval_sequences": 8,
                "checkpoint_every": 20,
                "log_every": 1,
                "packing": False,
            },
        ),
        Preset(
            name=TrainingMode.LORA.value,
            description="Learns the language of your text and the use of neighbors with small "
            "added matrices; an hour on a CPU, minutes on a GPU.",
            model={},
            training={
                "sequence_length": 384,
                "batch_size": 1,
                "learning_rate": 3e-4,
                "warmup_steps": 10,
                "weight_decay": 0.0,
                "max_steps": 240,
                "eval_every": 40,
                "eval_sequences": 8,
                "checkpoint_every": 20,
                "log_every": 1,
                "packing": False,
            },
        ),
        Preset(
            name=TrainingMode.FULL.value,
            description="Changes all weights; needs a GPU.",
            model={},
            training={
                "sequence_length": 1024,
                "batch_size": 8,
                "learning_rate": 2e-5,
                "warmup_steps": 50,
                "weight_decay": 0.01,
                "max_steps": 1000,
                "eval_every": 50,
                "checkpoint_every": 100,
                "packing": False,
            },
        ),
    )
}
OF_THE_CORPUS = ("chunk_size",)
FOUND = ("base_sha256", "mode")
"""Settings that follow from the others."""


def check_mode(mode: str, model: Mapping[str, Any], training: Mapping[str, Any]) -> None:
    """Check the settings of a run as far as that is possible before its corpus is known.

    Raises:
        ConfigError: A name is unknown, or a value is outside its range.
    """
    preset = find_preset(mode, MODES, "mode")
    _check_training(config_from_dict(TrainingConfig, {**preset.training, **training}))
    for name in (*OF_THE_CORPUS, *FOUND):
        if name in model:
            whence = "the corpus" if name in OF_THE_CORPUS else "base and mode"
            raise ConfigError(
                f"{name} follows from {whence}, got {model[name]!r}. Leave it out of the run."
            )
    config_from_dict(PretrainedConfig, {**model, "mode": mode})


def resolve_mode(
    mode: str,
    *,
    model: Mapping[str, Any],
    training: Mapping[str, Any],
    chunk_size: int,
    num_neighbors: int,
) -> tuple[PretrainedConfig, TrainingConfig]:
    """Combine a mode, a person's choices and the facts of a corpus.

    Args:
        mode: One of ``MODES``.
        model: Fields of ``PretrainedConfig`` that override the mode's.
        training: Fields of ``TrainingConfig`` that override the mode's.
        chunk_size: Tokens per chunk of the corpus.
        num_neighbors: Neighbors the corpus stores for each chunk.

    Raises:
        ConfigError: A name is unknown, or a value is outside its range or does not fit.
    """
    preset = find_preset(mode, MODES, "mode")
    config = resolve_training(preset, training, chunk_size=chunk_size, num_neighbors=num_neighbors)
    _check_training(config)
    settings = config_from_dict(
        PretrainedConfig,
        {**preset.model, **model, "mode": mode, "chunk_size": chunk_size},
    )
    if config.sequence_length > settings.window:
        raise ConfigError(
            f"sequence_length must be at most the model's window of {settings.window} tokens, "
            f"got {config.sequence_length}. Shorten it, or give the model a larger window."
        )
    return settings, config


def _check_training(config: TrainingConfig) -> None:
    """Refuse what only RETRO from scratch can do."""
    if config.packing:
        raise ConfigError(
            "packing must be off for a pretrained model, which reads one text per row, got on. "
            "Leave it out."
        )
    if config.compile:
        raise ConfigError(
            "compile must be off for a pretrained model, whose layers are those of transformers, "
            "got on. Leave it out."
        )
