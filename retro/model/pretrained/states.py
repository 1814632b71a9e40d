"""Keys and values of neighbors: each is read once by the model itself, alone.

A token that begins a text stands in front of each while it is read. The texts do not attend to
it: it draws attention whatever it is about, and without it neighbors are worth two percent of the
bits more (``bench/RESULTS.md``).
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from transformers import DynamicCache

from retro.model.language_model import Retrieved
from retro.model.pretrained.attention import GroupStates

MOST_KEPT = 32
"""Neighbors whose states are kept for the next text that meets them."""

ReadAlone = Callable[[Tensor, Tensor], DynamicCache]
"""Reads rows of tokens, given where there are any, and returns keys and values of every layer."""


@dataclass(frozen=True, slots=True)
class NeighborStates:
    """One neighbor in every layer."""

    keys: Tensor
    """(layers, key heads, tokens, width), the token in front left out."""
    values: Tensor
    """The same shape."""


class NeighborMemory:
    """Reads neighbors, and keeps what it has read for a while.

    What is kept is found by its tokens, so texts that are written at the same time share it and
    never see each other's neighbors.

    Args:
        read: Reads rows of tokens.
        bos_id: Token in front of every neighbor.
    """

    def __init__(self, read: ReadAlone, bos_id: int) -> None:
        self._read = read
        self._bos_id = bos_id
        self._kept: OrderedDict[bytes, NeighborStates] = OrderedDict()

    def clear(self) -> None:
        """Forget everything, because the weights have changed."""
        self._kept.clear()

    def states(self, retrieved: Retrieved) -> GroupStates:
        """Return the states of retrieved values.

        Args:
            retrieved: (texts, chunks, neighbors, tokens).
        """
        shape = retrieved.ids.shape[:3]
        rows = self._rows(retrieved.ids.flatten(0, 2), retrieved.exists.flatten(0, 2))

        def side_by_side(rows_of_layer: Tensor) -> Tensor:
            return rearrange(
                rows_of_layer, "(n l k) h r d -> n l h (k r) d", n=shape[0], l=shape[1]
            )

        return GroupStates(
            [side_by_side(layer) for layer in torch.stack([row.keys for row in rows], 1)],
            [side_by_side(layer) for layer in torch.stack([row.values for row in rows], 1)],
            retrieved.exists.flatten(2, 3),
        )

    def _rows(self, ids: Tensor, exists: Tensor) -> list[NeighborStates]:
        """Return the states of rows of tokens; rows that are not kept are read together."""
        names = [
            row.tobytes() for row in torch.where(exists, ids, -1).to("cpu", torch.int32).numpy()
        ]
        missing = {name: place for place, name in enumerate(names) if name not in self._kept}
        found = {name: self._kept[name] for name in names if name in self._kept}
        if missing:
            places = torch.tensor(list(missing.values()), device=ids.device)
            pad = torch.nn.functional.pad
            cache = self._read(
                pad(ids[places] * exists[places], (1, 0), value=self._bos_id),
                pad(exists[places], (1, 0), value=True),
            )
            keys, values = (
                torch.stack([layer[:, :, 1:] for layer in layers], dim=1)
                for layers in layers_of(cache)
            )
            for name, row_keys, row_values in zip(missing, keys, values, strict=True):
                found[name] = NeighborStates(row_keys.clone(), row_values.clone())
        for name in names:
            self._kept[name] = found[name]
            self._kept.move_to_end(name)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return [found[name] for name in names]


def layers_of(cache: DynamicCache) -> tuple[list[Tensor], list[Tensor]]:
    """Return keys and values of every layer, (rows, key heads, tokens, width)."""
    kept: list[Any] = cache.layers
    return [layer.keys for layer in kept], [layer.values for layer in kept]


def join_groups(first: GroupStates | None, then: GroupStates | None) -> GroupStates | None:
    """Return groups behind each other; groups with fewer neighbor tokens are filled up.

    Args:
        first: The groups in front; None for no group.
        then: Those behind.
    """
    if first is None or then is None:
        return first if then is None else then
    width = max(first.exists_NLR.shape[2], then.exists_NLR.shape[2])
    parts = [_filled(part, width) for part in (first, then)]
    return GroupStates(
        [torch.cat(pair, dim=1) for pair in zip(*(part.keys for part in parts), strict=True)],
        [torch.cat(pair, dim=1) for pair in zip(*(part.values for part in parts), strict=True)],
        torch.cat([part.exists_NLR for part in parts], dim=1),
    )


def _filled(states: GroupStates, width: int) -> GroupStates:
    missing = width - states.exists_NLR.shape[2]
    if not missing:
        return states
    pad = torch.nn.functional.pad
    return GroupStates(
        [pad(layer, (0, 0, 0, missing)) for layer in states.keys],
        [pad(layer, (0, 0, 0, missing)) for layer in states.values],
        pad(states.exists_NLR, (0, missing)),
    )


def nothing_like(states: GroupStates, num_groups: int) -> GroupStates:
    """Return groups without neighbors, of the shapes of others."""

    def empty(layer: Tensor) -> Tensor:
        return layer.new_zeros(len(layer), num_groups, *layer.shape[2:])

    exists_NLR = empty(states.exists_NLR)
    return GroupStates(
        [empty(layer) for layer in states.keys],
        [empty(layer) for layer in states.values],
        exists_NLR,
    )
