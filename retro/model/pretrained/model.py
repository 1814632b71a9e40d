"""A pretrained causal language model that reads the neighbors of its chunks.

Shape suffixes: B rows, N texts side by side, T tokens, L groups of tokens, D width, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from retro.config.pretrained import PretrainedConfig
from retro.errors import ArtifactMismatchError
from retro.model.language_model import Prediction, Retrieved, TextCache, TokenRows
from retro.model.loss import score_tokens
from retro.model.pretrained.attention import GroupStates, Reading
from retro.model.pretrained.base import Base
from retro.model.pretrained.states import NeighborMemory, join_groups, layers_of
from retro.model.pretrained.token_step import TokenStep, suits


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


class PretrainedModel:
    """A causal language model of transformers behind the interface of ``ReadingModel``.

    Args:
        config: Settings.
        base: The model, opened.
        bos_id: Token in front of every neighbor.

    Raises:
        ArtifactMismatchError: Its window is too small for two chunks and the neighbors.
    """

    def __init__(self, config: PretrainedConfig, base: Base, bos_id: int) -> None:
        self.config = config
        self.base: Any = base.model
        self._to_logits: nn.Linear = self.base.get_output_embeddings()
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
        self._memory = NeighborMemory(self._read_alone, bos_id)

    @property
    def chunk_size(self) -> int:
        """Tokens per chunk."""
        return self.config.chunk_size

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        return int(self._to_logits.out_features)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self._to_logits.weight.device

    def losses(self, rows: TokenRows, retrieved: Retrieved | None) -> Tensor:
        """Return the loss of each label; see ``ReadingModel``."""
        x_BTD = self._row_states(rows, retrieved)
        # One place more than there are labels: nothing is asked behind the last.
        _, logprob_BT = score_tokens(
            torch.cat([x_BTD, x_BTD[:, -1:]], dim=1), rows.labels_BT, self._to_logits
        )
        return -logprob_BT * rows.counted_BT

    def _row_states(self, rows: TokenRows, retrieved: Retrieved | None) -> Tensor:
        cache = self.new_cache(len(rows.tokens_BT), retrieval=retrieved is not None)
        return self._states(rows.tokens_BT, cache, retrieved)[0]

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
            self._to_logits,
        )
        return Prediction(logits_NV, logprob_NT, share_NTK2)

    def _states(
        self, tokens_NT: Tensor, cache: OwnStates, retrieved: Retrieved | None
    ) -> tuple[Tensor, Tensor | None]:
        """Read the next tokens; return states and shares of attention."""
        num_tokens = tokens_NT.shape[1]
        reading = self.reading(num_tokens, cache, retrieved)
        first = cache.first_position + cache.num_tokens
        positions = torch.arange(first, first + num_tokens, device=tokens_NT.device)
        given = {} if reading is None else {"neighbors": reading}
        out = self.base.base_model(
            input_ids=tokens_NT,
            position_ids=positions.expand(len(tokens_NT), -1),
            past_key_values=cache.layers,
            use_cache=True,
            **given,
        )
        cache.num_tokens += num_tokens
        share_NTK2 = None
        if reading is not None:
            cache.neighbors = reading.states.groups(reading.states.exists_NLR.shape[1] - 1)
            if reading.share_NTK2:
                share_NTK2 = torch.stack(reading.share_NTK2).mean(0)
        return out.last_hidden_state, share_NTK2

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
            found = _nothing_like(before, num_complete)
        if skipped and before is None and found is not None:
            before = _nothing_like(found, 1)
        states = join_groups(before, found)
        assert states is not None
        return Reading(
            states=states,
            group_size=size,
            skipped=skipped,
            num_neighbors=states.exists_NLR.shape[2] // (2 * size) if cache.keeps_shares else 0,
            own_tokens=size,
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

    def token_reader(self) -> TokenStep | None:
        """Return what reads single tokens faster, where the model is built for it."""
        is_plain = self.device.type == "cpu" and self._to_logits.weight.dtype == torch.float32
        return TokenStep(self) if is_plain and suits(self.base.config) else None


def _nothing_like(states: GroupStates, num_groups: int) -> GroupStates:
    """Return groups without neighbors, of the shapes of others."""

    def empty(layer: Tensor) -> Tensor:
        return layer.new_zeros(len(layer), num_groups, *layer.shape[2:])

    exists_NLR = empty(states.exists_NLR)
    return GroupStates(
        [empty(layer) for layer in states.keys],
        [empty(layer) for layer in states.values],
        exists_NLR,
    )
