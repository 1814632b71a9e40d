"""Cross-entropy of a linear output layer, computed without ever holding all logits.

With a vocabulary of 8,192 the logits of four sequences of 512 tokens take 64 MB, their
logarithms and gradients as much again. Here a block of rows is projected, compared with its
labels and turned into gradients before the next block is looked at.

Shape suffixes: N rows (tokens; of ``score_tokens`` texts), T tokens, D width, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from retro.model.linear import linear

BLOCK_LOGITS = {"cpu": 2**21, "cuda": 2**27}
"""Logits per block: what stays in the cache of a CPU, and what fills a GPU."""


def linear_cross_entropy(
    x_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, counted_N: Tensor
) -> Tensor:
    """Return the sum of the cross-entropies of ``x_ND @ weight_VD.T``.

    Under autocast the products are computed in its number format, everything else in float32.

    Args:
        x_ND: States, (rows, width).
        weight_VD: Output layer, (vocabulary, width).
        labels_N: The right token of each row, (rows,).
        counted_N: True for the rows that count, (rows,); the others have any label.

    Returns:
        Sum over rows in nats, a scalar of float32 (float64 for float64 input).
    """
    device = x_ND.device.type
    dtype = x_ND.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    with torch.autocast(device, enabled=False):
        loss: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]  # torch
            x_ND.to(dtype), weight_VD, labels_N, counted_N
        )
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    """Computes the gradients of a unit loss together with the loss, block by block."""

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, counted_N: Tensor
    ) -> Tensor:
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        matrix_VD = weight_VD.to(x_ND.dtype)
        exact = torch.promote_types(x_ND.dtype, torch.float32)
        x_gradient_ND = torch.empty_like(x_ND) if needs_x else None
        weight_gradient_VD = torch.zeros_like(weight_VD) if needs_weight else None
        total = torch.zeros((), dtype=exact, device=x_ND.device)
        rows_per_block = max(1, BLOCK_LOGITS.get(x_ND.device.type, 2**21) // len(weight_VD))
        for start in range(0, len(x_ND), rows_per_block):
            rows = slice(start, start + rows_per_block)
            labels_N1 = labels_N[rows, None]
            counted_N1 = counted_N[rows, None]
            logits_NV = linear(x_ND[rows], matrix_VD).to(exact)
            normalizer_N1 = logits_NV.logsumexp(-1, keepdim=True)
            losses_N1 = normalizer_N1 - logits_NV.gather(-1, labels_N1)
            total += (losses_N1 * counted_N1).sum()
            if not (needs_x or needs_weight):
                continue
            gradient_NV = logits_NV.sub_(normalizer_N1).exp_()
            gradient_NV.scatter_add_(-1, labels_N1, -torch.ones_like(losses_N1))
            gradient_NV = gradient_NV.mul_(counted_N1).to(x_ND.dtype)
            if x_gradient_ND is not None:
                x_gradient_ND[rows] = linear(gradient_NV, matrix_VD.T)
            if weight_gradient_VD is not None:
                weight_gradient_VD += linear(gradient_NV.T, x_ND[rows].T)
        ctx.save_for_backward(x_gradient_ND, weight_gradient_VD)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x_gradient_ND, weight_gradient_VD = ctx.saved_tensors
        if x_gradient_ND is not None:
            x_gradient_ND = x_gradient_ND * gradient.to(x_gradient_ND.dtype)
        if weight_gradient_VD is not None:
            weight_gradient_VD = weight_gradient_VD * gradient.to(weight_gradient_VD.dtype)
        return x_gradient_ND, weight_gradient_VD, None, None


def score_tokens(x_NTD: Tensor, tokens_NT: Tensor, to_logits: nn.Linear) -> tuple[Tensor, Tensor]:
    """Return the logits after the last place, and how likely given tokens were before it.

    All logits of a long text would take more memory than the model; here only a block of them is
    there at a time.

    Args:
        x_NTD: States of one place more than there are tokens, (texts, tokens + 1, width).
        tokens_NT: The token after each place but the last, (texts, tokens).
        to_logits: Output layer.

    Returns:
        Logits, (texts, vocabulary), and log-probabilities in nats, float64, (texts, tokens).
    """
    num_texts, num_places, _ = x_NTD.shape
    row_logits = num_texts * to_logits.out_features
    places_per_block = max(1, BLOCK_LOGITS.get(x_NTD.device.type, 2**21) // row_logits)
    parts: list[Tensor] = []
    for start in range(0, num_places, places_per_block):
        logits_NTV = to_logits(x_NTD[:, start : start + places_per_block])
        wanted_NT1 = tokens_NT[:, start : start + places_per_block, None].long()
        scored_NTV = logits_NTV[:, : wanted_NT1.shape[1]].float()
        highest_NT1 = scored_NTV.amax(-1, keepdim=True)
        total_NT1 = (scored_NTV - highest_NT1).exp_().sum(-1, keepdim=True, dtype=torch.float64)
        chosen_NT1 = scored_NTV.gather(-1, wanted_NT1)
        parts.append((chosen_NT1.double() - highest_NT1.double() - total_NT1.log())[..., 0])
    return logits_NTV[:, -1], torch.cat(parts, 1)
