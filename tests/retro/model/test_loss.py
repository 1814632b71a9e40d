"""The blockwise cross-entropy is the cross-entropy."""

import pytest
import torch
import torch.nn.functional as F

from retro.model import loss
from retro.model.loss import linear_cross_entropy


@pytest.mark.parametrize("block", [1, 60, 10_000])
def test_loss_and_gradients_equal_the_plain_ones(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setitem(loss.BLOCK_LOGITS, "cpu", block)
    torch.manual_seed(0)
    x = torch.randn(11, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(20, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 3, 19, 0, 7, 7, 1, 2, 5, 0, 4])

    def plain() -> torch.Tensor:
        return F.cross_entropy(x @ weight.T, labels, ignore_index=0, reduction="sum")

    def blockwise() -> torch.Tensor:
        return linear_cross_entropy(x, weight, labels, labels != 0)

    torch.testing.assert_close(blockwise(), plain())
    expected = torch.autograd.grad(plain() * 0.3, (x, weight))
    found = torch.autograd.grad(blockwise() * 0.3, (x, weight))
    torch.testing.assert_close(found, expected)


def test_huge_logits_stay_finite() -> None:
    x = torch.full((2, 1), 1e4, requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0], [0.0]], requires_grad=True)
    labels = torch.tensor([1, 2])

    total = linear_cross_entropy(x, weight, labels, labels != 0)
    total.backward()

    assert total.item() == pytest.approx(3e4)
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_autocast_computes_products_in_its_format_and_the_rest_in_float32() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(64, 32), torch.randn(100, 32, requires_grad=True)
    labels = torch.randint(0, 100, (64,))
    exact = linear_cross_entropy(x, weight, labels, labels != 0)

    with torch.autocast("cpu", torch.bfloat16):
        rough = linear_cross_entropy(x, weight, labels, labels != 0)
    rough.backward()

    assert rough.dtype == torch.float32
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
    assert rough.item() != exact.item()
    assert rough.item() == pytest.approx(exact.item(), rel=0.01)


def test_no_gradient_is_computed_where_none_is_wanted() -> None:
    x, weight, labels = torch.randn(4, 3), torch.randn(9, 3), torch.tensor([1, 2, 3, 4])

    assert not linear_cross_entropy(x, weight, labels, labels != 0).requires_grad
