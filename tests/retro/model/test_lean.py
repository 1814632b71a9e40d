"""What keeps less computes the same."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retro.model.lean import gelu_linear, rms_norm

PAIRS: list[tuple[Callable[..., Tensor], Callable[..., Tensor], tuple[int, ...]]] = [
    (gelu_linear, lambda x, weight: F.linear(F.gelu(x), weight), (16, 24)),
    (rms_norm, lambda x, weight: F.rms_norm(x, (24,), weight, eps=1e-6), (24,)),
]


@pytest.mark.parametrize("pair", PAIRS, ids=["gelu_linear", "rms_norm"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rows", [(5, 9), (50,)])
def test_results_and_gradients_are_those_of_the_parts(
    pair: tuple[Callable[..., Tensor], Callable[..., Tensor], tuple[int, ...]],
    dtype: torch.dtype,
    rows: tuple[int, ...],
) -> None:
    torch.manual_seed(0)
    ours, theirs, size = pair
    x = torch.randn(*rows, 24, dtype=dtype, requires_grad=True)
    weight = torch.randn(size, dtype=dtype, requires_grad=True)
    direction = torch.randn_like(theirs(x, weight))
    tolerance = {torch.bfloat16: 0.05, torch.float32: 1e-4, torch.float64: 1e-10}[dtype]

    def everything(function: Callable[..., Tensor]) -> list[Tensor]:
        result = function(x, weight)
        return [result, *torch.autograd.grad((result * direction).sum(), (x, weight))]

    for found, expected in zip(everything(ours), everything(theirs), strict=True):
        assert found.dtype == expected.dtype == dtype
        torch.testing.assert_close(
            found, expected, rtol=tolerance, atol=tolerance * float(expected.detach().abs().max())
        )


@pytest.mark.parametrize("pair", PAIRS, ids=["gelu_linear", "rms_norm"])
def test_only_the_inputs_are_kept(
    pair: tuple[Callable[..., Tensor], Callable[..., Tensor], tuple[int, ...]],
) -> None:
    ours, theirs, size = pair
    x, weight = torch.randn(50, 24, requires_grad=True), torch.randn(size, requires_grad=True)

    def kept(function: Callable[..., Tensor]) -> int:
        storages: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result = function(x, weight)
        assert result.requires_grad
        return sum(storages.values())

    rows = 50 * 4
    assert kept(ours) <= (x.numel() + weight.numel()) * 4 + rows
    assert kept(theirs) > kept(ours)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_is_followed_and_weights_keep_their_format(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 24, dtype=dtype, requires_grad=True)
    weight = torch.randn(16, 24, requires_grad=True)

    with torch.autocast("cpu", torch.bfloat16):
        result = gelu_linear(x, weight)
        expected = F.linear(F.gelu(x), weight)
    result.float().sum().backward()

    assert result.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(result, expected)
    assert x.grad is not None
    assert weight.grad is not None
    assert (x.grad.dtype, weight.grad.dtype) == (dtype, torch.float32)
