"""The linear layer computes what torch's own does, whichever library it uses."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retro.model import linear as module
from retro.model.linear import Linear, linear

needs_onednn = pytest.mark.skipif(not module.HAS_ONEDNN, reason="needs oneDNN and AVX-512")


def gradients(function: Callable[[Tensor, Tensor], Tensor], *inputs: Tensor) -> list[Tensor]:
    torch.manual_seed(1)
    result = function(*inputs)
    return [result, *torch.autograd.grad((result * torch.randn_like(result)).sum(), inputs)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(5, 7, 24), (40, 24), (3, 24)])
def test_results_and_gradients_are_those_of_torch(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    weight = torch.randn(16, 24, dtype=dtype, requires_grad=True)

    expected = gradients(F.linear, x, weight)

    torch.testing.assert_close(gradients(linear, x, weight), expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight), expected[0], rtol=1e-5, atol=1e-5)


@needs_onednn
def test_many_rows_of_float32_go_to_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    product = module._product

    def listen(x: Tensor, weight: Tensor) -> Tensor:
        calls.append(tuple(x.shape))
        return product(x, weight)

    monkeypatch.setattr(module, "_product", listen)
    layer = Linear(8, 4)

    layer(torch.randn(64, 8)).sum().backward()
    assert calls == [(64, 8), (4, 64)]
    layer(torch.randn(2, 8))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(64, 8)).dtype == torch.bfloat16
    layer.double()(torch.randn(64, 8, dtype=torch.float64))
    assert len(calls) == 2


@needs_onednn
def test_products_keep_the_precision_of_float32() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(512, 1024), torch.randn(256, 1024)
    exact = x.double() @ weight.double().T

    error = (linear(x, weight).double() - exact).abs().max() / exact.abs().max()

    assert error < 3e-6
