"""From what a person chooses for a run to the settings of a model of its kind.

A run whose choices name a ``base`` trains a pretrained model, and its preset is a mode; every
other one trains RETRO from scratch. Importing this module does not import torch.
"""

from collections.abc import Mapping
from typing import Any

from retro.config.checks import config_from_dict
from retro.config.model import ModelConfig
from retro.config.training import TrainingConfig
from retro.errors import ConfigError
from retro.model.kinds import PRETRAINED_KIND, RETRO_KIND, ModelSettings
from retro.model.preset import find_preset
from retro.model.pretrained.modes import MODES, check_mode, resolve_mode
from retro.model.retro.presets import PRESETS, resolve_preset

FROM_CORPUS = ("num_tokens", "chunk_size")
"""Fields of ``ModelConfig`` that a run takes from its corpus."""
BASE = "base"
DEFAULT_PRESETS = {RETRO_KIND: "tiny", PRETRAINED_KIND: "lora"}


def kind_of(model: Mapping[str, Any]) -> str:
    """Return the kind of model that a run's choices ask for."""
    return PRETRAINED_KIND if model.get(BASE) is not None else RETRO_KIND


def check_choices(preset: str, model: Mapping[str, Any], training: Mapping[str, Any]) -> None:
    """Check a run's settings as far as that is possible before its corpus is known.

    Raises:
        ConfigError: A name is unknown, or a value is outside its range.
    """
    if kind_of(model) == PRETRAINED_KIND:
        check_mode(preset, model, training)
        return
    _refuse_mode(preset)
    chosen = find_preset(preset, PRESETS)
    config_from_dict(TrainingConfig, {**chosen.training, **training})
    for name in FROM_CORPUS:
        if name in model:
            raise ConfigError(
                f"{name} follows from the corpus, got {model[name]!r}. Leave it out of the run."
            )
    length = model.get("max_seq_len", ModelConfig().max_seq_len)
    config_from_dict(ModelConfig, {**chosen.model, **model, "chunk_size": _divisor(length)})


def resolve_choices(
    preset: str,
    *,
    model: Mapping[str, Any],
    training: Mapping[str, Any],
    num_tokens: int,
    chunk_size: int,
    num_neighbors: int,
) -> tuple[ModelSettings, TrainingConfig]:
    """Return checked settings of a model and of its training.

    Args:
        preset: Name of a preset, or mode of a pretrained model.
        model: Settings of the model that override it.
        training: Fields of ``TrainingConfig`` that override it.
        num_tokens: Vocabulary of the corpus's tokenizer.
        chunk_size: Tokens per chunk of the corpus.
        num_neighbors: Neighbors the corpus stores for each chunk.

    Raises:
        ConfigError: A name is unknown, or a value is outside its range or does not fit.
    """
    if kind_of(model) == PRETRAINED_KIND:
        return resolve_mode(
            preset,
            model=model,
            training=training,
            chunk_size=chunk_size,
            num_neighbors=num_neighbors,
        )
    _refuse_mode(preset)
    return resolve_preset(
        preset,
        model=model,
        training=training,
        num_tokens=num_tokens,
        chunk_size=chunk_size,
        num_neighbors=num_neighbors,
    )


def _refuse_mode(preset: str) -> None:
    if preset in MODES:
        raise ConfigError(
            f"{preset} is a way to train a pretrained model, and the run names none. Name its "
            f"base, for example smollm2-135m, or choose one of {', '.join(PRESETS)}."
        )


def _divisor(length: object) -> int:
    """Return a chunk size that fits, so that everything else about the model is checked."""
    if isinstance(length, int) and length > 0 and length % 64 == 0:
        return 64
    return length if isinstance(length, int) and 2 <= length <= 4096 else 64
