"""Presets resolve to valid settings, and the counted parameters are those of the model."""

import pytest
import torch

from retro import RETRO
from retro.config.checks import config_to_dict
from retro.config.model import ModelConfig
from retro.errors import ConfigError
from retro.model.retro.presets import (
    PRESETS,
    parameter_count,
    resolve_preset,
)


def resolve(name: str, **changes: object) -> ModelConfig:
    model, _ = resolve_preset(
        name, model=changes, training={}, num_tokens=4096, chunk_size=64, num_neighbors=2
    )
    return model


def paper_parameter_count(config: ModelConfig) -> int:
    """Return the parameters of the paper's network of these sizes, as its table 1 counts them.

    Two differences from ``parameter_count``: embedding and output layer are left out, and every
    attention has one matrix more, which the paper uses to project relative positions
    (Transformer-XL, arXiv:1901.02860). Our rotary positions need none, so a model here has
    7 to 9 % fewer parameters than the paper's of the same widths and depths.
    """
    inner = config.heads * config.dim_head
    total = parameter_count(config)
    total -= config.num_tokens * config.dec_dim * (1 if config.tie_embeddings else 2)
    if config.separate_encoder_embedding:
        total -= config.num_tokens * config.enc_dim
    total += (config.dec_depth + len(config.dec_cross_attn_layers)) * config.dec_dim * inner
    return total + (config.enc_depth + len(config.encoder_cross_layers)) * config.enc_dim * inner


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_deepnet": True},
        {"gated_rmsnorm": True, "tie_embeddings": False},
        {"dec_cross_attn_layers": ()},
        {"enc_cross_attn_layers": None, "enc_dim": 128},
        {"separate_encoder_embedding": True},
        {"use_deepnet": True, "gated_rmsnorm": True},
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


@pytest.mark.parametrize(
    ("name", "millions", "width", "feed_forward", "heads", "head_width", "layers", "cca"),
    [
        ("retro-172m", 172, 896, 3584, 16, 64, 12, (6, 9, 12)),
        ("retro-425m", 425, 1536, 6144, 12, 128, 12, (6, 9, 12)),
        ("retro-1.5b", 1451, 2048, 8192, 16, 128, 24, tuple(range(9, 25, 3))),
        ("retro-7.5b", 7532, 4096, 16384, 32, 128, 32, tuple(range(9, 33, 3))),
    ],
)
def test_the_paper_sizes_are_those_of_its_table_1(
    name: str,
    millions: int,
    width: int,
    feed_forward: int,
    heads: int,
    head_width: int,
    layers: int,
    cca: tuple[int, ...],
) -> None:
    config = resolve(name)
    with torch.device("meta"):
        layer = RETRO(**config_to_dict(config)).decoder.layers[0]

    assert (config.dec_dim, config.heads, config.dim_head, config.dec_depth) == (
        width,
        heads,
        head_width,
        layers,
    )
    assert config.dec_cross_attn_layers == cca
    assert layer.feed_forward.up_proj.out_features == feed_forward
    assert paper_parameter_count(config) / 1e6 == pytest.approx(millions, rel=0.03)
    embeddings = 2 * config.num_tokens * config.dec_dim
    own = (parameter_count(config) - embeddings) / 1e6
    assert 0.06 < 1 - own / millions < 0.10, "rotary positions have no projections"


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
