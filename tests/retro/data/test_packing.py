"""Packing loses no piece and wastes little."""

import numpy as np
import pytest

from retro.data.packing import one_per_row, pack_pieces


@pytest.mark.parametrize("longest", [10, 64, 100])
def test_every_piece_is_in_one_row_that_holds_it(longest: int) -> None:
    lengths = np.random.default_rng(longest).integers(1, longest + 1, 3000)

    rows = pack_pieces(lengths, 100)

    pieces = [piece for row in range(len(rows)) for piece in rows[row]]
    fills = [int(lengths[rows[row]].sum()) for row in range(len(rows))]
    assert sorted(pieces) == list(range(3000))
    assert max(fills) <= 100
    assert sum(fills) / (100 * len(rows)) > 0.97
    assert rows.counts.sum() == 3000


def test_full_pieces_stay_alone() -> None:
    rows = pack_pieces(np.array([8, 3, 8, 5, 8]), 8)

    assert [rows[row] for row in range(len(rows))] == [[0], [2], [4], [1, 3]]


def test_without_packing_each_piece_has_its_row() -> None:
    rows = one_per_row(3)

    assert [rows[row] for row in range(len(rows))] == [[0], [1], [2]]
