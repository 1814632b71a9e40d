"""The RETRO network (Borgeaud et al., arXiv:2112.04426).

What differs from the paper: rotary positions (arXiv:2104.09864) on half of each head instead
of learned relative ones, with the distances of the paper; no biases; GELU.

Shape suffixes: B batch, T tokens, L chunks, K neighbors per chunk, R tokens per retrieved
value, V vocabulary, D decoder width.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retro.config import ModelConfig, config_from_dict, shown
from retro.errors import ShapeError
from retro.model.attention import CrossAttention, SelfAttention
from retro.model.hub import HubModel
from retro.model.layers import FeedForward, decoder_beta, decoder_sublayers, encoder_beta
from retro.model.linear import Linear
from retro.model.loss import linear_cross_entropy
from retro.model.packing import Packing
from retro.model.retro.decoder import Decoder, DecoderCache, DecoderLayer, EncodedNeighbors


class RETRO(HubModel):
    """A language model that reads, for each chunk, the neighbors of the chunk before.

    The arguments are the fields of ``retro.config.ModelConfig``.

    Example:
        >>> model = RETRO(
        ...     num_tokens=100,
        ...     max_seq_len=16,
        ...     chunk_size=4,
        ...     enc_dim=16,
        ...     dec_dim=16,
        ...     dec_depth=2,
        ...     dec_cross_attn_layers=(1, 2),
        ...     heads=2,
        ...     dim_head=8,
        ... )
        >>> sequence = torch.randint(1, 100, (1, 16 + 1))
        >>> retrieved = torch.randint(1, 100, (1, 4, 2, 8))
        >>> model(sequence, retrieved, return_loss=True).backward()

    Raises:
        ConfigError: An argument is unknown or outside its range.
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
        initialize(self)

    @property
    def chunk_size(self) -> int:
        """Tokens per chunk."""
        return self.config.chunk_size

    @property
    def pad_id(self) -> int:
        """Token id that marks "nothing here"."""
        return self.config.pad_id

    @property
    def seq_len(self) -> int:
        """Most tokens the model reads at once."""
        return self.config.max_seq_len

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
        retrieved: Tensor | None = None,
        return_loss: bool = False,
        *,
        labels: Tensor | None = None,
        left_padding: int = 0,
        packing: Packing | None = None,
    ) -> Tensor:
        """Return logits, or the loss of predicting each token from those before it.

        Args:
            seq: Token ids, (batch, tokens). With ``return_loss`` one token more: the last
                is only a label, unless ``labels`` are given.
            retrieved: Token ids of the retrieved values of every complete chunk, (batch,
                chunks, neighbors, tokens), or (batch, chunks, tokens) for one neighbor;
                ``pad_id`` where there is nothing. None switches retrieval off.
                With ``packing``: (chunks, neighbors, tokens), in the order of its chunks.
            return_loss: Return the mean cross-entropy over labels other than ``pad_id``.
            labels: What each token is followed by, (batch, tokens); None means ``seq`` itself,
                moved by one.
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
        inputs_BT, labels_BT = self._inputs_and_labels(seq, labels, packing)
        x_BTD = self._decode(inputs_BT, retrieved, left_padding, packing)
        loss = linear_cross_entropy(
            x_BTD.flatten(0, 1), self.to_logits.weight, labels_BT.flatten(), self.pad_id
        )
        return loss / (labels_BT != self.pad_id).sum().clamp(min=1)

    def token_losses(
        self,
        seq: Tensor,
        retrieved: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        left_padding: int = 0,
        packing: Packing | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of each label and which labels count.

        Args:
            seq: Token ids, (batch, tokens + 1), or (batch, tokens) if ``labels`` are given.
            retrieved: As for ``forward``.
            labels: As for ``forward``.
            left_padding: As for ``forward``.
            packing: As for ``forward``.

        Returns:
            Cross-entropy in nats, (batch, tokens), zero where the label is ``pad_id``; and
            True where it is not, (batch, tokens).

        Raises:
            ShapeError: The arguments do not fit each other or the model.
        """
        inputs_BT, labels_BT = self._inputs_and_labels(seq, labels, packing)
        logits_BTV = self.to_logits(self._decode(inputs_BT, retrieved, left_padding, packing))
        losses = F.cross_entropy(
            logits_BTV.flatten(0, 1),
            labels_BT.flatten(),
            ignore_index=self.config.pad_id,
            reduction="none",
        )
        return losses.view_as(labels_BT), labels_BT != self.config.pad_id

    def new_cache(
        self,
        batch_size: int,
        *,
        left_padding: int = 0,
        max_tokens: int | None = None,
        keeps_shares: bool = False,
    ) -> DecoderCache:
        """Return an empty cache for ``read``.

        Args:
            batch_size: Sequences read side by side.
            left_padding: Tokens that the first chunk lacks at its start.
            max_tokens: Room in the cache; None means ``max_seq_len``.
            keeps_shares: Whether the cache tells after each ``read``, in ``share_BTK2``, how
                much attention each neighbor got.
        """
        weight = self.token_embedding.weight
        dtype = weight.dtype
        if torch.is_autocast_enabled(weight.device.type):
            dtype = torch.get_autocast_dtype(weight.device.type)
        return DecoderCache(
            self.config,
            batch_size=batch_size,
            max_tokens=self.config.max_seq_len if max_tokens is None else max_tokens,
            left_padding=left_padding,
            weight=weight,
            dtype=dtype,
            keeps_shares=keeps_shares,
        )

    def read(
        self,
        seq: Tensor,
        cache: DecoderCache,
        retrieved: Tensor | None = None,
        *,
        all_logits: bool = False,
    ) -> Tensor:
        """Read the next tokens after those in the cache.

        Args:
            seq: Token ids, (batch, tokens).
            cache: The tokens before; it is extended.
            retrieved: Retrieved values of the chunks that end within these tokens, (batch,
                chunks, neighbors, tokens). None means they have no neighbors.
            all_logits: Return the logits after every token instead of the last.

        Returns:
            Logits, (batch, tokens, vocabulary) or (batch, vocabulary).

        Raises:
            ShapeError: The tokens do not fit into the cache.
        """
        total = cache.num_tokens + seq.shape[1]
        if total > cache.max_tokens:
            raise ShapeError(f"The cache has room for {cache.max_tokens} tokens, got {total}.")
        start = cache.left_padding + cache.num_tokens
        x_BTD = self.decoder(
            self._embed(seq),
            self._embed_neighbors(seq, retrieved, start),
            cache=cache,
        )
        return self.to_logits(x_BTD if all_logits else x_BTD[:, -1])

    def _inputs_and_labels(
        self, seq: Tensor, labels: Tensor | None, packing: Packing | None
    ) -> tuple[Tensor, Tensor]:
        if labels is not None:
            if labels.shape != seq.shape:
                raise ShapeError(
                    f"labels must have the shape of seq, {tuple(seq.shape)}, "
                    f"got {tuple(labels.shape)}."
                )
            inputs_BT = seq
        else:
            if packing is not None:
                raise ShapeError("Packed rows need labels for a loss, got none.")
            if seq.ndim != 2 or seq.shape[1] < 2:
                raise ShapeError(
                    f"seq must be (batch, tokens + 1) with at least 2 tokens for a loss, "
                    f"got {tuple(seq.shape)}."
                )
            inputs_BT, labels = seq[:, :-1], seq[:, 1:]
        self._check_ids(labels)
        return inputs_BT, labels.long()

    def _decode(
        self, seq: Tensor, retrieved: Tensor | None, left_padding: int, packing: Packing | None
    ) -> Tensor:
        if not isinstance(seq, Tensor) or seq.ndim != 2 or seq.shape[1] == 0:
            got = tuple(seq.shape) if isinstance(seq, Tensor) else shown(seq)
            raise ShapeError(f"seq must be a tensor of token ids, (batch, tokens), got {got}.")
        if seq.shape[1] > self.config.max_seq_len:
            raise ShapeError(
                f"The model reads at most max_seq_len = {self.config.max_seq_len} tokens, "
                f"got {seq.shape[1]}. Shorten the sequence."
            )
        if not 0 <= left_padding < self.config.chunk_size or (packing and left_padding):
            raise ShapeError(
                f"left_padding must be at least 0 and below chunk_size = "
                f"{self.config.chunk_size}, and 0 for packed rows, got {left_padding}."
            )
        if packing is None:
            embedded = self._embed_neighbors(seq, retrieved, left_padding)
        else:
            embedded = self._embed_packed(seq, retrieved, packing)
        return self.decoder(self._embed(seq), embedded, left_padding=left_padding, packing=packing)

    def _check_ids(self, ids: Tensor) -> None:
        if ids.is_floating_point() or ids.dtype == torch.bool:
            raise ShapeError(f"Token ids must be integers, got {ids.dtype}.")
        # On the CPU this costs nothing; on a GPU it would wait for the device, and a compiled
        # graph would break here.
        if ids.device.type != "cpu" or not ids.numel() or torch.compiler.is_compiling():
            return
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self.config.num_tokens:
            raise ShapeError(
                f"Token ids must be at least 0 and below num_tokens = "
                f"{self.config.num_tokens}, got {low if low < 0 else high}."
            )

    def _embed(self, ids: Tensor) -> Tensor:
        self._check_ids(ids)
        # Unit variance in, while the rows stay small enough to serve as output layer as well.
        return self.token_embedding(ids.long()) * math.sqrt(self.config.dec_dim)

    def _embed_neighbors(
        self, seq: Tensor, retrieved: Tensor | None, start: int
    ) -> EncodedNeighbors | None:
        if retrieved is None or not self.config.dec_cross_attn_layers:
            return None
        size = self.config.chunk_size
        num_chunks = (start + seq.shape[1]) // size - start // size
        if retrieved.ndim == 3:
            retrieved = retrieved[:, :, None, :]
        if retrieved.ndim != 4 or retrieved.shape[:2] != (seq.shape[0], num_chunks):
            raise ShapeError(
                f"retrieved must be (batch, chunks, neighbors, tokens) or (batch, chunks, tokens) "
                f"with batch {seq.shape[0]} and chunks {num_chunks} for {seq.shape[1]} tokens, "
                f"got {tuple(retrieved.shape)}."
            )
        return self.embed_retrieved(retrieved)

    def _embed_packed(
        self, seq: Tensor, retrieved: Tensor | None, packing: Packing
    ) -> EncodedNeighbors | None:
        if packing.pieces_BT.shape != seq.shape:
            raise ShapeError(
                f"packing must say for each of the {tuple(seq.shape)} tokens to which piece it "
                f"belongs, got {tuple(packing.pieces_BT.shape)}."
            )
        if retrieved is None or not self.config.dec_cross_attn_layers:
            return None
        if retrieved.ndim != 3 or len(retrieved) != len(packing.chunk_starts_C):
            raise ShapeError(
                f"retrieved must be (chunks, neighbors, tokens) for the "
                f"{len(packing.chunk_starts_C)} chunks of the packed rows, "
                f"got {tuple(retrieved.shape)}."
            )
        return self.embed_retrieved(retrieved[None])

    def embed_retrieved(self, retrieved_BLKR: Tensor) -> EncodedNeighbors | None:
        """Return embedded retrieved values, as the neighbor encoder reads them.

        Args:
            retrieved_BLKR: Token ids, (batch, chunks, neighbors, tokens).

        Returns:
            None where there are no neighbors at all.
        """
        if 0 in retrieved_BLKR.shape[1:]:
            return None
        valid_BLKR = retrieved_BLKR != self.config.pad_id
        if self.encoder_embedding is None:
            x_BLKRE = self.to_encoder_width(self._embed(retrieved_BLKR))
        else:
            self._check_ids(retrieved_BLKR)
            x_BLKRE = self.encoder_embedding(retrieved_BLKR.long())
        return EncodedNeighbors(x_BLKRE, valid_BLKR)


def initialize(model: RETRO) -> None:
    """Set the initial weights.

    Pre-norm: normal with variance 1 / inputs; the matrices by which the decoder's
    self-attention and feed-forward layers write to the stream are divided by the square root
    of the number of sublayers. Neighbor encoder and chunked cross-attention are not damped:
    the way from a neighbor to a prediction is long enough (bench/RESULTS.md has the effect).
    DeepNorm: Xavier, with the gain beta of arXiv:2203.00555 on feed-forward, value and output
    matrices.
    """
    config = model.config
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    if not config.tie_embeddings:
        # Small logits: the first predictions are nearly even, so the first loss is ln(vocabulary).
        model.to_logits.weight.data.mul_(0.2)
    nn.init.normal_(model.token_embedding.weight, std=config.dec_dim**-0.5)
    if model.encoder_embedding is not None:
        nn.init.normal_(model.encoder_embedding.weight)
    if config.use_deepnet:
        initialize_deepnorm(model.decoder.layers, decoder_beta(config))
        if model.decoder.encoder is not None:
            initialize_deepnorm(model.decoder.encoder, encoder_beta(config))
        return
    damping = decoder_sublayers(config) ** -0.5
    for layer in model.decoder.layers:
        assert isinstance(layer, DecoderLayer)
        layer.attention.out_proj.weight.data.mul_(damping)
        layer.feed_forward.down_proj.weight.data.mul_(damping)


def initialize_deepnorm(part: nn.Module, beta: float) -> None:
    """Set Xavier weights with gain ``beta`` on feed-forward, value and output matrices."""
    for module in part.modules():
        if isinstance(module, SelfAttention | CrossAttention):
            gains = {module.q_proj: 1.0, module.k_proj: 1.0}
            gains |= {module.v_proj: beta, module.out_proj: beta}
        elif isinstance(module, FeedForward):
            gains = {module.up_proj: beta, module.down_proj: beta}
        else:
            continue
        for linear, gain in gains.items():
            nn.init.xavier_normal_(linear.weight, gain=gain)
