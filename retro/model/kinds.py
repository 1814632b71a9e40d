"""The kinds of language model, by the name that stands in the config of runs and saved models.

Importing this module does not import torch; ``retro.model.open`` makes the models.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeAlias

from retro.config.checks import config_from_dict, config_to_dict
from retro.config.model import ModelConfig
from retro.config.pretrained import PretrainedConfig
from retro.errors import ConfigError, shown

ModelSettings: TypeAlias = ModelConfig | PretrainedConfig
"""Settings of a model of any kind."""

RETRO_KIND = "retro"
PRETRAINED_KIND = "pretrained"
SETTINGS: dict[str, type[ModelSettings]] = {
    RETRO_KIND: ModelConfig,
    PRETRAINED_KIND: PretrainedConfig,
}
"""Kind to the type of its settings."""

KIND_NAME = "kind"
"""Beside the settings; earlier versions wrote none, for the only kind they had."""


def kind_in(values: Mapping[str, Any]) -> str:
    """Return the kind that stands in a config.

    Raises:
        ConfigError: This version has no such kind.
    """
    kind = values.get(KIND_NAME, RETRO_KIND)
    if not isinstance(kind, str) or kind not in SETTINGS:
        raise ConfigError(
            f"kind must be one of {', '.join(SETTINGS)}, got {shown(kind)}. "
            f"Open it with the version that has written it."
        )
    return kind


def settings_from_dict(kind: str, values: Mapping[str, Any]) -> ModelSettings:
    """Return checked settings of a model.

    Raises:
        ConfigError: A name is unknown, or a value is outside its range.
    """
    made: ModelSettings = config_from_dict(SETTINGS[kind], values)
    return made


def window_of(settings: ModelSettings) -> int:
    """Return the tokens that a model reads at once."""
    return settings.max_seq_len if isinstance(settings, ModelConfig) else settings.window


def without_kind(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings alone of a saved model's config."""
    return {name: value for name, value in values.items() if name != KIND_NAME}


def saved_settings(kind: str, settings: ModelSettings) -> dict[str, Any]:
    """Return the content of a saved model's config."""
    return {KIND_NAME: kind, **config_to_dict(settings)}


def are_saved_settings(values: object) -> bool:
    """Return whether a config is that of a saved model, of whichever kind."""
    if not isinstance(values, dict):
        return False
    settings = SETTINGS.get(str(values.get(KIND_NAME, RETRO_KIND)))
    if settings is None:
        return False
    return set(values) <= {KIND_NAME, *(item.name for item in fields(settings))}
