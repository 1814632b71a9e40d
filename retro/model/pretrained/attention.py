"""Shared attention: a text's own past and the neighbors of its chunks, in one softmax.

transformers lets a program name the function that computes attention. Without neighbors that is
its own function, so that retrieval off is the model itself. With neighbors, a token attends to
its past and to the keys and values of what was retrieved for its chunk.

Source: parallel context windows (Ratner et al., arXiv:2212.10947), applied chunk by chunk as in
RETRO (Borgeaud et al., arXiv:2112.04426).

Shape suffixes: N texts, H heads, G heads that share keys, T tokens, S tokens of the own past, L
groups of tokens, M tokens per group, R tokens of all neighbors of a group, D width of a head.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION_NAME = "retro"
KEYWORD = "neighbors"
"""Argument of a model's forward pass that arrives in ``attend``."""


@dataclass(frozen=True, slots=True)
class GroupStates:
    """What the neighbors of groups of tokens are in every layer."""

    keys: list[Tensor]
    """Per layer (texts, groups, key heads, neighbor tokens, width)."""
    values: list[Tensor]
    """The same shape."""
    exists_NLR: Tensor
    """True where there is a token."""

    def groups(self, start: int) -> "GroupStates":
        """Return the states of the groups from one on."""
        return GroupStates(
            [layer[:, start:] for layer in self.keys],
            [layer[:, start:] for layer in self.values],
            self.exists_NLR[:, start:],
        )

    def rows(self, rows_N: Tensor) -> "GroupStates":
        """Return the states of some of the texts; texts may repeat."""
        return GroupStates(
            [layer[rows_N] for layer in self.keys],
            [layer[rows_N] for layer in self.values],
            self.exists_NLR[rows_N],
        )


@dataclass(slots=True)
class Reading:
    """One forward pass over tokens that read neighbors."""

    states: GroupStates
    """Of each group of tokens that lies within the pass, in order."""
    group_size: int
    """Tokens per group; the first group and the last may have fewer."""
    skipped: int
    """Tokens of the first group that lie before this pass."""
    num_neighbors: int = 0
    """Neighbors whose shares of attention are asked for; 0 where nobody asks."""
    own_tokens: int = 0
    """Tokens of each that are its text; the others are its continuation."""
    gate_LH: Tensor | None = None
    """Added to the scores of neighbor tokens, per layer and head."""
    share_NTK2: list[Tensor] = field(default_factory=list)
    """Per layer, the share of attention of each neighbor's text and continuation."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    neighbors: Reading | None = None,
    **own: Any,
) -> tuple[Tensor, None]:
    """Compute attention for transformers; see its ``AttentionInterface``.

    Args:
        module: The attention layer; it knows its number.
        query: (texts, heads, tokens, width).
        key: (texts, key heads, own tokens, width).
        value: The same shape.
        attention_mask: True where a token may attend to one of its own past; None is all before.
        scaling: Factor of the scores.
        neighbors: What else the tokens read.
        own: Other arguments of transformers.

    Returns:
        (texts, tokens, heads, width), and no weights.
    """
    if neighbors is None:
        made: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **own
        )
        return made
    layer = int(module.layer_idx)  # type: ignore[arg-type]  # every attention layer has one
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query_NHGTD = rearrange(query * scale, "n (h g) t d -> n h g t d", h=key.shape[1])
    own_NHGTS = query_NHGTD @ key[:, :, None].transpose(-1, -2)
    own_NHGTS = own_NHGTS.masked_fill(~_mask(attention_mask, own_NHGTS), -torch.inf)
    read_NHGTR = _neighbor_scores(query_NHGTD, neighbors, layer)
    weights = torch.cat([own_NHGTS, read_NHGTR], dim=-1).softmax(-1, dtype=torch.float32)
    own_weights, read_weights = weights.to(value.dtype).tensor_split([own_NHGTS.shape[-1]], dim=-1)
    out_NHGTD = own_weights @ value[:, :, None] + _read_values(read_weights, neighbors, layer)
    if neighbors.num_neighbors:
        each = reduce(read_weights, "n h g t (k r) -> n t k r", "mean", k=neighbors.num_neighbors)
        parts = [each[..., : neighbors.own_tokens], each[..., neighbors.own_tokens :]]
        neighbors.share_NTK2.append(torch.stack([part.sum(-1) for part in parts], -1).float())
    return rearrange(out_NHGTD, "n h g t d -> n t (h g) d"), None


def _mask(attention_mask: Tensor | None, scores_NHGTS: Tensor) -> Tensor:
    if attention_mask is not None:
        return attention_mask[:, :, None]
    num_tokens, num_own = scores_NHGTS.shape[-2:]
    ones = torch.ones(num_tokens, num_own, dtype=torch.bool, device=scores_NHGTS.device)
    return ones.tril(num_own - num_tokens)


def _neighbor_scores(query_NHGTD: Tensor, neighbors: Reading, layer: int) -> Tensor:
    """Return the scores of the neighbor tokens, (texts, key heads, heads each, tokens, R)."""
    keys_NLHRD = neighbors.states.keys[layer]
    grid, size = _on_grid(query_NHGTD, neighbors)
    scores = grid @ keys_NLHRD.transpose(-1, -2)
    if neighbors.gate_LH is not None:
        gate_HG = rearrange(neighbors.gate_LH[layer], "(h g) -> h g", h=keys_NLHRD.shape[2])
        scores = scores + repeat(gate_HG, "h g -> h (g m) 1", m=size)
    scores = scores.masked_fill(~neighbors.states.exists_NLR[:, :, None, None], -torch.inf)
    return _off_grid(scores, neighbors, query_NHGTD.shape[3], size)


def _read_values(weights_NHGTR: Tensor, neighbors: Reading, layer: int) -> Tensor:
    grid, size = _on_grid(weights_NHGTR, neighbors)
    out = grid @ neighbors.states.values[layer]
    return _off_grid(out, neighbors, weights_NHGTR.shape[3], size)


def _on_grid(x_NHGTD: Tensor, neighbors: Reading) -> tuple[Tensor, int]:
    """Return the tokens sorted by group, (texts, groups, key heads, tokens, D), and their number.

    The tokens of all heads that share keys lie side by side.
    """
    num_groups = neighbors.states.exists_NLR.shape[1]
    # A lone group needs no room for what lies outside of this pass.
    before = neighbors.skipped if num_groups > 1 else 0
    size = neighbors.group_size if num_groups > 1 else x_NHGTD.shape[3]
    after = num_groups * size - before - x_NHGTD.shape[3]
    padded = nn.functional.pad(x_NHGTD, (0, 0, before, after))
    return rearrange(padded, "n h g (l m) d -> n l h (g m) d", m=size), size


def _off_grid(grid: Tensor, neighbors: Reading, num_tokens: int, size: int) -> Tensor:
    """Undo ``_on_grid``."""
    before = neighbors.skipped if neighbors.states.exists_NLR.shape[1] > 1 else 0
    x_NHGTD = rearrange(grid, "n l h (g m) d -> n h g (l m) d", m=size)
    return x_NHGTD[:, :, :, before : before + num_tokens]


AttentionInterface.register(ATTENTION_NAME, attend)
AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
