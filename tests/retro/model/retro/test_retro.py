"""The whole network: against the literal reference, and the properties of the paper."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from retro import RETRO
from retro.errors import ConfigError, ShapeError
from retro.model.layers import Residual
from tests.retro.model.retro.reference import reference_logits

CHUNK, VOCABULARY = 4, 23
SIZES: dict[str, Any] = {
    "num_tokens": VOCABULARY,
    "max_seq_len": 20,
    "chunk_size": CHUNK,
    "enc_dim": 6,
    "enc_depth": 2,
    "enc_cross_attn_layers": (1,),
    "dec_dim": 10,
    "dec_depth": 3,
    "dec_cross_attn_layers": (2, 3),
    "heads": 3,
    "dim_head": 8,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deepnet": {"use_deepnet": True},
    "gated": {"gated_rmsnorm": True},
    "tied, one width, cross-attention in all encoder layers": {
        "tie_embeddings": True,
        "enc_dim": 10,
        "enc_cross_attn_layers": None,
    },
    "deepnet, gated": {"use_deepnet": True, "gated_rmsnorm": True},
    "the encoder has its own embedding": {"separate_encoder_embedding": True},
    "first layer reads neighbors": {"dec_cross_attn_layers": (1, 3), "enc_cross_attn_layers": (2,)},
}


def make_model(**changes: Any) -> RETRO:
    torch.manual_seed(0)
    model = RETRO(**{**SIZES, **changes}).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def make_inputs(tokens: int, *, batch: int = 1, neighbors: int = 2) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(1)
    seq = torch.randint(1, VOCABULARY, (batch, tokens), generator=generator)
    size = (batch, tokens // CHUNK, neighbors, 2 * CHUNK)
    return seq, torch.randint(1, VOCABULARY, size, generator=generator)


SHORT = {
    ("plain", 0),
    ("deepnet, gated", 3),
    ("tied, one width, cross-attention in all encoder layers", 3),
    ("the encoder has its own embedding", 0),
    ("first layer reads neighbors", 3),
}
"""Each part of the network once; every variant with and without padding is for the sweep."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "left_padding"),
    [
        pytest.param(name, padding, marks=() if (name, padding) in SHORT else pytest.mark.sweep)
        for name in VARIANTS
        for padding in (0, 3)
    ],
)
def test_forward_and_gradients_agree_with_the_literal_reference(
    variant: str, left_padding: int
) -> None:
    model = make_model(**VARIANTS[variant]).double()
    seq, _ = make_inputs(13)
    chunks = (13 + left_padding) // CHUNK
    retrieved = torch.randint(1, VOCABULARY, (1, chunks, 2, 2 * CHUNK))
    retrieved[0, 0, 1, 3:] = 0  # a continuation that ends early
    retrieved[0, 1, 0] = 0  # one neighbor missing
    retrieved[0, 2] = 0  # no neighbor at all
    weights = {k: v.detach().clone().requires_grad_() for k, v in model.state_dict().items()}
    if model.config.tie_embeddings:
        weights["to_logits.weight"] = weights["token_embedding.weight"]

    expected = reference_logits(
        weights, model.config, seq[0].tolist(), retrieved[0].tolist(), left_padding
    )
    found = model(seq, retrieved, left_padding=left_padding)[0]

    # Rotary angles are float32 in the model and float64 in the reference.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    direction = torch.randn_like(expected)
    (expected * direction).sum().backward()
    (found * direction).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            parameter.grad, weights[name].grad, rtol=0, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("retrieval", [True, False])
@pytest.mark.parametrize("changed", [0, 3, 4, 7, 12])
def test_a_token_changes_no_logit_before_it(changed: int, retrieval: bool) -> None:
    model = make_model()
    seq, retrieved = make_inputs(14)
    neighbors = retrieved if retrieval else None
    before = model(seq, neighbors)

    seq[0, changed] = seq[0, changed] % (VOCABULARY - 1) + 1
    moved = (model(seq, neighbors) - before).abs().sum(-1)[0].nonzero().flatten().tolist()

    assert moved == list(range(changed, 14))


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_neighbors_change_no_logit_before_the_last_token_of_their_chunk(changed: int) -> None:
    model = make_model()
    seq, retrieved = make_inputs(14)
    before = model(seq, retrieved)

    retrieved[:, changed] = retrieved[:, changed].flip(-1)
    moved = (model(seq, retrieved) - before).abs().sum(-1)[0].nonzero().flatten().tolist()

    assert moved == list(range((changed + 1) * CHUNK - 1, 14))


@pytest.mark.parametrize("use_deepnet", [False, True])
def test_retrieval_on_equals_off_before_the_first_chunk_is_complete(use_deepnet: bool) -> None:
    model = make_model(use_deepnet=use_deepnet)
    seq, retrieved = make_inputs(14)

    difference = (model(seq, retrieved) - model(seq)).abs().sum(-1)[0]

    assert (difference[: CHUNK - 1] == 0).all()
    assert (difference[CHUNK - 1 :] > 0).all()


@pytest.mark.parametrize("use_deepnet", [False, True])
def test_missing_neighbors_equal_retrieval_off(use_deepnet: bool) -> None:
    model = make_model(use_deepnet=use_deepnet)
    seq, retrieved = make_inputs(14)

    assert torch.equal(model(seq, torch.zeros_like(retrieved)), model(seq))


def test_the_order_of_neighbors_does_not_matter() -> None:
    model = make_model()
    seq, retrieved = make_inputs(14, neighbors=3)

    permuted = retrieved[:, :, [2, 0, 1]]

    torch.testing.assert_close(model(seq, permuted), model(seq, retrieved), rtol=0, atol=1e-5)


def test_one_neighbor_may_come_without_its_dimension() -> None:
    model = make_model()
    seq, retrieved = make_inputs(14, neighbors=1)

    assert torch.equal(model(seq, retrieved[:, :, 0]), model(seq, retrieved))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("left_padding", [0, 1, 3])
@pytest.mark.parametrize("first", [1, 4, 6, 13])
def test_reading_with_a_cache_equals_reading_at_once(
    variant: str, left_padding: int, first: int
) -> None:
    model = make_model(**VARIANTS[variant])
    seq, _ = make_inputs(18, batch=2)
    retrieved = torch.randint(1, VOCABULARY, (2, (18 + left_padding) // CHUNK, 2, 2 * CHUNK))
    retrieved[1, 1] = 0
    expected = model(seq, retrieved, left_padding=left_padding)

    cache = model.new_cache(2, left_padding=left_padding)
    found, done = [], 0
    for start, stop in [(0, first), *((t, t + 1) for t in range(first, 18))]:
        finished = (stop + left_padding) // CHUNK
        values = retrieved[:, done:finished] if finished > done else None
        found.append(model.read(seq[:, start:stop], cache, values, all_logits=True))
        done = finished

    torch.testing.assert_close(torch.cat(found, 1), expected, rtol=0, atol=1e-5)
    assert done >= 3


def test_a_chunk_without_neighbors_ends_what_the_chunk_before_had() -> None:
    model = make_model()
    seq, retrieved = make_inputs(12)
    with_gap = retrieved.clone()
    with_gap[:, 1] = 0
    expected = model(seq, with_gap)

    cache = model.new_cache(1)
    parts = [
        model.read(seq[:, :4], cache, retrieved[:, :1], all_logits=True),
        model.read(seq[:, 4:8], cache, None, all_logits=True),
        model.read(seq[:, 8:], cache, retrieved[:, 2:], all_logits=True),
    ]

    torch.testing.assert_close(torch.cat(parts, 1), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("retrieval", [True, False])
def test_loss_ignores_padding_in_every_mode(training: bool, retrieval: bool) -> None:
    model = make_model().train(training)
    seq, retrieved = make_inputs(13, batch=2)
    seq[1, 6:] = 0
    neighbors = retrieved if retrieval else None

    loss = model(seq, neighbors, return_loss=True)

    log_probabilities = model(seq[:, :-1], neighbors).log_softmax(-1)
    labels = seq[:, 1:]
    picked = log_probabilities.gather(-1, labels[..., None])[..., 0][labels != 0]
    assert len(picked) == 12 + 5
    torch.testing.assert_close(loss, -picked.mean())


def test_a_batch_of_padding_has_a_finite_loss() -> None:
    loss = make_model()(torch.zeros(2, 9, dtype=torch.long), return_loss=True)

    assert loss.item() == 0.0


def test_swapped_neighbors_change_the_loss() -> None:
    model = make_model()
    seq, retrieved = make_inputs(17, batch=2)

    swapped = model(seq, retrieved.flip(0), return_loss=True)

    assert swapped != model(seq, retrieved, return_loss=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("heads", 2),
        ("dim_head", 16),
        ("enc_depth", 3),
        ("enc_dim", 8),
        ("dec_dim", 12),
        ("dec_depth", 4),
        ("enc_cross_attn_layers", (1, 2)),
        ("dec_cross_attn_layers", (3,)),
        ("num_tokens", 29),
        ("use_deepnet", True),
        ("gated_rmsnorm", True),
        ("tie_embeddings", True),
        ("separate_encoder_embedding", True),
    ],
)
def test_every_size_changes_the_parameters(name: str, value: object) -> None:
    shapes = [tuple(p.shape) for p in RETRO(**SIZES).parameters()]

    assert [tuple(p.shape) for p in RETRO(**{**SIZES, name: value}).parameters()] != shapes


@pytest.mark.parametrize(
    "name", ["enc_attn_dropout", "enc_ff_dropout", "dec_attn_dropout", "dec_ff_dropout"]
)
def test_every_dropout_acts_in_training_only(name: str) -> None:
    model = make_model(**{name: 0.5})
    seq, retrieved = make_inputs(14)

    assert torch.equal(model(seq, retrieved), make_model()(seq, retrieved))
    model.train()
    assert not torch.equal(model(seq, retrieved), model(seq, retrieved))


def test_deepnet_constants_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    gains: dict[int, float] = {}
    original = torch.nn.init.xavier_normal_

    def record(tensor: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
        gains[id(tensor)] = gain
        return original(tensor, gain=gain)

    monkeypatch.setattr(torch.nn.init, "xavier_normal_", record)
    model = RETRO(**{**SIZES, "use_deepnet": True})

    # Decoder of 3 layers, 2 of them with CCA: 8 sublayers. Encoder of 2 layers.
    alpha, beta = 8**0.25, 32**-0.25
    enc_alpha, enc_beta = 0.81 * 48 ** (1 / 16), 0.87 * 48 ** (-1 / 16)
    for part, a, b in (
        (model.decoder.layers, alpha, beta),
        (model.decoder.encoder, enc_alpha, enc_beta),
    ):
        assert part is not None
        scales = [m.alpha for m in part.modules() if isinstance(m, Residual)]
        assert scales == pytest.approx([a] * len(scales), abs=1e-6)
        for name, parameter in part.named_parameters():
            if parameter.ndim == 2:
                expected = 1.0 if "q_proj" in name or "k_proj" in name else b
                assert gains[id(parameter)] == pytest.approx(expected, abs=1e-6), name


def test_the_first_predictions_are_nearly_even() -> None:
    torch.manual_seed(0)
    model = RETRO(num_tokens=500, max_seq_len=64, chunk_size=16, enc_dim=64, dec_dim=96,
                  dec_depth=3, dec_cross_attn_layers=(2,), heads=3, dim_head=32)  # fmt: skip
    seq = torch.randint(1, 500, (4, 65))
    retrieved = torch.randint(1, 500, (4, 4, 2, 32))

    loss = model(seq, retrieved, return_loss=True).item()

    assert loss == pytest.approx(torch.tensor(500.0).log().item(), abs=0.1)


@pytest.mark.parametrize(
    ("seq", "retrieved", "message"),
    [
        (torch.ones(14, dtype=torch.long), None, r"\(batch, tokens\), got \(14,\)"),
        ("some text", None, "seq must be a tensor of token ids.* got 'some text'"),
        (torch.ones(1, 21, dtype=torch.long), None, "max_seq_len = 20 tokens, got 21"),
        (torch.full((1, 5), VOCABULARY), None, "below num_tokens = 23, got 23"),
        (torch.full((1, 5), -2), None, "got -2"),
        (torch.ones(1, 5), None, "must be integers, got torch.float32"),
        (
            torch.ones(1, 8, dtype=torch.long),
            torch.ones(1, 3, 2, 8, dtype=torch.long),
            r"chunks 2 for 8 tokens, got \(1, 3, 2, 8\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(seq: Any, retrieved: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        make_model()(seq, retrieved)


def test_unknown_arguments_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"no setting 'dec_dept'\. Did you mean 'dec_depth'"):
        RETRO(**SIZES, dec_dept=2)


def test_save_and_load_keep_weights_and_settings(tmp_path: Path) -> None:
    model = make_model(tie_embeddings=True)
    seq, retrieved = make_inputs(14)

    model.save_pretrained(tmp_path)
    loaded = RETRO.from_pretrained(str(tmp_path)).eval()

    assert loaded.config == model.config
    assert torch.equal(loaded(seq, retrieved), model(seq, retrieved))
    assert json.loads((tmp_path / "config.json").read_text())["heads"] == 3
    assert (tmp_path / "model.safetensors").exists()
