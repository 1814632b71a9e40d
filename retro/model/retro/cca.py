"""Chunked cross-attention (CCA).

Shape suffixes: B batch, T tokens of the sequence, L chunks of the sequence, M tokens per
chunk, K neighbors per chunk, R tokens per retrieved value, W = K * R, D decoder width, E
encoder width, H heads, P width of one head, C chunks of the whole batch (B * L).

Source: Borgeaud et al., arXiv:2112.04426, section 2.4.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from retro.config.model import ModelConfig
from retro.model.attention import CrossAttention
from retro.model.packing import AttendingTokens


@dataclass(frozen=True, slots=True)
class ReadableNeighbors:
    """Keys and values of the encoded neighbors of some chunks, for one CCA layer."""

    k_BLHWP: Tensor
    v_BLHWP: Tensor
    valid_BLW: Tensor
    """True where a retrieved token exists."""
    num_neighbors: int
    """Neighbors per chunk; each has an equal part of the places."""

    def last_chunk(self) -> "ReadableNeighbors":
        """Return those of the last chunk alone, which the next tokens go on reading."""
        return self._map(lambda part: part[:, -1:])

    def rows(self, rows_N: Tensor) -> "ReadableNeighbors":
        """Return those of some rows of the batch, in the given order."""
        return self._map(lambda part: part[rows_N])

    def _map(self, change: Callable[[Tensor], Tensor]) -> "ReadableNeighbors":
        return ReadableNeighbors(
            change(self.k_BLHWP), change(self.v_BLHWP), change(self.valid_BLW), self.num_neighbors
        )


def tokens_before_boundary(start: int, chunk_size: int) -> int:
    """Return how many tokens from grid position ``start`` on precede a chunk's last token."""
    return (chunk_size - 1 - start) % chunk_size


def to_attending_chunks(x_BTD: Tensor, chunk_size: int, num_chunks: int) -> Tensor:
    """Group tokens, from a chunk's last token on, by the chunk whose neighbors they read.

    The neighbors of a chunk are known once its last token is. Attending chunk u therefore
    starts at the last token of chunk u and takes the ``chunk_size - 1`` tokens after it. The
    last attending chunk is padded with zeros.

    Args:
        x_BTD: Hidden states, (batch, tokens, width); the first token is a chunk's last.
        chunk_size: Tokens per chunk.
        num_chunks: Chunks that end within these tokens.

    Returns:
        Hidden states, (batch, num_chunks, chunk_size, width).
    """
    padding = num_chunks * chunk_size - x_BTD.shape[1]
    return rearrange(F.pad(x_BTD, (0, 0, 0, padding)), "b (l m) d -> b l m d", m=chunk_size)


class ChunkedCrossAttention(nn.Module):
    """Lets each attending chunk read the neighbors of the chunk before it.

    Implements ``CCA(H, E)`` of section 2.4 without the residual, which the decoder layer
    adds. One softmax runs over all retrieved tokens of all neighbors. The i-th token of an
    attending chunk (from 1) and the i'-th token of a retrieved value (from 1) have distance
    i - i' + chunk_size - 1. A chunk with no valid neighbor receives zeros.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.chunk_size = config.chunk_size
        self.attention = CrossAttention(
            config.dec_dim, config.enc_dim, config.heads, config.dim_head, config.dec_attn_dropout
        )

    def readable(self, encoded_BLKRE: Tensor, valid_BLKR: Tensor) -> ReadableNeighbors:
        """Project encoded neighbors to this layer's keys and values, once per chunk."""
        batch, num_chunks, num_neighbors, retrieved_length, _ = encoded_BLKRE.shape
        positions_R = torch.arange(retrieved_length, device=encoded_BLKRE.device)
        k_CHWP, v_CHWP = self.attention.keys_values(
            rearrange(encoded_BLKRE, "b l k r e -> (b l) (k r) e"),
            positions_R.repeat(num_neighbors),
        )
        size = (batch, num_chunks)
        return ReadableNeighbors(
            torch.unflatten(k_CHWP, 0, size),
            torch.unflatten(v_CHWP, 0, size),
            rearrange(valid_BLKR, "b l k r -> b l (k r)"),
            num_neighbors,
        )

    def forward(
        self,
        x_BTD: Tensor,
        start: int,
        neighbors: ReadableNeighbors | None,
        earlier: ReadableNeighbors | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Read the neighbors.

        Args:
            x_BTD: Decoder states, (batch, tokens, width).
            start: Position of the first token, counted from the start of the first chunk.
            neighbors: Those of the chunks that end within these tokens.
            earlier: Those of the last chunk that ended before these tokens.

        Returns:
            The update to add to ``x_BTD``, and True for the tokens that had a neighbor to
            read, (batch, tokens, 1).
        """
        batch, num_tokens, width = x_BTD.shape
        head = min(tokens_before_boundary(start, self.chunk_size), num_tokens)
        no_update_BTD = x_BTD.new_zeros(batch, num_tokens, width)
        update_BTD, changed_BT1 = no_update_BTD, no_update_BTD[..., :1].bool()
        if earlier is not None and head > 0:
            read_BTD, any_B1 = self._read(
                x_BTD[:, None, :head], (start + 1) % self.chunk_size, earlier
            )
            update_BTD = torch.cat((read_BTD[:, 0], no_update_BTD[:, head:]), 1)
            changed_BT1 = changed_BT1.clone()
            changed_BT1[:, :head] = any_B1[:, :, None]
        if neighbors is not None:
            num_chunks = neighbors.k_BLHWP.shape[1]
            x_BLMD = to_attending_chunks(x_BTD[:, head:], self.chunk_size, num_chunks)
            read_BLMD, any_BL = self._read(x_BLMD, 0, neighbors)
            body = num_tokens - head
            update_BTD = torch.cat((update_BTD[:, :head], read_BLMD.flatten(1, 2)[:, :body]), 1)
            any_BT1 = any_BL.repeat_interleave(self.chunk_size, 1)[:, :body, None]
            changed_BT1 = torch.cat((changed_BT1[:, :head], any_BT1), 1)
        return update_BTD, changed_BT1

    def shares(
        self,
        x_BTD: Tensor,
        start: int,
        neighbors: ReadableNeighbors | None,
        earlier: ReadableNeighbors | None,
    ) -> Tensor:
        """Return the share of attention that each token gives to each neighbor, over all heads.

        Args:
            x_BTD: As for ``forward``.
            start: As for ``forward``.
            neighbors: As for ``forward``.
            earlier: As for ``forward``.

        Returns:
            (batch, tokens, neighbors, 2), for the text of a neighbor and for its
            continuation; zero where there is nothing to read.
        """
        batch, num_tokens, _ = x_BTD.shape
        head = min(tokens_before_boundary(start, self.chunk_size), num_tokens)
        most = max(part.num_neighbors for part in (neighbors, earlier) if part is not None)
        share_BTK2 = x_BTD.new_zeros(batch, num_tokens, most, 2)
        if earlier is not None and head > 0:
            part = self._shares(x_BTD[:, None, :head], (start + 1) % self.chunk_size, earlier)
            share_BTK2[:, :head, : earlier.num_neighbors] = part[:, 0]
        if neighbors is not None:
            x_BLMD = to_attending_chunks(
                x_BTD[:, head:], self.chunk_size, neighbors.k_BLHWP.shape[1]
            )
            part = self._shares(x_BLMD, 0, neighbors).flatten(1, 2)
            share_BTK2[:, head:, : neighbors.num_neighbors] = part[:, : num_tokens - head]
        return share_BTK2

    def _shares(self, x_BLMD: Tensor, first: int, neighbors: ReadableNeighbors) -> Tensor:
        """Return the shares of attending chunks, (batch, chunks, tokens, neighbors, 2)."""
        positions_M = torch.arange(x_BLMD.shape[2], device=x_BLMD.device)
        weight_CHMW = self.attention.weights(
            x_BLMD.flatten(0, 1),
            positions_M + first + self.chunk_size - 1,
            neighbors.k_BLHWP.flatten(0, 1),
            neighbors.valid_BLW.flatten(0, 1)[:, None, None, :],
        )
        weight_CMW = weight_CHMW.float().mean(1) * neighbors.valid_BLW.flatten(0, 1)[:, None]
        weight_CMKR = torch.unflatten(weight_CMW, -1, (neighbors.num_neighbors, -1))
        parts = (weight_CMKR[..., : self.chunk_size], weight_CMKR[..., self.chunk_size :])
        share_CMK2 = torch.stack([part.sum(-1) for part in parts], dim=-1)
        return torch.unflatten(share_CMK2, 0, x_BLMD.shape[:2])

    def read_packed(
        self, x_BTD: Tensor, neighbors: ReadableNeighbors, attending: AttendingTokens
    ) -> tuple[Tensor, Tensor]:
        """Read the neighbors in packed rows.

        Args:
            x_BTD: Decoder states, (batch, tokens, width).
            neighbors: Those of all complete chunks of the batch, as one row of chunks.
            attending: The tokens that read them.

        Returns:
            As for ``forward``.
        """
        size = x_BTD.shape[:2]
        read_BLMD, any_BL = self._read(attending.gather(x_BTD), 0, neighbors)
        any_CM1 = any_BL[0][:, None, None].expand(-1, self.chunk_size, 1)
        return attending.scatter(read_BLMD[0], *size), attending.scatter(any_CM1, *size)

    def _read(
        self, x_BLMD: Tensor, first: int, neighbors: ReadableNeighbors
    ) -> tuple[Tensor, Tensor]:
        """Return the updates and, per chunk, whether there was anything to read."""
        any_valid_BL = neighbors.valid_BLW.any(dim=-1)
        positions_M = torch.arange(x_BLMD.shape[2], device=x_BLMD.device)
        read_CMD = self.attention(
            x_BLMD.flatten(0, 1),
            positions_M + first + self.chunk_size - 1,
            (neighbors.k_BLHWP.flatten(0, 1), neighbors.v_BLHWP.flatten(0, 1)),
            neighbors.valid_BLW.flatten(0, 1)[:, None, None, :],
        )
        read_BLMD = torch.unflatten(read_CMD, 0, x_BLMD.shape[:2])
        return read_BLMD * any_valid_BL[..., None, None], any_valid_BL
