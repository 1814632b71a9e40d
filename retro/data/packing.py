"""Putting pieces of text into rows, so that little of a batch is padding.

Shape suffixes: N pieces.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Rows:
    """Which pieces each row holds."""

    pieces_N: NDArray[np.int64]
    """Numbers of the pieces, row after row, rising within a row."""

    offsets: NDArray[np.int64]
    """Where each row begins in ``pieces_N``, and the end, (rows + 1,)."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> list[int]:
        pieces: list[int] = self.pieces_N[self.offsets[row] : self.offsets[row + 1]].tolist()
        return pieces

    @property
    def counts(self) -> NDArray[np.int64]:
        """Pieces of each row."""
        return np.diff(self.offsets)


def one_per_row(num_pieces: int) -> Rows:
    """Give each piece a row of its own."""
    return Rows(np.arange(num_pieces), np.arange(num_pieces + 1))


def pack_pieces(lengths_N: NDArray[Any], row_length: int) -> Rows:
    """Put pieces into rows, the longest first, each into the fullest row that has room.

    (Best-fit decreasing: at most 22 % more rows than the fewest possible, and close to them
    where short pieces are many.)

    Args:
        lengths_N: Tokens of each piece, (pieces,), at most ``row_length``.
        row_length: Tokens that a row can hold.

    Returns:
        The rows, full pieces first.
    """
    lengths_N = np.asarray(lengths_N, dtype=np.int64)
    full_N = np.flatnonzero(lengths_N == row_length)
    short_N = np.flatnonzero(lengths_N < row_length)
    order_N = short_N[np.argsort(-lengths_N[short_N], kind="stable")]
    packed = sorted(sorted(row) for row in _pack(order_N, lengths_N, row_length))
    counts = np.concatenate([np.ones(len(full_N), np.int64), [len(row) for row in packed]])
    short = np.fromiter((piece for row in packed for piece in row), np.int64)
    return Rows(
        np.concatenate([full_N, short]), np.concatenate([[0], counts.cumsum()]).astype(np.int64)
    )


def _pack(
    order_N: NDArray[np.int64], lengths_N: NDArray[np.int64], row_length: int
) -> list[list[int]]:
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(row_length + 1)]
    # Bit r is set where some row has room for r tokens: finding the fullest is one operation.
    rooms = 0
    for piece, length in zip(order_N.tolist(), lengths_N[order_N].tolist(), strict=True):
        enough = rooms >> length
        if enough:
            room = length + (enough & -enough).bit_length() - 1
            row = with_room[room].pop()
            if not with_room[room]:
                rooms &= ~(1 << room)
            rows[row].append(piece)
        else:
            room, row = row_length, len(rows)
            rows.append([piece])
        left = room - length
        if left > 0:
            with_room[left].append(row)
            rooms |= 1 << left
    return rows
