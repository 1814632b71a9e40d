"""Keys and values of neighbors: each is read once by the model itself, alone.

Shape suffixes: N texts, L chunks, K neighbors per chunk, R tokens per retrieved value, W tokens
per neighbor as it is read (one more), D width of a head.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
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
    """(layers, key heads, tokens, width)."""
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
        num_texts, num_chunks, num_neighbors, _ = retrieved.ids.shape
        ids_WR = retrieved.ids.flatten(0, 2)
        ids = torch.nn.functional.pad(ids_WR, (1, 0), value=self._bos_id)
        # The token in front belongs to neighbors that have any.
        any_N1 = retrieved.exists.flatten(0, 2).any(-1, keepdim=True)
        exists = torch.cat([any_N1, retrieved.exists.flatten(0, 2)], dim=1)
        rows = self._rows(ids * exists, exists)
        shape = (num_texts, num_chunks, num_neighbors)

        def side_by_side(rows_of_layer: Tensor) -> Tensor:
            # (texts, chunks, neighbors, heads, tokens, width)
            split = rows_of_layer.unflatten(0, shape)
            return split.transpose(2, 3).flatten(3, 4)

        return GroupStates(
            [side_by_side(layer) for layer in torch.stack([row.keys for row in rows], 1)],
            [side_by_side(layer) for layer in torch.stack([row.values for row in rows], 1)],
            exists.unflatten(0, shape).flatten(2, 3),
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
            cache = self._read(ids[places], exists[places])
            keys = torch.stack([layer.keys for layer in cache.layers], dim=1)
            values = torch.stack([layer.values for layer in cache.layers], dim=1)
            for name, row_keys, row_values in zip(missing, keys, values, strict=True):
                found[name] = NeighborStates(row_keys.clone(), row_values.clone())
        for name in names:
            self._kept[name] = found[name]
            self._kept.move_to_end(name)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return [found[name] for name in names]


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
