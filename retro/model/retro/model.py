"""RETRO as a language model that trains, writes, and is saved.

Shape suffixes: B batch, T tokens, N texts side by side, D decoder width, V vocabulary.
"""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from retro.config.checks import config_to_dict
from retro.config.model import ModelConfig
from retro.model.hub import HubModel
from retro.model.kinds import RETRO_KIND
from retro.model.language_model import Prediction, Retrieved, TextCache, TokenRows
from retro.model.loss import score_tokens
from retro.model.retro.card import card_of
from retro.model.retro.decoder import DecoderCache
from retro.model.retro.network import RetroNetwork
from retro.model.retro.token_step import TokenStep, suits_token_step
from retro.model.tensor_file import WEIGHTS_NAME, load_tensors, save_tensors


class RETRO(RetroNetwork, HubModel):
    """A language model that reads, for each chunk, the neighbors of the chunk before.

    The arguments are the fields of ``retro.config.model.ModelConfig``.

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

    kind = RETRO_KIND
    starts_trained = False
    tokenizer_dir: Path | None = None

    @classmethod
    def settle(cls, settings: ModelConfig) -> ModelConfig:
        """Return the settings, which say everything."""
        return settings

    @classmethod
    def create(cls, settings: ModelConfig, device: torch.device) -> Self:
        """Return a model with initial weights on a device."""
        return cls(**config_to_dict(settings)).to(device)

    @property
    def chunk_size(self) -> int:
        """Tokens per chunk."""
        return self.config.chunk_size

    @property
    def window(self) -> int:
        """Most tokens the model reads at once."""
        return self.config.max_seq_len

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        return self.config.num_tokens

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.token_embedding.weight.device

    @property
    def network(self) -> nn.Module:
        """The model itself, which has all weights."""
        return self

    @property
    def pad_id(self) -> int:
        """Token id that marks "nothing here"."""
        return self.config.pad_id

    @property
    def seq_len(self) -> int:
        """Most tokens the model reads at once."""
        return self.config.max_seq_len

    def mean_loss(self, rows: TokenRows, retrieved: Retrieved | None) -> Tensor:
        """Return the mean loss of rows; see ``LanguageModel``."""
        # Called as a whole, so that a compiled model computes it.
        loss: Tensor = self(
            rows.tokens_BT,
            retrieved,
            return_loss=True,
            labels=rows.labels_BT,
            counted=rows.counted_BT,
            packing=rows.packing,
        )
        return loss

    def losses(self, rows: TokenRows, retrieved: Retrieved | None) -> Tensor:
        """Return the loss of each label; see ``LanguageModel``."""
        losses_BT, _ = self.token_losses(
            rows.tokens_BT,
            retrieved,
            labels=rows.labels_BT,
            counted=rows.counted_BT,
            packing=rows.packing,
        )
        return losses_BT

    def new_cache(
        self,
        batch_size: int,
        *,
        left_padding: int = 0,
        max_tokens: int | None = None,
        keeps_shares: bool = False,
        retrieval: bool = True,
    ) -> DecoderCache:
        """Return an empty cache for ``read``.

        Args:
            batch_size: Sequences read side by side.
            left_padding: Tokens that the first chunk lacks at its start.
            max_tokens: Room in the cache; None means ``max_seq_len``.
            keeps_shares: Whether the cache reports after each ``read``, in ``share_BTK2``, how
                much attention each neighbor got.
            retrieval: Whether any chunk may read neighbors; the cache is the same.
        """
        del retrieval
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
        retrieved: Tensor | Retrieved | None = None,
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
        x_BTD = self.read_states(seq, cache, retrieved)
        return self.to_logits(x_BTD if all_logits else x_BTD[:, -1])

    def predict(
        self,
        tokens_NT: Tensor,
        cache: TextCache,
        retrieved: Retrieved | None,
        *,
        num_scored: int = 0,
    ) -> Prediction:
        """Read the next tokens; see ``LanguageModel``."""
        assert isinstance(cache, DecoderCache), "a cache belongs to the kind that made it"
        x_NTD = self.read_states(tokens_NT, cache, retrieved)
        logits_NV, logprob_NT = score_tokens(
            x_NTD[:, -1 - num_scored :],
            tokens_NT[:, tokens_NT.shape[1] - num_scored :],
            self.to_logits,
        )
        return Prediction(logits_NV, logprob_NT, cache.share_BTK2)

    def token_reader(self, *, fast: bool = False) -> TokenStep | None:
        """Return what reads single tokens in NumPy, where this network allows it."""
        return TokenStep(self) if suits_token_step(self) and not fast else None

    def save_weights(self, folder: Path) -> None:
        """Write the weights into a checkpoint's folder; tied matrices are written once."""
        save_tensors(self, folder / WEIGHTS_NAME)

    def load_weights(self, folder: Path) -> None:
        """Read the weights of a checkpoint; see ``LanguageModel``."""
        load_tensors(
            self, folder / WEIGHTS_NAME, "Choose another checkpoint, or copy the model again."
        )

    def card_body(self, num_parameters: int) -> str:
        """Return the text of the model card."""
        return card_of(self.config, num_parameters, self.origin)
