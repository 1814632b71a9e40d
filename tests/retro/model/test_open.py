"""One interface for every kind of model; the kind stands in the files, and older ones have none."""

import json
from pathlib import Path

import pytest
import torch

from retro import RETRO
from retro.config.model import ModelConfig
from retro.errors import ArtifactMismatchError, ConfigError, ShapeError
from retro.model import loss
from retro.model.kinds import SETTINGS, settings_from_dict
from retro.model.language_model import LanguageModel, Retrieved, TokenRows
from retro.model.open import new_model, open_checkpoint, open_saved

CPU = torch.device("cpu")
SIZES = ModelConfig(
    num_tokens=30,
    max_seq_len=16,
    chunk_size=4,
    enc_dim=16,
    enc_depth=1,
    dec_dim=24,
    dec_depth=2,
    dec_cross_attn_layers=(1, 2),
    heads=2,
    dim_head=8,
)


@pytest.fixture
def model() -> LanguageModel:
    torch.manual_seed(0)
    made = new_model("retro", SIZES, CPU)
    made.network.eval()
    return made


def test_a_model_tells_what_its_users_must_know(model: LanguageModel) -> None:
    assert isinstance(model, RETRO)
    assert (model.chunk_size, model.window, model.vocab_size) == (4, 16, 30)
    assert model.device == CPU
    assert model.network.to("meta") is model
    assert model.device.type == "meta"


def test_a_checkpoint_and_a_saved_model_give_the_same_weights(
    model: LanguageModel, tmp_path: Path
) -> None:
    model.save_weights(tmp_path)
    model.save_pretrained(tmp_path / "model")

    for opened in (
        open_checkpoint("retro", SIZES, tmp_path, CPU),
        open_saved(tmp_path / "model", CPU),
    ):
        assert not opened.network.training
        for name, weight in opened.network.state_dict().items():
            assert torch.equal(weight, model.network.state_dict()[name])


def test_the_kind_is_written_and_a_model_without_one_is_retro(
    model: LanguageModel, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings.pop("kind") == "retro"

    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert isinstance(open_saved(tmp_path, CPU), RETRO)
    assert RETRO.from_pretrained(tmp_path).config == SIZES
    # Saving there again replaces it; the folder is one of a model either way.
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {"kind": "retro", **settings}


@pytest.mark.parametrize("kind", ["gpt", 3, None, ["retro"]])
def test_a_kind_of_a_later_version_is_refused_by_name(
    model: LanguageModel, tmp_path: Path, kind: object
) -> None:
    model.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "kind": kind}))

    for opening in (lambda: open_saved(tmp_path, CPU), lambda: RETRO.from_pretrained(tmp_path)):
        with pytest.raises(
            ConfigError, match=r"kind must be one of retro, pretrained, got .*\. Open it with"
        ):
            opening()
    with pytest.raises(ConfigError, match="it belongs to something else"):
        model.save_pretrained(tmp_path)


def test_a_class_opens_models_of_its_own_kind_alone(
    model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "kind": "other"}))
    monkeypatch.setitem(SETTINGS, "other", ModelConfig)

    with pytest.raises(ArtifactMismatchError, match="of kind 'retro' to be opened as RETRO, got"):
        RETRO.from_pretrained(tmp_path)
    assert settings_from_dict("other", {"num_tokens": 9}).num_tokens == 9


def rows_and_retrieved() -> tuple[TokenRows, Retrieved]:
    torch.manual_seed(1)
    counted = torch.ones(2, 12, dtype=torch.bool)
    counted[1, 7:] = False
    exists = torch.ones(2, 3, 2, 8, dtype=torch.bool)
    exists[0, 1, :, 5:] = False
    exists[1, 2] = False
    rows = TokenRows(torch.randint(30, (2, 12)), torch.randint(5, (2, 12)), counted)
    return rows, Retrieved(torch.randint(30, (2, 3, 2, 8)), exists)


@torch.no_grad()
def test_what_exists_is_told_by_masks_and_the_padding_id_is_a_token_like_any_other(
    model: LanguageModel,
) -> None:
    rows, retrieved = rows_and_retrieved()
    assert isinstance(model, RETRO)
    assert (rows.labels_BT[rows.counted_BT] == model.pad_id).any()
    assert (retrieved.ids[retrieved.exists] == model.pad_id).any()

    losses = model.losses(rows, retrieved)
    mean = model.mean_loss(rows, retrieved)

    # What stands behind the masks says nothing.
    other = TokenRows(
        rows.tokens_BT, torch.where(rows.counted_BT, rows.labels_BT, 7), rows.counted_BT
    )
    hidden = Retrieved(torch.where(retrieved.exists, retrieved.ids, 9), retrieved.exists)
    torch.testing.assert_close(model.losses(other, hidden), losses)
    assert not losses[~rows.counted_BT].any()
    torch.testing.assert_close(mean, losses.sum() / rows.counted_BT.sum())
    # With another id for padding, where none is in the text, tensors alone say the same.
    for values, mask in ((rows.labels_BT, rows.counted_BT), (retrieved.ids, retrieved.exists)):
        values[mask & (values == 0)] = 1
        values[~mask] = 0
    torch.testing.assert_close(
        model.mean_loss(rows, retrieved),
        model(rows.tokens_BT, retrieved.ids, return_loss=True, labels=rows.labels_BT),
    )


def test_masks_of_another_shape_are_refused(model: LanguageModel) -> None:
    rows, _ = rows_and_retrieved()
    wrong = TokenRows(rows.tokens_BT, rows.labels_BT, rows.counted_BT[:, :5])

    with pytest.raises(ShapeError, match=r"counted must have the shape of the labels, \(2, 12\)"):
        model.mean_loss(wrong, None)


@pytest.mark.parametrize("block", [1, 100, 2**21])
@torch.inference_mode()
def test_tokens_are_scored_without_ever_holding_all_logits(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setitem(loss.BLOCK_LOGITS, "cpu", block)
    assert isinstance(model, RETRO)
    rows, retrieved = rows_and_retrieved()
    tokens = rows.tokens_BT
    sizes: list[int] = []
    model.to_logits.register_forward_hook(lambda _m, _x, logits: sizes.append(logits.numel()))

    said = model.predict(tokens, model.new_cache(2), retrieved, num_scored=8)

    assert max(sizes) <= max(block, tokens.shape[0] * 30)
    expected = model(tokens, retrieved).double().log_softmax(-1)
    scored = expected[:, -9:-1].gather(-1, tokens[:, -8:, None])[..., 0]
    torch.testing.assert_close(said.logprob_NT, scored, atol=1e-5, rtol=0)
    found = said.logits_NV.double().log_softmax(-1)
    torch.testing.assert_close(found, expected[:, -1], atol=1e-5, rtol=0)
    # Nobody asks, nothing but the last place is computed.
    sizes.clear()
    said = model.predict(tokens, model.new_cache(2), retrieved)
    assert sizes == [2 * 30]
    assert said.logprob_NT.shape == (2, 0)
