"""The RETRO network (Borgeaud et al., arXiv:2112.04426).

What differs from the paper: rotary positions (arXiv:2104.09864) on half of each head instead
of learned relative ones, with the distances of the paper; no biases; GELU.

Shape suffixes: B batch, T tokens, L chunks, K neighbors per chunk, R tokens per retrieved
value, V vocabulary, D decoder width.
"""

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from retro.config.checks import config_from_dict
from retro.config.model import ModelConfig
from retro.errors import ShapeError
from retro.model.language_model import Retrieved
from retro.model.linear import Linear
from retro.model.loss import linear_cross_entropy
from retro.model.packing import Packing
from retro.model.retro.decoder import Decoder, DecoderCache, EncodedNeighbors
from retro.model.retro.initial import initialize
from retro.model.retro.inputs import (
    check_ids,
    check_packing,
    check_sequence,
    labeled,
    masked,
    neighbors_of_packed,
    neighbors_of_rows,
)

UNCOUNTED = -100
"""Label that ``F.cross_entropy`` passes over."""


class RetroNetwork(nn.Module):
    """Token embedding, decoder with neighbor encoder, output layer.

    The arguments are the fields of ``retro.config.model.ModelConfig``.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        config = config_from_dict(ModelConfig, settings)
        self.config = config
        self.token_embedding = nn.Embedding(config.num_tokens, config.dec_dim)
        self.encoder_embedding: nn.Embedding | None = None
        self.to_encoder_width: nn.Module = nn.Identity()
        if config.dec_cross_attn_layers and config.separate_encoder_embedding:
            self.encoder_embedding = nn.Embedding(config.num_tokens, config.enc_dim)
        elif config.dec_cross_attn_layers and config.enc_dim != config.dec_dim:
            self.to_encoder_width = Linear(config.dec_dim, config.enc_dim)
        self.decoder = Decoder(config)
        self.to_logits = Linear(config.dec_dim, config.num_tokens)
        if config.tie_embeddings:
            self.to_logits.weight = self.token_embedding.weight
        initialize(
            self,
            config,
            decoder=self.decoder,
            token_embedding=self.token_embedding,
            encoder_embedding=self.encoder_embedding,
            to_logits=self.to_logits,
        )

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether inner states are computed again for the gradient instead of kept.

        Much less memory in training for about a third more time; no result changes.
        """
        return self.decoder.keep.recompute

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, wanted: bool) -> None:
        self.decoder.keep.recompute = wanted
        if self.decoder.encoder is not None:
            self.decoder.encoder.keep.recompute = wanted

    def forward(
        self,
        seq: Tensor,
        retrieved: Tensor | Retrieved | None = None,
        return_loss: bool = False,
        *,
        labels: Tensor | None = None,
        counted: Tensor | None = None,
        left_padding: int = 0,
        packing: Packing | None = None,
    ) -> Tensor:
        """Return logits, or the loss of predicting each token from those before it.

        Args:
            seq: Token ids, (batch, tokens). With ``return_loss`` one token more: the last
                is only a label, unless ``labels`` are given.
            retrieved: Token ids of the retrieved values of every complete chunk, (batch,
                chunks, neighbors, tokens), or (batch, chunks, tokens) for one neighbor;
                ``pad_id`` where there is nothing, or with a mask. None switches
                retrieval off. With ``packing``: (chunks, neighbors, tokens), in the order of its
                chunks.
            return_loss: Return the mean cross-entropy over the labels that count.
            labels: What each token is followed by, (batch, tokens); None means ``seq`` itself,
                moved by one.
            counted: True for the labels that count; None means all but ``pad_id``.
            left_padding: Tokens that the first chunk lacks at its start, so that a short
                text can end with a whole chunk (arXiv:2304.06762).
            packing: Where pieces and chunks lie, if rows hold several texts; it needs
                ``labels`` for a loss, and no ``left_padding``.

        Returns:
            Logits, (batch, tokens, vocabulary), or the loss in nats per token, a scalar.

        Raises:
            ShapeError: The arguments do not fit each other or the model.
        """
        if not return_loss:
            return self.to_logits(self._decode(seq, retrieved, left_padding, packing))
        rows = labeled(seq, labels, counted, packing, self.config)
        x_BTD = self._decode(rows.inputs_BT, retrieved, left_padding, packing)
        loss = linear_cross_entropy(
            x_BTD.flatten(0, 1),
            self.to_logits.weight,
            rows.labels_BT.flatten(),
            rows.counted_BT.flatten(),
        )
        return loss / rows.counted_BT.sum().clamp(min=1)

    def token_losses(
        self,
        seq: Tensor,
        retrieved: Tensor | Retrieved | None = None,
        *,
        labels: Tensor | None = None,
        counted: Tensor | None = None,
        left_padding: int = 0,
        packing: Packing | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of each label and which labels count.

        Args:
            seq: Token ids, (batch, tokens + 1), or (batch, tokens) if ``labels`` are given.
            retrieved: As for ``forward``.
            labels: As for ``forward``.
            counted: As for ``forward``.
            left_padding: As for ``forward``.
            packing: As for ``forward``.

        Returns:
            Cross-entropy in nats, (batch, tokens), zero where the label does not count; and
            True where it does, (batch, tokens).

        Raises:
            ShapeError: The arguments do not fit each other or the model.
        """
        rows = labeled(seq, labels, counted, packing, self.config)
        logits_BTV = self.to_logits(self._decode(rows.inputs_BT, retrieved, left_padding, packing))
        losses = F.cross_entropy(
            logits_BTV.flatten(0, 1),
            rows.labels_BT.masked_fill(~rows.counted_BT, UNCOUNTED).flatten(),
            ignore_index=UNCOUNTED,
            reduction="none",
        )
        return losses.view_as(rows.labels_BT), rows.counted_BT

    def read_states(
        self, seq: Tensor, cache: DecoderCache, retrieved: Tensor | Retrieved | None
    ) -> Tensor:
        """Return the states of the next tokens, (batch, tokens, width).

        Args:
            seq: Token ids, (batch, tokens).
            cache: The tokens before; it is extended.
            retrieved: As for ``RETRO.read``.

        Raises:
            ShapeError: The tokens do not fit into the cache.
        """
        total = cache.num_tokens + seq.shape[1]
        if total > cache.max_tokens:
            raise ShapeError(f"The cache has room for {cache.max_tokens} tokens, got {total}.")
        start = cache.left_padding + cache.num_tokens
        return self.decoder(
            self._embed(seq), self._embed_neighbors(seq, retrieved, start), cache=cache
        )

    def _decode(
        self,
        seq: Tensor,
        retrieved: Tensor | Retrieved | None,
        left_padding: int,
        packing: Packing | None,
    ) -> Tensor:
        check_sequence(seq, left_padding, packing, self.config)
        if packing is None:
            embedded = self._embed_neighbors(seq, retrieved, left_padding)
        else:
            embedded = self._embed_packed(seq, retrieved, packing)
        return self.decoder(self._embed(seq), embedded, left_padding=left_padding, packing=packing)

    def _embed(self, ids: Tensor) -> Tensor:
        check_ids(ids, self.config)
        # Unit variance in, while the rows stay small enough to serve as output layer as well.
        return self.token_embedding(ids.long()) * math.sqrt(self.config.dec_dim)

    def _embed_neighbors(
        self, seq: Tensor, retrieved: Tensor | Retrieved | None, start: int
    ) -> EncodedNeighbors | None:
        if retrieved is None or not self.config.dec_cross_attn_layers:
            return None
        num_rows, num_tokens = seq.shape
        size = self.config.chunk_size
        num_chunks = (start + num_tokens) // size - start // size
        values = masked(retrieved, self.config.pad_id)
        return self.embed_retrieved(neighbors_of_rows(values, num_rows, num_tokens, num_chunks))

    def _embed_packed(
        self, seq: Tensor, retrieved: Tensor | Retrieved | None, packing: Packing
    ) -> EncodedNeighbors | None:
        check_packing(packing, seq)
        if retrieved is None or not self.config.dec_cross_attn_layers:
            return None
        values = masked(retrieved, self.config.pad_id)
        return self.embed_retrieved(neighbors_of_packed(values, packing))

    def embed_retrieved(self, retrieved: Retrieved) -> EncodedNeighbors | None:
        """Return embedded retrieved values, as the neighbor encoder reads them.

        Args:
            retrieved: Of (batch, chunks, neighbors, tokens).

        Returns:
            None where there are no neighbors at all.
        """
        ids_BLKR = retrieved.ids
        if 0 in ids_BLKR.shape[1:]:
            return None
        if self.encoder_embedding is None:
            x_BLKRE = self.to_encoder_width(self._embed(ids_BLKR))
        else:
            check_ids(ids_BLKR, self.config)
            x_BLKRE = self.encoder_embedding(ids_BLKR.long())
        return EncodedNeighbors(x_BLKRE, retrieved.exists)
