"""What a step costs grows with what makes it larger, and agrees with the model there would be."""

import dataclasses

import pytest
import torch

from retro import RETRO
from retro.config.checks import config_to_dict
from retro.config.model import ModelConfig
from retro.model.memory import TrainingMemory
from retro.model.retro.costs import training_memory
from retro.model.retro.presets import PRESETS, resolve_preset


def memory(config: ModelConfig, **changes: int | bool) -> TrainingMemory:
    values = {
        "batch_size": 4, "tokens": 256, "num_neighbors": 2, "value_bytes": 4,
        "checkpointing": False, **changes,
    }  # fmt: skip
    return training_memory(config, **values)  # type: ignore[arg-type]  # numbers by name


def config(preset: str = "tiny") -> ModelConfig:
    return resolve_preset(
        preset, model={}, training={}, num_tokens=500, chunk_size=64, num_neighbors=2
    )[0]


def test_what_is_kept_for_each_weight_is_that_of_the_model() -> None:
    model = RETRO(**config_to_dict(config()))
    weights = sum(parameter.numel() * 4 for parameter in model.parameters())

    found = memory(config())

    assert (found.weights, found.gradients, found.moments) == (weights, weights, 2 * weights)
    assert found.total == 4 * weights + found.activations


@pytest.mark.parametrize("preset", PRESETS)
def test_computing_states_again_needs_less_memory(preset: str) -> None:
    kept, recomputed = memory(config(preset)), memory(config(preset), checkpointing=True)

    assert recomputed.activations < 0.8 * kept.activations
    assert recomputed.weights == kept.weights


@pytest.mark.parametrize(
    ("name", "value", "factor"), [("batch_size", 8, 2), ("tokens", 512, 2), ("value_bytes", 2, 0.5)]
)
def test_inner_states_grow_with_the_batch(name: str, value: int, factor: float) -> None:
    before, after = memory(config()), memory(config(), **{name: value})

    assert after.activations == pytest.approx(factor * before.activations)


def test_neighbors_cost_memory_only_where_they_are_read() -> None:
    reads = config()
    alone = dataclasses.replace(reads, dec_cross_attn_layers=())

    assert memory(reads, num_neighbors=4).activations > memory(reads).activations
    assert memory(alone, num_neighbors=4) == memory(alone)
    assert memory(alone).activations < memory(reads).activations


def test_counted_states_are_near_those_that_autograd_keeps() -> None:
    made = config()
    model = RETRO(**config_to_dict(made))
    seq = torch.randint(1, 500, (4, 257))
    retrieved = torch.randint(1, 500, (4, 4, 2, 128))
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model(seq, retrieved=retrieved, return_loss=True)

    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    states = sum(size for place, size in kept.items() if place not in weights)
    assert loss.requires_grad
    assert 0.4 < states / memory(made).activations < 1.1
