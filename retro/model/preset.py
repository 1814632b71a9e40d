"""Named settings that a run begins with, for any kind of model."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from retro.config.checks import config_from_dict
from retro.config.training import TrainingConfig
from retro.errors import ConfigError

FEWEST_EVALUATIONS = 5
"""Validations that a run has at least, if nobody chooses otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """Sizes of a model and how it is trained, before a corpus is known."""

    name: str
    description: str
    """One sentence for the person who chooses."""

    model: dict[str, Any]
    """Settings of the model that differ from their defaults."""

    training: dict[str, Any]
    """Fields of ``TrainingConfig`` that differ from its defaults."""


def find_preset(name: str, presets: Mapping[str, Preset], what: str = "preset") -> Preset:
    """Return a preset by name.

    Raises:
        ConfigError: There is none of this name.
    """
    if name in presets:
        return presets[name]
    close = get_close_matches(str(name), presets, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ConfigError(f"{what} must be one of {', '.join(presets)}, got {str(name)[:60]!r}.{hint}")


def resolve_training(
    preset: Preset, training: Mapping[str, Any], *, chunk_size: int, num_neighbors: int
) -> TrainingConfig:
    """Combine a preset, a person's choices and the facts of a corpus.

    The sequence length of a preset is rounded up to whole chunks, at least two, and a short run
    is measured often enough for a curve.

    Args:
        preset: What the settings begin with.
        training: Fields of ``TrainingConfig`` that override it.
        chunk_size: Tokens per chunk of the corpus.
        num_neighbors: Neighbors the corpus stores for each chunk.

    Raises:
        ConfigError: A name is unknown, or a value is outside its range or does not fit.
    """
    values = {
        **preset.training,
        "num_neighbors": min(TrainingConfig().num_neighbors, num_neighbors),
        **training,
    }
    if "sequence_length" not in training:
        chunks = max(2, -(-values["sequence_length"] // chunk_size))
        values["sequence_length"] = chunks * chunk_size
    config = config_from_dict(TrainingConfig, values)
    if "eval_every" not in training:
        often = max(1, config.max_steps // FEWEST_EVALUATIONS)
        values["eval_every"] = min(config.eval_every, often)
        config = config_from_dict(TrainingConfig, values)
    length = config.sequence_length
    if length % chunk_size != 0:
        raise ConfigError(
            f"sequence_length must be a multiple of the corpus's chunk size of {chunk_size} "
            f"tokens, got {length}."
        )
    if config.num_neighbors > num_neighbors:
        raise ConfigError(
            f"num_neighbors must be at most the {num_neighbors} that the corpus stores for each "
            f"chunk, got {config.num_neighbors}. Rebuild the corpus with more."
        )
    return config
