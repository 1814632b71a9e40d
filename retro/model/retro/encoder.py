"""The neighbor encoder: reads each retrieved value in the light of the chunk it was found for.

Shape suffixes: B batch, L chunks, M tokens per chunk, K neighbors per chunk, R tokens per
retrieved value, D decoder width, E encoder width, C chunks of the whole batch (B * L), N rows
(B * L * K), W = K * R.

Source: Borgeaud et al., arXiv:2112.04426, section 2.4.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

from retro.config.model import ModelConfig
from retro.model.attention import CrossAttention, SelfAttention
from retro.model.layers import (
    FeedForward,
    KeepOrRecompute,
    Residual,
    RMSNorm,
    encoder_alpha,
)


class EncoderLayer(nn.Module):
    """Bidirectional self-attention, in some layers attention to the chunk, and feed-forward."""

    def __init__(self, config: ModelConfig, *, reads_chunk: bool) -> None:
        super().__init__()
        alpha, gated = encoder_alpha(config), config.gated_rmsnorm
        self.attention = SelfAttention(
            config.enc_dim, config.heads, config.dim_head, config.enc_attn_dropout, causal=False
        )
        self.attention_residual = Residual(config.enc_dim, alpha, gated=gated)
        self.cross: CrossAttention | None = None
        if reads_chunk:
            self.cross = CrossAttention(
                config.enc_dim,
                config.dec_dim,
                config.heads,
                config.dim_head,
                config.enc_attn_dropout,
            )
            self.cross_residual = Residual(config.enc_dim, alpha, gated=gated)
        self.feed_forward = FeedForward(config.enc_dim, config.enc_ff_dropout)
        self.feed_forward_residual = Residual(config.enc_dim, alpha, gated=gated)

    def forward(
        self, x_NRE: Tensor, valid_NR: Tensor, chunk_CMD: Tensor, chunk_valid_CM: Tensor | None
    ) -> Tensor:
        """Return the states after this layer, (rows, retrieved tokens, width)."""
        residual = self.attention_residual
        mask = valid_NR[:, None, None, :]
        x_NRE = residual.combine(x_NRE, self.attention(residual.prepare(x_NRE), mask))
        if self.cross is not None:
            residual = self.cross_residual
            update_NRE = self._read_chunk(residual.prepare(x_NRE), chunk_CMD, chunk_valid_CM)
            x_NRE = residual.combine(x_NRE, update_NRE)
        residual = self.feed_forward_residual
        return residual.combine(x_NRE, self.feed_forward(residual.prepare(x_NRE)))

    def _read_chunk(
        self, x_NRE: Tensor, chunk_CMD: Tensor, chunk_valid_CM: Tensor | None
    ) -> Tensor:
        """Let all neighbors of a chunk read it at once, so that it is projected once."""
        assert self.cross is not None
        num_rows, retrieved_length, _ = x_NRE.shape
        num_neighbors = num_rows // chunk_CMD.shape[0]
        device = x_NRE.device
        keys_values = self.cross.keys_values(
            chunk_CMD, torch.arange(chunk_CMD.shape[1], device=device)
        )
        mask = None if chunk_valid_CM is None else chunk_valid_CM[:, None, None, :]
        positions_W = torch.arange(retrieved_length, device=device).repeat(num_neighbors)
        x_CWE = rearrange(x_NRE, "(c k) r e -> c (k r) e", k=num_neighbors)
        return self.cross(x_CWE, positions_W, keys_values, mask).reshape(x_NRE.shape)


class NeighborEncoder(nn.Module):
    """Encodes retrieved values, each conditioned on the decoder states of its chunk."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        post_norm = config.use_deepnet
        self.layers = nn.ModuleList(
            EncoderLayer(config, reads_chunk=number in config.encoder_cross_layers)
            for number in range(1, config.enc_depth + 1)
        )
        self.keep = KeepOrRecompute()
        gated = config.gated_rmsnorm
        # Post-norm streams leave every sublayer normalised already.
        self.chunk_norm = nn.Identity() if post_norm else RMSNorm(config.dec_dim, gated=gated)
        self.output_norm = nn.Identity() if post_norm else RMSNorm(config.enc_dim, gated=gated)

    def forward(
        self,
        embedded_BLKRE: Tensor,
        valid_BLKR: Tensor,
        chunk_BLMD: Tensor,
        chunk_valid_BLM: Tensor | None = None,
    ) -> Tensor:
        """Encode the neighbors of every chunk.

        Args:
            embedded_BLKRE: Embedded retrieved values, (batch, chunks, neighbors, retrieved
                length, encoder width).
            valid_BLKR: True where a retrieved token exists.
            chunk_BLMD: Decoder states of the chunks, (batch, chunks, tokens, decoder width).
            chunk_valid_BLM: True where a token of the chunk exists; None means everywhere.

        Returns:
            Encoded neighbors, of the shape of ``embedded_BLKRE``.
        """
        x_NRE = rearrange(embedded_BLKRE, "b l k r e -> (b l k) r e")
        valid_NR = rearrange(valid_BLKR, "b l k r -> (b l k) r")
        chunk_CMD = rearrange(self.chunk_norm(chunk_BLMD), "b l m d -> (b l) m d")
        chunk_valid_CM = None
        if chunk_valid_BLM is not None:
            chunk_valid_CM = rearrange(chunk_valid_BLM, "b l m -> (b l) m")
        for layer in self.layers:
            x_NRE = self.keep(layer, x_NRE, valid_NR, chunk_CMD, chunk_valid_CM)
        return torch.unflatten(self.output_norm(x_NRE), 0, embedded_BLKRE.shape[:3])
