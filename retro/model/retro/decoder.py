"""The decoder: causal self-attention, chunked cross-attention in some layers, feed-forward.

Shape suffixes: B batch, T tokens, L chunks that end within these tokens, M tokens per chunk,
K neighbors per chunk, R tokens per retrieved value, D decoder width, E encoder width, H
heads, S tokens that are read, P width of one head.
"""

from copy import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retro.config.model import ModelConfig
from retro.model.attention import KeyValueCache, SelfAttention
from retro.model.layers import FeedForward, KeepOrRecompute, Residual, RMSNorm, decoder_alpha
from retro.model.packing import AttendingTokens, Packing
from retro.model.retro.cca import ChunkedCrossAttention, ReadableNeighbors
from retro.model.retro.encoder import NeighborEncoder


@dataclass(frozen=True, slots=True)
class EncodedNeighbors:
    """Retrieved values, embedded or encoded, of the chunks that end within the tokens at hand.

    In packed rows, those of all complete chunks of the batch, as one row of chunks.
    """

    x_BLKRE: Tensor
    valid_BLKR: Tensor
    """True where a retrieved token exists."""


class DecoderCache:
    """What the decoder keeps of the tokens it has read.

    Self-attention keys and values of every layer; for each CCA layer the neighbors of the
    last complete chunk; and, for the neighbor encoder, the states of the unfinished chunk.

    Args:
        config: Sizes of the model.
        batch_size: Sequences read side by side.
        max_tokens: Room for tokens.
        left_padding: Tokens that the first chunk lacks at its start.
        weight: A weight of the model, for its device and number format.
        dtype: Number format of keys and values.
        keeps_shares: Whether every read also reports how much attention each neighbor got.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        batch_size: int,
        max_tokens: int,
        left_padding: int,
        weight: Tensor,
        dtype: torch.dtype,
        keeps_shares: bool = False,
    ) -> None:
        size = (batch_size, config.heads, max_tokens, config.dim_head)
        self.max_tokens = max_tokens
        self.left_padding = left_padding
        self.keeps_shares = keeps_shares
        self.layers = [
            KeyValueCache(
                torch.empty(size, device=weight.device, dtype=dtype),
                torch.empty(size, device=weight.device, dtype=dtype),
            )
            for _ in range(config.dec_depth)
        ]
        self.neighbors: dict[int, ReadableNeighbors] = {}
        """Layer, counted from 0, to what its next tokens read."""
        self.unfinished_BMD = weight.new_empty(batch_size, config.chunk_size, config.dec_dim)
        self.num_unfinished = 0
        """Tokens of the unfinished chunk whose states are kept."""
        self.share_BTK2: Tensor | None = None
        """Share of attention that each token of the last read gave to each neighbor's text and
        continuation, over all CCA layers and heads; None where no layer read any."""

    @property
    def num_tokens(self) -> int:
        """Tokens read so far."""
        return self.layers[0].length

    def rows(self, rows_N: Tensor) -> "DecoderCache":
        """Return a cache that holds some rows of the batch, in the given order; rows may repeat."""
        made = copy(self)
        made.layers = [
            KeyValueCache(layer.k_BHSP[rows_N], layer.v_BHSP[rows_N], layer.length)
            for layer in self.layers
        ]
        made.neighbors = {number: item.rows(rows_N) for number, item in self.neighbors.items()}
        made.unfinished_BMD = self.unfinished_BMD[rows_N]
        made.share_BTK2 = None if self.share_BTK2 is None else self.share_BTK2[rows_N]
        return made


class DecoderLayer(nn.Module):
    """One layer; ``cca`` is None in layers without chunked cross-attention."""

    def __init__(self, config: ModelConfig, *, reads_neighbors: bool) -> None:
        super().__init__()
        alpha, gated = decoder_alpha(config), config.gated_rmsnorm
        self.attention = SelfAttention(
            config.dec_dim, config.heads, config.dim_head, config.dec_attn_dropout, causal=True
        )
        self.attention_residual = Residual(config.dec_dim, alpha, gated=gated)
        self.cca: ChunkedCrossAttention | None = None
        if reads_neighbors:
            self.cca = ChunkedCrossAttention(config)
            self.cca_residual = Residual(config.dec_dim, alpha, gated=gated)
        self.feed_forward = FeedForward(config.dec_dim, config.dec_ff_dropout)
        self.feed_forward_residual = Residual(config.dec_dim, alpha, gated=gated)

    def attend_to_tokens(
        self, x_BTD: Tensor, mask: Tensor | None, cache: KeyValueCache | None
    ) -> Tensor:
        """Return the stream after self-attention."""
        residual = self.attention_residual
        return residual.combine(
            x_BTD, self.attention(residual.prepare(x_BTD), mask=mask, cache=cache)
        )

    def read_neighbors(
        self,
        x_BTD: Tensor,
        start: int,
        encoded: EncodedNeighbors | None,
        earlier: ReadableNeighbors | None,
        attending: AttendingTokens | None,
    ) -> tuple[Tensor, ReadableNeighbors | None]:
        """Return the stream after chunked cross-attention, and what it read.

        Args:
            x_BTD: The stream, (batch, tokens, width).
            start: Position of the first token, counted from the start of the first chunk.
            encoded: Neighbors of the chunks that end within these tokens.
            earlier: Those of the last chunk that ended before these tokens.
            attending: Who reads them in packed rows; None for one text per row.
        """
        if self.cca is None or (encoded is None and earlier is None):
            return x_BTD, None
        residual = self.cca_residual
        prepared_BTD = residual.prepare(x_BTD)
        readable = None
        if encoded is not None:
            readable = self.cca.readable(encoded.x_BLKRE, encoded.valid_BLKR)
        if attending is not None and readable is not None:
            update_BTD, changed_BT1 = self.cca.read_packed(prepared_BTD, readable, attending)
        else:
            update_BTD, changed_BT1 = self.cca(prepared_BTD, start, readable, earlier)
        return residual.combine(x_BTD, update_BTD, changed_BT1), readable

    def shares(
        self,
        x_BTD: Tensor,
        start: int,
        readable: ReadableNeighbors | None,
        earlier: ReadableNeighbors | None,
    ) -> Tensor:
        """Return the share of attention of each neighbor; see ``ChunkedCrossAttention.shares``."""
        assert self.cca is not None
        return self.cca.shares(self.cca_residual.prepare(x_BTD), start, readable, earlier)

    def feed(self, x_BTD: Tensor) -> Tensor:
        """Return the stream after the feed-forward layer."""
        residual = self.feed_forward_residual
        return residual.combine(x_BTD, self.feed_forward(residual.prepare(x_BTD)))


class Decoder(nn.Module):
    """Stack of layers; the neighbors are encoded once, at the first CCA layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.chunk_size = config.chunk_size
        self.layers = nn.ModuleList(
            DecoderLayer(config, reads_neighbors=number in config.dec_cross_attn_layers)
            for number in range(1, config.dec_depth + 1)
        )
        self.keep = KeepOrRecompute()
        self.first_cca = min(config.dec_cross_attn_layers, default=0) - 1
        self.encoder = NeighborEncoder(config) if config.dec_cross_attn_layers else None
        self.output_norm = (
            nn.Identity()
            if config.use_deepnet
            else RMSNorm(config.dec_dim, gated=config.gated_rmsnorm)
        )

    def forward(
        self,
        x_BTD: Tensor,
        embedded: EncodedNeighbors | None,
        *,
        left_padding: int = 0,
        cache: DecoderCache | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """Decode tokens, all of a sequence or, with a cache, the next ones.

        Args:
            x_BTD: Embedded tokens, (batch, tokens, width).
            embedded: Retrieved values of the chunks that end within these tokens; None
                means retrieval off.
            left_padding: Tokens that the first chunk lacks at its start.
            cache: The tokens before; it is extended.
            packing: Where pieces and chunks lie in packed rows; None for one text per row.

        Returns:
            Normalised states, (batch, tokens, width).
        """
        start = left_padding if cache is None else cache.left_padding + cache.num_tokens
        mask = None if packing is None else packing.self_attention_mask()
        attending = None if packing is None else packing.attending(self.chunk_size)
        encoded: EncodedNeighbors | None = None
        shares: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, DecoderLayer)
            tokens = None if cache is None else cache.layers[number]
            x_BTD = self.keep(layer.attend_to_tokens, x_BTD, mask, tokens)
            if number == self.first_cca:
                encoded = self._encode(x_BTD, embedded, start, cache, packing)
            if layer.cca is not None:
                earlier = None if cache is None else cache.neighbors.get(number)
                before_BTD = x_BTD
                x_BTD, readable = self.keep(
                    layer.read_neighbors, x_BTD, start, encoded, earlier, attending
                )
                if cache is not None and cache.keeps_shares and (readable or earlier):
                    shares.append(layer.shares(before_BTD, start, readable, earlier))
                if cache is not None and self._num_finished(x_BTD, start) > 0:
                    cache.neighbors.pop(number, None)
                    if readable is not None:
                        cache.neighbors[number] = readable.last_chunk()
            x_BTD = self.keep(layer.feed, x_BTD)
        if cache is not None:
            cache.share_BTK2 = torch.stack(shares).mean(0) if shares else None
        return self.output_norm(x_BTD)

    def _num_finished(self, x_BTD: Tensor, start: int) -> int:
        return (start + x_BTD.shape[1]) // self.chunk_size - start // self.chunk_size

    def _encode(
        self,
        x_BTD: Tensor,
        embedded: EncodedNeighbors | None,
        start: int,
        cache: DecoderCache | None,
        packing: Packing | None,
    ) -> EncodedNeighbors | None:
        """Return the neighbors in the light of their chunks; None with retrieval off."""
        assert self.encoder is not None
        if packing is not None:
            if embedded is None:
                return None
            chunk_BLMD, chunk_valid_BLM = packing.chunks(x_BTD, self.chunk_size), None
        else:
            num_chunks = self._num_finished(x_BTD, start)
            chunk_BLMD, chunk_valid_BLM = self._finished_chunks(x_BTD, start, num_chunks, cache)
            if embedded is None or num_chunks == 0:
                return None
        x_BLKRE = self.encoder(embedded.x_BLKRE, embedded.valid_BLKR, chunk_BLMD, chunk_valid_BLM)
        return EncodedNeighbors(x_BLKRE, embedded.valid_BLKR)

    def _finished_chunks(
        self, x_BTD: Tensor, start: int, num_chunks: int, cache: DecoderCache | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the states of the chunks that end here, and where their tokens exist.

        The states of an unfinished chunk stay in the cache.
        """
        in_chunk = start % self.chunk_size
        lacking = in_chunk
        if cache is not None and cache.num_unfinished:
            lacking -= cache.num_unfinished
            x_BTD = torch.cat((cache.unfinished_BMD[:, : cache.num_unfinished], x_BTD), 1)
        finished = num_chunks * self.chunk_size - lacking if num_chunks else 0
        if cache is not None:
            cache.num_unfinished = x_BTD.shape[1] - finished
            cache.unfinished_BMD[:, : cache.num_unfinished] = x_BTD[:, finished:]
        padded_BTD = F.pad(x_BTD[:, :finished], (0, 0, lacking, 0)) if num_chunks else x_BTD[:, :0]
        chunk_BLMD = torch.unflatten(padded_BTD, 1, (num_chunks, self.chunk_size))
        if not lacking or not num_chunks:
            return chunk_BLMD, None
        valid_BLM = torch.ones(chunk_BLMD.shape[:3], dtype=torch.bool, device=x_BTD.device)
        valid_BLM[:, 0, :lacking] = False
        return chunk_BLMD, valid_BLM
