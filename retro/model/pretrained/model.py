"""A pretrained causal language model that reads the neighbors of its chunks, and learns to.

Shape suffixes: B rows, N texts side by side, T tokens, L groups of tokens, D width, V vocabulary.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from retro.config.pretrained import PretrainedConfig, TrainingMode
from retro.errors import ArtifactMismatchError
from retro.model.hub import HubModel
from retro.model.kinds import PRETRAINED_KIND
from retro.model.language_model import Prediction, Retrieved, TextCache, TokenRows
from retro.model.loss import linear_cross_entropy, score_tokens
from retro.model.pretrained.attention import GroupStates, Reading
from retro.model.pretrained.base import Base, find_base, open_base
from retro.model.pretrained.card import card_of
from retro.model.pretrained.states import NeighborMemory, join_groups, layers_of, nothing_like
from retro.model.pretrained.stored import tensors_sha256
from retro.model.pretrained.token_step import TokenStep, suits
from retro.model.pretrained.trained import GATE_SCALE, add_trained, recomputing, trained_tensors
from retro.model.tensor_file import WEIGHTS_NAME, load_named, save_named


@dataclass(slots=True)
class OwnStates(TextCache):
    """Texts side by side that a model has read."""

    layers: DynamicCache
    left_padding: int
    first_position: int
    """Position of the texts' first token: behind the neighbors, 0 with retrieval off."""
    keeps_shares: bool
    num_tokens: int = 0
    neighbors: GroupStates | None = None
    """Of the group that the next token belongs to; None where it reads none."""

    def rows(self, rows_N: Tensor) -> "OwnStates":
        """Return a cache of some of the texts."""
        layers = DynamicCache()
        for number, (keys, values) in enumerate(zip(*layers_of(self.layers), strict=True)):
            layers.update(keys[rows_N], values[rows_N], number)
        return OwnStates(
            layers=layers,
            left_padding=self.left_padding,
            first_position=self.first_position,
            keeps_shares=self.keeps_shares,
            num_tokens=self.num_tokens,
            neighbors=None if self.neighbors is None else self.neighbors.rows(rows_N),
        )


class PretrainedModel(HubModel):
    """A causal language model of transformers behind the interface of ``LanguageModel``.

    Args:
        config: Settings.
        base: The model, opened.

    Raises:
        ArtifactMismatchError: Its window is too small for two chunks and the neighbors.
    """

    kind = PRETRAINED_KIND
    starts_trained = True

    def __init__(self, config: PretrainedConfig, base: Base) -> None:
        super().__init__()
        self.config: PretrainedConfig = config
        self.first_position = 1 + 2 * config.chunk_size
        self.window = min(config.window, base.window - self.first_position)
        """Most tokens of a text that the model reads at once."""
        if self.window < 2 * config.chunk_size:
            raise ArtifactMismatchError(
                f"The window of a model must hold two chunks and the neighbors, "
                f"{self.first_position + 2 * config.chunk_size} tokens with chunks of "
                f"{config.chunk_size}, and that of {base.folder.name} holds {base.window}. Use a "
                f"corpus with smaller chunks, or another model."
            )
        self.base: Any = base.model
        self.gate_LH = add_trained(self.base, config)
        self.gradient_checkpointing = False
        self.tokenizer_dir: Path | None = base.folder
        self._memory = NeighborMemory(self._read_alone, base.bos_id)

    @classmethod
    def settle(cls, settings: PretrainedConfig) -> PretrainedConfig:
        """Return the settings with the identity of the base; see ``ModelClass``."""
        folder = find_base(settings.base, revision=settings.revision)
        commit = folder.name if folder.parent.name == "snapshots" else settings.revision
        is_folder = Path(settings.base).is_dir()
        return replace(
            settings,
            base=str(folder.resolve()) if is_folder else settings.base,
            revision=commit,
            base_sha256=tensors_sha256(folder),
        )

    @classmethod
    def create(cls, settings: PretrainedConfig, device: torch.device) -> Self:
        """Return the base on a device, with nothing trained yet.

        Raises:
            ArtifactMissingError: The base is neither here nor can it be had.
            ArtifactMismatchError: It is another one than that of the settings, or cannot be used.
        """
        folder = find_base(settings.base, revision=settings.revision)
        wanted = settings.base_sha256
        if wanted is not None and (found := tensors_sha256(folder)) != wanted:
            raise ArtifactMismatchError(
                f"What was trained belongs to the model {settings.base} with the sha256 "
                f"{wanted[:12]}, and {folder.name} has {found[:12]}. Restore that model, or name "
                f"its folder as base."
            )
        is_trained = settings.mode is TrainingMode.FULL
        return cls(settings, open_base(folder, device, is_trained=is_trained))

    @property
    def chunk_size(self) -> int:
        """Tokens per chunk."""
        return self.config.chunk_size

    @property
    def to_logits(self) -> nn.Linear:
        """Output layer."""
        layer: nn.Linear = self.base.get_output_embeddings()
        return layer

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        return int(self.to_logits.out_features)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.to_logits.weight.device

    @property
    def network(self) -> nn.Module:
        """The model itself, which has all weights."""
        return self

    @property
    def is_frozen(self) -> bool:
        """Whether the base is what it was, with nothing added to it."""
        return self.config.mode in (TrainingMode.NONE, TrainingMode.GATES)

    def train(self, mode: bool = True) -> Self:
        """Begin or end training; the base has no dropout either way."""
        super().train(mode)
        self.base.eval()
        if not self.is_frozen:
            # The weights may have changed, or are going to.
            self._memory.clear()
        return self

    def mean_loss(self, rows: TokenRows, retrieved: Retrieved | None) -> Tensor:
        """Return the mean loss of rows; see ``LanguageModel``."""
        x_BTD = self._row_states(rows, retrieved, recompute=self.gradient_checkpointing)
        total = linear_cross_entropy(
            x_BTD.flatten(0, 1),
            self.to_logits.weight,
            rows.labels_BT.flatten(),
            rows.counted_BT.flatten(),
        )
        if not total.requires_grad and self.gate_LH is not None:
            # Rows without neighbors teach the gates nothing.
            total = total + 0 * self.gate_LH.sum()
        return total / rows.counted_BT.sum().clamp(min=1)

    def losses(self, rows: TokenRows, retrieved: Retrieved | None) -> Tensor:
        """Return the loss of each label; see ``ReadingModel``."""
        x_BTD = self._row_states(rows, retrieved)
        # One place more than there are labels: nothing is asked behind the last.
        _, logprob_BT = score_tokens(
            torch.cat([x_BTD, x_BTD[:, -1:]], dim=1), rows.labels_BT, self.to_logits
        )
        return -logprob_BT * rows.counted_BT

    def _row_states(
        self, rows: TokenRows, retrieved: Retrieved | None, *, recompute: bool = False
    ) -> Tensor:
        assert rows.packing is None, "a pretrained model reads one text per row"
        num_tokens = rows.tokens_BT.shape[1]
        cache = self.new_cache(len(rows.tokens_BT), retrieval=retrieved is not None)
        # Neighbors are read before: what is computed again fills no cache.
        reading = self.reading(num_tokens, cache, retrieved)
        with recomputing(self.base, active=recompute):
            return self._last_states(rows.tokens_BT, cache, reading, use_cache=False)

    def _last_states(
        self, tokens_NT: Tensor, cache: OwnStates, reading: Reading | None, *, use_cache: bool
    ) -> Tensor:
        """Return the states after the next tokens of texts."""
        first = cache.first_position + cache.num_tokens
        positions = torch.arange(first, first + tokens_NT.shape[1], device=tokens_NT.device)
        given = {} if reading is None else {"neighbors": reading}
        states: Tensor = self.base.base_model(
            input_ids=tokens_NT,
            position_ids=positions.expand(len(tokens_NT), -1),
            past_key_values=cache.layers if use_cache else None,
            use_cache=use_cache,
            **given,
        ).last_hidden_state
        return states

    def new_cache(
        self,
        batch_size: int,
        *,
        left_padding: int = 0,
        max_tokens: int | None = None,
        keeps_shares: bool = False,
        retrieval: bool = True,
    ) -> OwnStates:
        """Return an empty cache; see ``ReadingModel``."""
        del batch_size, max_tokens
        return OwnStates(
            layers=DynamicCache(),
            left_padding=left_padding,
            first_position=self.first_position if retrieval else 0,
            keeps_shares=keeps_shares,
        )

    def predict(
        self,
        tokens_NT: Tensor,
        cache: TextCache,
        retrieved: Retrieved | None,
        *,
        num_scored: int = 0,
    ) -> Prediction:
        """Read the next tokens; see ``ReadingModel``."""
        assert isinstance(cache, OwnStates), "a cache belongs to the kind that made it"
        x_NTD, share_NTK2 = self._states(tokens_NT, cache, retrieved)
        logits_NV, logprob_NT = score_tokens(
            x_NTD[:, -1 - num_scored :],
            tokens_NT[:, tokens_NT.shape[1] - num_scored :],
            self.to_logits,
        )
        return Prediction(logits_NV, logprob_NT, share_NTK2)

    def _states(
        self, tokens_NT: Tensor, cache: OwnStates, retrieved: Retrieved | None
    ) -> tuple[Tensor, Tensor | None]:
        """Read the next tokens; return states and shares of attention."""
        reading = self.reading(tokens_NT.shape[1], cache, retrieved)
        x_NTD = self._last_states(tokens_NT, cache, reading, use_cache=True)
        cache.num_tokens += tokens_NT.shape[1]
        share_NTK2 = None
        if reading is not None:
            cache.neighbors = reading.states.groups(reading.states.exists_NLR.shape[1] - 1)
            if reading.share_NTK2:
                share_NTK2 = torch.stack(reading.share_NTK2).mean(0)
        return x_NTD, share_NTK2

    def reading(
        self, num_tokens: int, cache: OwnStates, retrieved: Retrieved | None
    ) -> Reading | None:
        """Return what the next tokens read beside their own past; None for nothing.

        The last token of a chunk and all but the last of the next one are a group: they read the
        neighbors of that chunk.
        """
        size = self.chunk_size
        place = cache.left_padding + cache.num_tokens
        skipped = (place + 1) % size
        num_complete = (place + num_tokens) // size - place // size
        found = None
        if retrieved is not None and num_complete:
            with torch.no_grad():
                found = self._memory.states(retrieved)
        before = cache.neighbors if skipped else None
        if found is None and (before is None or num_complete):
            # Of the groups that begin here none has neighbors.
            if before is None:
                cache.neighbors = None if num_complete or not skipped else cache.neighbors
                return None
            found = nothing_like(before, num_complete)
        if skipped and before is None and found is not None:
            before = nothing_like(found, 1)
        states = join_groups(before, found)
        assert states is not None
        return Reading(
            states=states,
            group_size=size,
            skipped=skipped,
            num_neighbors=states.exists_NLR.shape[2] // (2 * size) if cache.keeps_shares else 0,
            own_tokens=size,
            gate_LH=None if self.gate_LH is None else self.gate_LH * GATE_SCALE,
        )

    def _read_alone(self, ids: Tensor, exists: Tensor) -> DynamicCache:
        """Read neighbors, each in a row of its own, from position 0 on."""
        layers = DynamicCache()
        self.base.base_model(
            input_ids=ids,
            attention_mask=exists.long(),
            position_ids=(exists.long().cumsum(-1) - 1).clamp(min=0),
            past_key_values=layers,
            use_cache=True,
        )
        return layers

    def token_reader(self, *, fast: bool = False) -> TokenStep | None:
        """Return what reads single tokens faster, where the model is built for it."""
        is_plain = self.device.type == "cpu" and self.to_logits.weight.dtype == torch.float32
        return TokenStep(self, fast=fast) if is_plain and suits(self.base.config) else None

    def save_weights(self, folder: Path) -> None:
        """Write what was trained into a checkpoint's folder; the base is not copied."""
        save_named(trained_tensors(self), folder / WEIGHTS_NAME)

    def load_weights(self, folder: Path) -> None:
        """Read what was trained; see ``LanguageModel``."""
        load_named(
            trained_tensors(self),
            folder / WEIGHTS_NAME,
            "Choose another checkpoint, or copy the model again.",
        )
        self._memory.clear()

    def card_body(self, num_parameters: int) -> str:
        """Return the text of the model card."""
        del num_parameters
        num_trained = sum(tensor.numel() for tensor in trained_tensors(self).values())
        return card_of(self.config, num_trained, self.origin)
