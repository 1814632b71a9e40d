"""Matrix products of linear layers, by the fastest library of the device.

In float32 on a CPU torch computes with MKL, which on some makes of CPU leaves half of AVX-512
unused; oneDNN, which torch carries for bfloat16, does not (``bench/RESULTS.md`` has figures).
Both compute in full float32.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FEWEST_ROWS = 32
"""With fewer, calling the library costs more than the product."""
HAS_ONEDNN: bool = (
    bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]  # torch
    and torch.backends.cpu.get_cpu_capability() == "AVX512"
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
)
"""Found out once: torch.compile cannot look at it."""


class Linear(nn.Linear):
    """A linear layer without bias; weights and results are those of ``nn.Linear``."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # the name in torch
        """Return ``input @ weight.T``."""
        return linear(input, self.weight)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Return ``x @ weight.T``, (..., outputs), for x (..., inputs) and weight (outputs, inputs)."""
    if not _suits_onednn(x, weight):
        return F.linear(x, weight)
    if not torch.is_grad_enabled():
        return _product(x, weight)
    result: Tensor = _Linear.apply(x, weight)  # type: ignore[no-untyped-call]  # torch
    return result


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() >= FEWEST_ROWS * x.shape[-1]
        and not torch.is_autocast_enabled("cpu")
        and HAS_ONEDNN
    )


def _product(x: Tensor, weight: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return _product_in_graph(x, weight)
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return result


@torch.library.custom_op("retro::product", mutates_args=())
def _product_in_graph(x: Tensor, weight: Tensor) -> Tensor:
    """The same for torch.compile, which otherwise takes this operation apart and fails."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return result


@_product_in_graph.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


class _Linear(torch.autograd.Function):
    """The product and both of its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        x_gradient = weight_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = _product(gradient, weight.t())
        if ctx.needs_input_grad[1]:
            weight_gradient = _product(gradient.flatten(0, -2).t(), x.flatten(0, -2).t())
        return x_gradient, weight_gradient
