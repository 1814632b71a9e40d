"""Several texts in one row: who may read whom, and where the chunks lie.

A batch of short documents would be mostly padding if each had a row of its own. Packed rows
hold pieces of documents side by side. No token reads another piece, and each piece has its own
chunks, so the result is that of separate rows.

Shape suffixes: B batch, T tokens, S tokens that are read, C complete chunks of the whole batch,
M tokens per chunk, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Packing:
    """Where pieces and chunks lie in packed rows.

    Args of the constructor are tensors on the device of the model.
    """

    pieces_BT: Tensor
    """Number of the piece that each token belongs to, (batch, tokens), rising within a row;
    padding is a piece of its own."""

    chunk_starts_C: Tensor
    """First token of every complete chunk, (chunks,), as ``row * tokens + token``, rising."""

    def self_attention_mask(self) -> Tensor:
        """Return True where a token may read another, (batch, 1, tokens, read tokens)."""
        num_tokens = self.pieces_BT.shape[1]
        same_BTS = self.pieces_BT[:, :, None] == self.pieces_BT[:, None, :]
        causal_TS = torch.ones(
            num_tokens, num_tokens, dtype=torch.bool, device=self.pieces_BT.device
        ).tril()
        return (same_BTS & causal_TS)[:, None]

    def chunks(self, x_BTD: Tensor, chunk_size: int) -> Tensor:
        """Return the states of the complete chunks, (1, chunks, chunk_size, width)."""
        place_M = torch.arange(chunk_size, device=x_BTD.device)
        index_CM = self.chunk_starts_C[:, None] + place_M
        return x_BTD.flatten(0, 1)[index_CM][None]

    def attending(self, chunk_size: int) -> "AttendingTokens":
        """Return the tokens that read each chunk's neighbors."""
        pieces_N = self.pieces_BT.flatten()
        num_rows, num_tokens = self.pieces_BT.shape
        place_M = torch.arange(chunk_size, device=pieces_N.device)
        last_C = self.chunk_starts_C + chunk_size - 1
        index_CM = last_C[:, None] + place_M
        # The next row's pieces have other numbers only within their row.
        same_row_CM = index_CM // num_tokens == (last_C // num_tokens)[:, None]
        safe_CM = index_CM.clamp(max=num_rows * num_tokens - 1)
        exists_CM = same_row_CM & (pieces_N[safe_CM] == pieces_N[last_C][:, None])
        return AttendingTokens(safe_CM, exists_CM)


@dataclass(frozen=True, slots=True)
class AttendingTokens:
    """The tokens of each attending chunk; no token belongs to two."""

    index_CM: Tensor
    """``row * tokens + token``."""

    exists_CM: Tensor
    """False behind the end of a piece."""

    def gather(self, x_BTD: Tensor) -> Tensor:
        """Return their states, (1, chunks, chunk_size, width)."""
        return x_BTD.flatten(0, 1)[self.index_CM][None]

    def scatter(self, x_CMD: Tensor, num_rows: int, num_tokens: int) -> Tensor:
        """Put states back to their tokens, zero elsewhere, (batch, tokens, width)."""
        spare = num_rows * num_tokens
        target_N = self.index_CM.masked_fill(~self.exists_CM, spare).flatten()
        x_ND = x_CMD.new_zeros(spare + 1, x_CMD.shape[-1])
        x_ND = x_ND.index_copy(0, target_N, x_CMD.flatten(0, 1))
        return torch.unflatten(x_ND[:spare], 0, (num_rows, num_tokens))
