"""The schedule is the one described, and weight decay reaches matrices only."""

import pytest
import torch

from retro import RETRO
from retro.config.training import TrainingConfig
from retro.training.optimizer import learning_rate, make_optimizer


def test_the_learning_rate_warms_up_and_falls_as_a_cosine() -> None:
    config = TrainingConfig(learning_rate=1.0, warmup_steps=10, max_steps=110)

    assert learning_rate(1, config) == pytest.approx(0.1)
    assert learning_rate(10, config) == 1.0
    assert learning_rate(60, config) == pytest.approx(0.55)
    assert learning_rate(110, config) == pytest.approx(0.1)
    rates = [learning_rate(step, config) for step in range(10, 111)]
    assert rates == sorted(rates, reverse=True)


def test_without_warmup_the_first_step_is_near_the_peak() -> None:
    config = TrainingConfig(learning_rate=1.0, warmup_steps=0, max_steps=1000)

    assert learning_rate(1, config) == pytest.approx(1.0, abs=1e-3)


def test_groups_follow_the_order_of_parameters_and_spare_embeddings_and_norms() -> None:
    model = RETRO(
        num_tokens=11, max_seq_len=8, chunk_size=4, enc_dim=8, dec_dim=12, heads=1, dim_head=8,
        dec_depth=1, dec_cross_attn_layers=(1,), gated_rmsnorm=True,
    )  # fmt: skip
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    decayed, plain = make_optimizer(model, TrainingConfig(weight_decay=0.3)).param_groups

    decayed_names = [names[id(parameter)] for parameter in decayed["params"]]
    plain_names = [names[id(parameter)] for parameter in plain["params"]]
    order = list(names.values())
    assert decayed_names == [name for name in order if name in set(decayed_names)]
    assert plain_names == [name for name in order if name in set(plain_names)]
    assert set(decayed_names) | set(plain_names) == set(order)
    assert "to_logits.weight" in decayed_names
    assert all(
        name == "token_embedding.weight" or "norm" in name or name.endswith("gate")
        for name in plain_names
    )
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)


def test_frozen_parameters_are_left_out() -> None:
    model = RETRO(
        num_tokens=11, max_seq_len=8, chunk_size=4, enc_dim=8, dec_dim=12, heads=1, dim_head=8,
        dec_depth=1, dec_cross_attn_layers=(1,),
    )  # fmt: skip
    model.requires_grad_(False)
    trained = model.decoder.layers[0].cca.attention.q_proj.weight.requires_grad_(True)
    before = {name: weight.clone() for name, weight in model.named_parameters()}

    optimizer = make_optimizer(model, TrainingConfig(weight_decay=0.3))
    model(torch.ones(1, 9).long(), torch.ones(1, 2, 1, 8).long(), return_loss=True).backward()
    optimizer.step()

    assert [group["params"] for group in optimizer.param_groups] == [[trained], []]
    changed = [name for name, weight in model.named_parameters() if (weight != before[name]).any()]
    assert changed == ["decoder.layers.0.cca.attention.q_proj.weight"]
