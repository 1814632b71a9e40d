"""Fused attention against explicit products, forward and backward, in the shapes of `small`."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.timing import medians, print_table
from retro.device import default_device

SHAPES = {
    "decoder, causal": ((4, 8, 512, 32), 512, True),
    "encoder": ((64, 8, 128, 32), 128, False),
    "cross-attention": ((32, 8, 64, 32), 256, False),
}


def explicit(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, causal: bool) -> Tensor:  # noqa: ARG001
    score = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return score.masked_fill(~mask, float("-inf")).softmax(-1) @ v


def fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, causal: bool) -> Tensor:
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=None if causal else mask, is_causal=causal
    )


def step(attend: Callable[..., Tensor], *inputs: Tensor, causal: bool) -> None:
    attend(*inputs, causal).sum().backward()
    if inputs[0].device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    device = default_device()
    rows: list[list[object]] = []
    for dtype in (torch.float32, torch.bfloat16):
        for name, (shape, read, causal) in SHAPES.items():
            q, k, v = (
                torch.randn(
                    *shape[:2], tokens, shape[3], dtype=dtype, device=device, requires_grad=True
                )
                for tokens in (shape[2], read, read)
            )
            mask = torch.ones(shape[2], read, dtype=torch.bool, device=device)
            inputs = (q, k, v, mask.tril() if causal else mask)
            seconds = medians(
                {
                    "fused": partial(step, fused, *inputs, causal=causal),
                    "explicit": partial(step, explicit, *inputs, causal=causal),
                },
                rounds=15,
            )
            rows.append(
                [
                    device.type,
                    str(dtype).removeprefix("torch."),
                    name,
                    f"{seconds['fused'] * 1e3:.1f}",
                    f"{seconds['explicit'] * 1e3:.1f}",
                    f"{seconds['fused'] / seconds['explicit']:.2f}",
                ]
            )
    print_table(
        ["device", "format", "shape", "fused, ms", "explicit, ms", "fused / explicit"], rows
    )
