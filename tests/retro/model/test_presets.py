"""Presets resolve to valid settings, and the counted parameters are those of the model."""

import pytest
import torch

from retro import RETRO
from retro.config import ModelConfig, config_to_dict
from retro.errors import ConfigError
from retro.model.presets import PRESETS, parameter_count, resolve_preset


def resolve(name: str, **changes: object) -> ModelConfig:
    model, _ = resolve_preset(
        name, model=changes, training={}, num_tokens=4096, chunk_size=64, num_neighbors=2
    )
    return model


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_deepnet": True},
        {"gated_rmsnorm": True, "tie_embeddings": False},
        {"dec_cross_attn_layers": ()},
        {"enc_cross_attn_layers": None, "enc_dim": 128},
    ],
)
def test_the_parameter_count_is_that_of_the_model(name: str, changes: dict[str, object]) -> None:
    config = resolve(name, **changes)

    with torch.device("meta"):
        model = RETRO(**config_to_dict(config))

    assert parameter_count(config) == sum(p.numel() for p in model.parameters())


def test_the_small_presets_have_the_sizes_they_promise() -> None:
    counts = {name: parameter_count(resolve(name)) / 1e6 for name in ("tiny", "small", "base")}

    assert counts["tiny"] == pytest.approx(3, rel=0.2)
    assert counts["small"] == pytest.approx(10, rel=0.2)
    assert counts["base"] == pytest.approx(50, rel=0.2)


def test_a_sequence_length_of_a_preset_is_rounded_up_to_whole_chunks() -> None:
    model, training = resolve_preset(
        "tiny", model={}, training={}, num_tokens=300, chunk_size=100, num_neighbors=1
    )

    assert training.sequence_length == model.max_seq_len == 300
    assert training.num_neighbors == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "tinny"}, "got 'tinny'. Did you mean 'tiny'"),
        ({"training": {"sequence_length": 100}}, "multiple of the corpus's chunk size of 64"),
        ({"training": {"num_neighbors": 3}}, "at most the 2 that the corpus stores.*got 3"),
        ({"training": {"batchsize": 3}}, "no setting 'batchsize'. Did you mean 'batch_size'"),
        ({"model": {"max_seq_len": 128}}, "at least sequence_length = 256, got 128"),
        ({"training": {"learning_rate": float("nan")}}, "learning_rate must be .* got nan"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, object], message: str) -> None:
    facts = {"num_tokens": 300, "chunk_size": 64, "num_neighbors": 2}

    with pytest.raises(ConfigError, match=message):
        resolve_preset(**{"name": "tiny", "model": {}, "training": {}, **facts, **arguments})  # type: ignore[arg-type]
