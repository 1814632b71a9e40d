"""Unknown names and impossible values are refused, with the name and the value."""

import math
from dataclasses import fields
from typing import Any

import pytest

from retro.config.checks import config_from_dict, config_to_dict
from retro.config.corpus import CorpusConfig, Exclusion
from retro.config.model import ModelConfig
from retro.config.sampling import SamplingConfig
from retro.config.training import TrainingConfig
from retro.errors import ConfigError

CONFIGS = [CorpusConfig, ModelConfig, TrainingConfig, SamplingConfig]
HOSTILE = ["'; DROP TABLE", math.nan, math.inf, -math.inf, 2**63, -(2**63), -1, [], {}, "", "\0"]


@pytest.mark.parametrize("config_type", CONFIGS)
def test_settings_survive_json_values(config_type: type[Any]) -> None:
    config = config_type()

    assert config_from_dict(config_type, config_to_dict(config)) == config


@pytest.mark.parametrize("config_type", CONFIGS)
def test_unknown_names_are_refused_with_the_nearest_known(config_type: type[Any]) -> None:
    name = fields(config_type)[0].name

    with pytest.raises(ConfigError, match=f"has no setting '{name}x'. Did you mean '{name}'"):
        config_from_dict(config_type, {f"{name}x": 1})
    with pytest.raises(ConfigError, match="has no setting 'zzzzqqqq'"):
        config_from_dict(config_type, {"zzzzqqqq": 1})


@pytest.mark.parametrize("config_type", CONFIGS)
@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_hostile_values_are_refused_by_name(config_type: type[Any], value: object) -> None:
    messages = {}
    for field in fields(config_type):
        try:
            config = config_type(**{field.name: value})
        except ConfigError as error:
            messages[field.name] = str(error)
        else:
            # Only a text setting takes a text, and only layers take a list.
            assert isinstance(getattr(config, field.name), str | tuple)
    assert len(messages) >= len(fields(config_type)) - 2
    assert all(name in message and len(message) < 300 for name, message in messages.items())


@pytest.mark.parametrize(
    ("config_type", "values", "message"),
    [
        (CorpusConfig, {"chunk_size": 1}, "chunk_size .* between 2 and 4096, got 1"),
        (CorpusConfig, {"chunk_size": 64.5}, r"chunk_size .* got 64\.5"),
        (CorpusConfig, {"chunk_size": True}, "chunk_size .* got True"),
        (CorpusConfig, {"vocab_size": 257}, "vocab_size .* got 257"),
        (CorpusConfig, {"validation_fraction": 0.6}, r"at most 0\.5, got 0\.6"),
        (CorpusConfig, {"exclusion": "none"}, "'auto', 'document', 'window', got 'none'"),
        (CorpusConfig, {"encoder": " "}, "encoder must be a name or a path, got ' '"),
        (ModelConfig, {"dec_cross_attn_layers": (1, 13)}, "between 1 and 12, .* got 13"),
        (ModelConfig, {"dec_cross_attn_layers": ("1",)}, "list of layer numbers"),
        (ModelConfig, {"dim_head": 6}, "multiple of 4, .* got 6"),
        (ModelConfig, {"max_seq_len": 100}, "multiple of chunk_size, got 100 and 64"),
        (ModelConfig, {"pad_id": 28996}, "pad_id .* got 28996"),
        (ModelConfig, {"dec_ff_dropout": 1}, "dec_ff_dropout .* below 1, got 1"),
        (ModelConfig, {"use_deepnet": 1}, "use_deepnet must be true or false, got 1"),
        (TrainingConfig, {"learning_rate": 0}, "learning_rate .* above 0 .* got 0"),
        (TrainingConfig, {"precision": "float16"}, "precision .* got 'float16'"),
        (SamplingConfig, {"top_p": 0.0}, r"top_p .* above 0 .* got 0\.0"),
        (SamplingConfig, {"temperature": -0.1}, r"temperature .* got -0\.1"),
        (SamplingConfig, {"min_p": 1.1}, r"min_p .* at most 1, got 1\.1"),
        (
            SamplingConfig,
            {"repetition_penalty": 0},
            r"repetition_penalty .* at least 0\.1 .* got 0",
        ),
        (SamplingConfig, {"num_samples": 17}, "num_samples .* between 1 and 16, got 17"),
        (SamplingConfig, {"stop": "end"}, "stop must be a list of at most 16 texts, got 'end'"),
        (SamplingConfig, {"stop": ["a"] * 17}, "stop must be a list of at most 16 texts"),
        (SamplingConfig, {"stop": ["a", ""]}, "stop must have 1 to 200 characters, got ''"),
        (SamplingConfig, {"stop": [3]}, "stop must have 1 to 200 characters, got 3"),
    ],
)
def test_impossible_values_are_refused_with_the_value(
    config_type: type[Any], values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config_type(**values)


def test_values_of_forms_are_taken_for_what_they_mean() -> None:
    config = CorpusConfig(chunk_size=32.0, exclusion="window", validation_fraction=0)  # type: ignore[arg-type]  # as JSON and web forms send them

    assert (config.chunk_size, type(config.chunk_size)) == (32, int)
    assert config.exclusion is Exclusion.WINDOW
    assert config.validation_fraction == 0.0


def test_layers_are_sorted_and_counted_once() -> None:
    config = ModelConfig(dec_cross_attn_layers=[9, 3, 9], enc_depth=3)  # type: ignore[arg-type]  # JSON has no tuples

    assert config.dec_cross_attn_layers == (3, 9)
    assert config.encoder_cross_layers == (1, 2, 3)


def test_stop_strings_are_kept_as_a_tuple() -> None:
    assert SamplingConfig(stop=["a", "b"]).stop == ("a", "b")  # type: ignore[arg-type]  # JSON has no tuples


def test_configs_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        CorpusConfig().chunk_size = 3  # type: ignore[misc]  # that is the point
