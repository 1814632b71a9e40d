"""Which models are opened, and what is said of the others."""

from pathlib import Path

import pytest
import torch
import transformers

from retro.errors import ArtifactError, ArtifactMismatchError, ArtifactMissingError
from retro.model.pretrained import base as module
from retro.model.pretrained.base import find_base, is_base, open_base
from tests.support.small_models import FAMILIES, GROUPED, SIZES, save_small_model

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
REFUSED = {
    "bloom": (
        lambda: transformers.BloomConfig(vocab_size=256, hidden_size=48, n_layer=2, n_head=6),
        "computes attention in a way of its own",
    ),
    "gemma2": (
        lambda: transformers.Gemma2Config(**GROUPED, head_dim=8),
        "caps the scores of its attention",
    ),
    "t5": (
        lambda: transformers.T5Config(vocab_size=256, d_model=48, num_layers=2, num_heads=6),
        "has an encoder and a decoder",
    ),
    "vit": (lambda: transformers.ViTConfig(hidden_size=48), "is not one that writes text"),
    "cohere": (lambda: transformers.CohereConfig(**GROUPED, logit_scale=0.1), "changes them"),
}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    save_small_model(tmp_path / "small", FAMILIES["llama"]())
    return tmp_path / "small"


def test_a_folder_is_opened_in_float32_for_reading(small: Path) -> None:
    opened = open_base(find_base(small), CPU)

    assert is_base(small)
    assert opened.window == SIZES["max_position_embeddings"]
    assert opened.model.config._attn_implementation == "retro"
    assert {weight.dtype for weight in opened.model.parameters()} == {torch.float32}
    assert not opened.model.training


@pytest.mark.parametrize("family", REFUSED)
def test_what_cannot_read_neighbors_is_refused_in_one_sentence(tmp_path: Path, family: str) -> None:
    make, words = REFUSED[family]
    folder = tmp_path / family
    if family in ("t5", "vit"):
        make().save_pretrained(folder)
    else:
        save_small_model(folder, make())

    with pytest.raises(ArtifactMismatchError, match=words) as error:
        open_base(folder, CPU)

    assert "Choose another model" in str(error.value)
    assert str(tmp_path) not in str(error.value)


def test_weights_that_can_run_code_are_refused(small: Path) -> None:
    (small / "model.safetensors").rename(small / "pytorch_model.bin")

    with pytest.raises(ArtifactMissingError, match="must hold its weights as safetensors"):
        open_base(small, CPU)


def test_code_of_the_hub_is_never_run(small: Path) -> None:
    code = '{"model_type": "unknown", "auto_map": {"AutoConfig": "evil.Config"}}'
    (small / "config.json").write_text(code)
    (small / "evil.py").write_text("raise SystemExit('ran')\n")

    with pytest.raises(ArtifactMismatchError, match="not a model that transformers knows"):
        open_base(small, CPU)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model_type": 3}'])
def test_a_damaged_config_is_no_model(small: Path, content: str) -> None:
    (small / "config.json").write_text(content)

    assert not is_base(small)
    with pytest.raises(ArtifactError):
        open_base(small, CPU)


def test_damaged_weights_are_said(small: Path) -> None:
    (small / "model.safetensors").write_bytes(b"nothing")

    with pytest.raises(ArtifactMismatchError, match="are damaged or do not fit"):
        open_base(small, CPU)


def test_a_model_that_does_not_fit_is_not_loaded(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "free_memory", lambda: 100_000)

    with pytest.raises(ArtifactMismatchError, match=r"needs 0\.0 GB of memory.*smaller model"):
        open_base(small, CPU)


def test_a_name_without_network_says_what_needs_none() -> None:
    with pytest.raises(ArtifactMissingError, match="smollm2-135m, which needs none"):
        find_base("nobody/nothing")
