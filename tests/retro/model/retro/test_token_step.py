"""Single tokens read in NumPy give what the model itself gives, for every kind of model."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from retro import RETRO
from retro.model.language_model import Retrieved
from retro.model.linear import Linear
from retro.model.retro import token_step
from retro.model.retro.decoder import DecoderLayer
from retro.model.retro.token_layers import gelu
from retro.model.retro.token_step import TokenStep, suits_token_step

SIZES = {
    "num_tokens": 50,
    "max_seq_len": 32,
    "chunk_size": 4,
    "enc_dim": 16,
    "enc_depth": 2,
    "dec_dim": 24,
    "dec_depth": 3,
    "dec_cross_attn_layers": (1, 3),
    "heads": 2,
    "dim_head": 8,
}
LENGTH = 23
KINDS = [
    {},
    {"gated_rmsnorm": True},
    {"use_deepnet": True},
    {"use_deepnet": True, "gated_rmsnorm": True},
    {"tie_embeddings": True, "separate_encoder_embedding": True},
    {"dec_cross_attn_layers": (2,), "enc_dim": 24},
]


def make_model(**changes: object) -> RETRO:
    torch.manual_seed(0)
    model = RETRO(**{**SIZES, **changes})
    # Norm weights of one would hide a norm that forgets them.
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return model.eval()


def read_single_tokens(
    model: RETRO, seq: torch.Tensor, retrieved: torch.Tensor | None, padding: int, given: int = 0
) -> tuple[torch.Tensor, list[np.ndarray | None]]:
    """Let the model read the first tokens, then read the others one by one, in NumPy."""
    step = TokenStep(model)
    cache = model.new_cache(1, left_padding=padding)
    if given:
        found = None if retrieved is None else retrieved[:, : (padding + given) // 4]
        model.read(seq[:, :given], cache, found)
    own = step.take_over(cache)
    logits, shares = [], []
    for t in range(given, seq.shape[1]):
        place = padding + t
        ends = retrieved is not None and (place + 1) % 4 == 0
        values = None
        if ends and retrieved is not None:
            ids = retrieved[:, place // 4][:, None]
            values = Retrieved(ids, ids != 0)
        logits.append(torch.from_numpy(step.read(int(seq[0, t]), own, values)))
        shares.append(own.shares())
    assert own.num_tokens == seq.shape[1]
    assert cache.num_tokens == given
    return torch.stack(logits)[None], shares


def random_text(padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    seq = torch.randint(1, 50, (1, LENGTH))
    retrieved = torch.randint(1, 50, (1, (LENGTH + padding) // 4, 2, 8))
    # A shorter neighbor; a chunk without any; one with a single neighbor.
    retrieved[:, 0, 1, 5:] = 0
    retrieved[:, 2] = 0
    retrieved[:, 3, 1] = 0
    return seq, retrieved


@pytest.mark.parametrize("kind", KINDS, ids=[",".join(kind) or "plain" for kind in KINDS])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("given", [0, 1, 6, 9])
@torch.inference_mode()
def test_logits_are_those_of_the_full_forward_pass(
    kind: dict[str, object], padding: int, given: int
) -> None:
    model = make_model(**kind)
    seq, retrieved = random_text(padding)

    logits, _ = read_single_tokens(model, seq, retrieved, padding, given)

    expected = model(seq, retrieved, left_padding=padding)[:, given:]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS[:2], ids=["plain", "gated"])
@torch.inference_mode()
def test_states_near_zero_are_normed_alike(kind: dict[str, object]) -> None:
    model = make_model(**kind)
    model.token_embedding.weight.data *= 1e-4
    seq, retrieved = random_text(0)

    logits, _ = read_single_tokens(model, seq, retrieved, 0)

    torch.testing.assert_close(logits, model(seq, retrieved), rtol=0, atol=1e-4)


@pytest.mark.parametrize("given", [0, 7])
@torch.inference_mode()
def test_logits_without_retrieval(given: int) -> None:
    model = make_model()
    seq, _ = random_text(1)

    logits, shares = read_single_tokens(model, seq, None, 1, given)

    expected = model(seq, left_padding=1)[:, given:]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    assert shares == [None] * (LENGTH - given)


@torch.inference_mode()
def test_a_model_without_cross_attention_is_read_too() -> None:
    model = make_model(dec_cross_attn_layers=())
    seq, retrieved = random_text(0)

    logits, shares = read_single_tokens(model, seq, retrieved, 0, 5)

    torch.testing.assert_close(logits, model(seq)[:, 5:], rtol=0, atol=1e-4)
    assert shares == [None] * (LENGTH - 5)


@pytest.mark.parametrize(("padding", "given"), [(0, 0), (2, 0), (2, 9)])
@torch.inference_mode()
def test_shares_of_attention_are_those_of_reading_all_at_once(padding: int, given: int) -> None:
    model = make_model()
    seq, retrieved = random_text(padding)
    cache = model.new_cache(1, left_padding=padding, keeps_shares=True)
    model.read(seq, cache, retrieved)
    together = cache.share_BTK2
    assert together is not None

    _, shares = read_single_tokens(model, seq, retrieved, padding, given)

    checked = 0
    for t, share in enumerate(shares, start=given):
        if share is None:
            assert not together[0, t].any()
            continue
        np.testing.assert_allclose(share, together[0, t].numpy(), atol=1e-6)
        checked += bool(share.any())
    assert checked > 6


@torch.inference_mode()
def test_shares_add_up_to_one_and_padding_gets_none() -> None:
    model = make_model()
    seq, retrieved = random_text(0)
    cache = model.new_cache(1, keeps_shares=True)
    model.read(seq, cache, retrieved)
    share = cache.share_BTK2
    assert share is not None

    sums = share.sum((-1, -2))[0]
    # Chunk 2 has no neighbors.
    expected = torch.tensor([float(3 <= t < 11 or t >= 15) for t in range(LENGTH)])
    torch.testing.assert_close(sums, expected)
    # The second neighbor of the first chunk has five tokens: one of its continuation.
    assert (share[0, 3:7, 1, 1] > 0).all()
    retrieved[:, 0, 1, 4:] = 0
    cache = model.new_cache(1, keeps_shares=True)
    model.read(seq, cache, retrieved)
    assert cache.share_BTK2 is not None
    assert not cache.share_BTK2[0, 3:7, 1, 1].any()


@torch.inference_mode()
def test_rows_of_a_cache_go_on_by_themselves() -> None:
    model = make_model()
    seq = torch.randint(1, 50, (3, 11))
    retrieved = torch.randint(1, 50, (3, 2, 2, 8))
    cache = model.new_cache(3)
    model.read(seq[:, :10], cache, retrieved)

    chosen = cache.rows(torch.tensor([2, 0, 0]))
    logits = model.read(seq[[2, 0, 0], 10:], chosen)

    whole = model(seq, retrieved)[:, -1]
    torch.testing.assert_close(logits, whole[[2, 0, 0]], rtol=0, atol=1e-4)
    assert (cache.num_tokens, chosen.num_tokens) == (10, 11)


@torch.inference_mode()
def test_texts_that_go_on_from_one_cache_leave_each_other_alone() -> None:
    model = make_model()
    seq, retrieved = random_text(0)
    step = TokenStep(model)
    cache = model.new_cache(1)
    model.read(seq[:, :6], cache, retrieved[:, :1])
    others = 1 + seq % 49
    texts = (seq, others)
    caches = [step.take_over(cache) for _ in texts]

    found = []
    for t in range(6, 11):
        values = Retrieved(retrieved[:, 1:2], retrieved[:, 1:2] != 0) if t == 7 else None
        for text, own in zip(texts, caches, strict=True):
            found.append(step.read(int(text[0, t]), own, values))

    for row, text in enumerate(texts):
        whole = torch.cat((seq[:, :6], text[:, 6:11]), 1)
        expected = model(whole, retrieved[:, :2])[0, 6:]
        np.testing.assert_allclose(np.stack(found[row::2]), expected.numpy(), atol=1e-4)


def test_the_gelu_is_exact_to_single_precision() -> None:
    x = torch.linspace(-12, 12, 100_001)

    found = gelu(x.numpy())

    np.testing.assert_allclose(found, F.gelu(x.double()).numpy(), atol=5e-7)
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found[-1] == pytest.approx(12)


def test_only_models_in_float32_on_a_cpu_are_read_in_numpy() -> None:
    assert suits_token_step(make_model())
    assert not suits_token_step(make_model().bfloat16())
    assert not suits_token_step(make_model().double())
    assert not suits_token_step(make_model().to("meta"))


class Gate(torch.nn.Module):
    """A sublayer that nobody has written out for NumPy."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x


class DoubledLayer(DecoderLayer):
    """A layer that computes something else."""

    def feed(self, x_BTD: torch.Tensor) -> torch.Tensor:
        return super().feed(super().feed(x_BTD))


class Adapter(torch.nn.Module):
    """A linear layer and a correction of it, as adapters are put around layers."""

    def __init__(self, base: torch.nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.weight = base.weight
        self.correction = torch.nn.Parameter(torch.ones_like(base.weight))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + x @ self.correction.T


def add_sublayer(model: RETRO) -> None:
    model.decoder.layers[0].gate = Gate()


def add_weight(model: RETRO) -> None:
    model.decoder.layers[1].scale = torch.nn.Parameter(torch.ones(24))


def add_to_the_end(model: RETRO) -> None:
    model.head = Linear(24, 24)


def replace_layer(model: RETRO) -> None:
    model.decoder.layers[0].__class__ = DoubledLayer


def adapt_output(model: RETRO) -> None:
    model.to_logits = Adapter(model.to_logits)


def adapt_attention(model: RETRO) -> None:
    attention = model.decoder.layers[2].attention
    attention.v_proj = Adapter(attention.v_proj)


def add_bias(model: RETRO) -> None:
    model.decoder.layers[0].feed_forward.up_proj.bias = torch.nn.Parameter(torch.ones(96))


def hook(model: RETRO) -> None:
    model.decoder.layers[0].feed_forward.register_forward_hook(lambda _m, _x, y: 2 * y)


@pytest.mark.parametrize(
    "change",
    [
        add_sublayer,
        add_weight,
        add_to_the_end,
        replace_layer,
        adapt_output,
        adapt_attention,
        add_bias,
        hook,
    ],
    ids=lambda change: change.__name__,
)
def test_a_network_with_a_part_that_numpy_does_not_know_is_read_by_torch(
    change: Callable[[RETRO], None],
) -> None:
    model = make_model()
    assert isinstance(model.token_reader(), TokenStep)

    change(model)

    assert model.token_reader() is None
    with pytest.raises(AssertionError, match="would be passed over"):
        TokenStep(model)


def test_the_neighbor_encoder_may_be_anything_as_it_reads_by_itself() -> None:
    model = make_model()
    assert model.decoder.encoder is not None
    model.decoder.encoder.extra = Gate()

    assert model.token_reader() is not None


def test_no_second_copy_is_made_of_a_large_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    num_bytes = 4 * sum(weight.numel() for weight in model.parameters())

    monkeypatch.setattr(token_step, "LARGEST_COPY", num_bytes)
    assert suits_token_step(model)
    monkeypatch.setattr(token_step, "LARGEST_COPY", num_bytes - 1)
    assert not suits_token_step(model)


@torch.inference_mode()
def test_positions_beyond_the_table_are_computed() -> None:
    model = make_model()
    seq = torch.randint(1, 50, (1, 70))
    step = TokenStep(model)
    cache = step.take_over(model.new_cache(1, max_tokens=80))
    found = [step.read(token, cache) for token in seq[0].tolist()]

    again = model.new_cache(1, max_tokens=80)
    expected = model.read(seq, again, all_logits=True)[0]
    np.testing.assert_allclose(np.stack(found), expected.numpy(), atol=1e-4)
