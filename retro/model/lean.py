"""Functions that keep less for the gradient than their parts would.

Shape suffixes: N rows (in any number of dimensions), I inner width, D width. A trailing 1 is
broadcast over the width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from retro.model.linear import linear

NORM_EPSILON = 1e-6


def gelu_linear(x_NI: Tensor, weight_DI: Tensor) -> Tensor:
    """Return ``gelu(x_NI) @ weight_DI.T``; only ``x_NI`` is kept, the GELU is computed again."""
    result: Tensor = _GeluLinear.apply(x_NI, weight_DI)  # type: ignore[no-untyped-call]  # torch
    return result


class _GeluLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NI: Tensor, weight_DI: Tensor) -> Tensor:
        ctx.save_for_backward(x_NI, weight_DI)
        return linear(F.gelu(x_NI), weight_DI)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_ND: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x_NI, weight_DI = ctx.saved_tensors
        # Under autocast the product was computed in the format of its result.
        dtype = gradient_ND.dtype
        x_gradient_NI = weight_gradient_DI = None
        if ctx.needs_input_grad[0]:
            inner_NI = linear(gradient_ND, weight_DI.to(dtype).t())
            x_gradient_NI = torch.ops.aten.gelu_backward(inner_NI, x_NI.to(dtype)).to(x_NI.dtype)
        if ctx.needs_input_grad[1]:
            rows_ND, rows_NI = gradient_ND.flatten(0, -2), F.gelu(x_NI).to(dtype).flatten(0, -2)
            weight_gradient_DI = linear(rows_ND.t(), rows_NI.t()).to(weight_DI.dtype)
        return x_gradient_NI, weight_gradient_DI


def rms_norm(x_ND: Tensor, weight_D: Tensor) -> Tensor:
    """Return ``x_ND`` divided by its root mean square and scaled, as ``F.rms_norm`` does.

    For CPUs, where torch composes it of six steps that each keep their result.
    """
    result: Tensor = _RMSNorm.apply(x_ND, weight_D)  # type: ignore[no-untyped-call]  # torch
    return result


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_D: Tensor) -> Tensor:
        exact = torch.promote_types(x_ND.dtype, torch.float32)
        norm_N1 = torch.linalg.vector_norm(x_ND, dim=-1, keepdim=True, dtype=exact)
        scale_N1 = norm_N1.square_().div_(x_ND.shape[-1]).add_(NORM_EPSILON).rsqrt_()
        ctx.save_for_backward(x_ND, weight_D, scale_N1)
        return (x_ND * scale_N1).mul_(weight_D).to(x_ND.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_ND: Tensor) -> tuple[Tensor, Tensor]:
        x_ND, weight_D, scale_N1 = ctx.saved_tensors
        normed_ND = x_ND * scale_N1
        weight_gradient_D = (gradient_ND * normed_ND).flatten(0, -2).sum(0)
        x_gradient_ND = gradient_ND * weight_D
        mean_N1 = (x_gradient_ND * normed_ND).mean(-1, keepdim=True)
        x_gradient_ND = (x_gradient_ND - normed_ND * mean_N1).mul_(scale_N1)
        return x_gradient_ND.to(x_ND.dtype), weight_gradient_D.to(weight_D.dtype)
