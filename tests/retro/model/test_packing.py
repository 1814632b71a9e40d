"""Packed rows give what separate rows give."""

from typing import Any

import pytest
import torch

from retro.errors import ShapeError
from retro.model.packing import Packing
from tests.retro.model.retro.test_retro import CHUNK, VARIANTS, VOCABULARY, make_model

PIECES = [[9, 3, 6], [1, 17], [8]]
"""Tokens of the pieces in each row; chunks have 4 tokens, so most end inside one."""
ROW = 20


def packed(pieces: list[list[int]] = PIECES) -> tuple[list[torch.Tensor], Any, Any, Packing]:
    """Return the pieces' tokens (one more each: the last label), the packed rows and labels."""
    torch.manual_seed(3)
    texts, starts = [], []
    seq = torch.zeros(len(pieces), ROW, dtype=torch.long)
    labels = torch.zeros_like(seq)
    numbers = torch.full_like(seq, 99)
    for row, lengths in enumerate(pieces):
        place = 0
        for number, length in enumerate(lengths):
            text = torch.randint(1, VOCABULARY, (length + 1,))
            texts.append(text)
            span = slice(place, place + length)
            seq[row, span], labels[row, span], numbers[row, span] = text[:-1], text[1:], number
            starts += [row * ROW + place + u * CHUNK for u in range(length // CHUNK)]
            place += length
    return texts, seq, labels, Packing(numbers, torch.tensor(starts))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("retrieval", [True, False])
def test_packed_rows_equal_separate_rows(variant: str, retrieval: bool) -> None:
    model = make_model(**VARIANTS[variant])
    texts, seq, labels, packing = packed()
    retrieved = torch.randint(1, VOCABULARY, (len(packing.chunk_starts_C), 2, 2 * CHUNK))
    retrieved[1, 0, 5:] = 0
    retrieved[4] = 0
    neighbors = retrieved if retrieval else None

    logits = model(seq, neighbors, packing=packing)

    done, total = 0, torch.zeros(())
    for number, text in enumerate(texts):
        row, before = [(r, sum(p[:i])) for r, p in enumerate(PIECES) for i in range(len(p))][number]
        chunks = (len(text) - 1) // CHUNK
        own = retrieved[done : done + chunks][None] if retrieval and chunks else None
        done += chunks
        expected = model(text[None, :-1], own)
        found = logits[row, before : before + len(text) - 1][None]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        total += model.token_losses(text[None], own)[0].sum()
    loss = model(seq, neighbors, return_loss=True, labels=labels, packing=packing)
    torch.testing.assert_close(loss * (labels != 0).sum(), total, rtol=1e-5, atol=1e-4)


def test_gradients_of_packed_rows_are_those_of_separate_rows() -> None:
    model = make_model()
    texts, seq, labels, packing = packed()
    retrieved = torch.randint(1, VOCABULARY, (len(packing.chunk_starts_C), 2, 2 * CHUNK))

    (model.token_losses(seq, retrieved, labels=labels, packing=packing)[0].sum()).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    done = 0
    for text in texts:
        chunks = (len(text) - 1) // CHUNK
        own = retrieved[done : done + chunks][None] if chunks else None
        done += chunks
        model.token_losses(text[None], own)[0].sum().backward()

    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-4)


def ones(*size: int) -> torch.Tensor:
    return torch.ones(size, dtype=torch.long)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retrieved": ones(2, 2, 8)}, r"for the \d+ chunks .* got \(2,"),
        ({"left_padding": 1}, "0 for packed rows, got 1"),
        ({"labels": None}, "Packed rows need labels"),
        ({"labels": ones(3, 19)}, r"shape of seq, \(3, 20\), got \(3, 19\)"),
        (
            {"seq": ones(3, 19), "labels": ones(3, 19)},
            r"the \(3, 19\) tokens .* got \(3, 20\)",
        ),
    ],
)
def test_what_does_not_fit_packed_rows_is_refused(changes: dict[str, Any], message: str) -> None:
    _, seq, labels, packing = packed()
    arguments = {"seq": seq, "retrieved": None, "labels": labels, **changes}

    with pytest.raises(ShapeError, match=message):
        make_model()(**arguments, return_loss=True, packing=packing)
