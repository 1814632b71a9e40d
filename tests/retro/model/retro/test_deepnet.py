"""DeepNorm trains stacks that plain post-normalisation cannot (arXiv:2203.00555)."""

import math

import pytest
import torch

from retro import RETRO
from retro.model.layers import Residual
from retro.model.retro.initial import initialize_deepnorm

LAYERS, VOCABULARY = 48, 32


def final_loss(*, scaled: bool, steps: int = 22) -> float:
    """Train a narrow model of 48 layers without warm-up; return its mean last losses."""
    torch.manual_seed(0)
    model = RETRO(num_tokens=VOCABULARY, max_seq_len=16, chunk_size=8, enc_dim=16, enc_depth=1,
                  dec_dim=16, dec_depth=LAYERS, dec_cross_attn_layers=(24, 48), heads=2,
                  dim_head=8, use_deepnet=True)  # fmt: skip
    if not scaled:
        for module in model.modules():
            if isinstance(module, Residual):
                module.alpha = 1.0
        initialize_deepnorm(model.decoder, 1.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    # Each token follows from the one before.
    follows = torch.randperm(VOCABULARY - 1) + 1
    losses = []
    for _ in range(steps):
        seq = torch.randint(1, VOCABULARY, (16, 1))
        for _ in range(16):
            seq = torch.cat((seq, follows[seq[:, -1:] - 1]), 1)
        retrieved = torch.randint(1, VOCABULARY, (16, 2, 1, 16))
        loss = model(seq, retrieved, return_loss=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-5:]) / 5


@pytest.mark.slow
def test_48_layers_learn_without_warm_up_and_plain_post_norm_does_not() -> None:
    uniform = math.log(VOCABULARY - 1)

    assert final_loss(scaled=True) < 0.5 * uniform
    assert final_loss(scaled=False) > 0.9 * uniform
