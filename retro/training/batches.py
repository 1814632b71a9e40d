"""Batches on their way to the device, prepared between the steps or by worker processes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from retro.data.dataset import Batch, SequenceDataset
from retro.model.language_model import Retrieved, TokenRows
from retro.model.packing import Packing


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceBatch:
    """A batch as tensors on the device of the model; shapes as in ``Batch``."""

    rows: TokenRows
    retrieved: Retrieved
    num_labels: int

    @classmethod
    def move(cls, batch: Batch, device: torch.device) -> "DeviceBatch":
        """Copy a batch to a device."""

        def moved(array: NDArray[Any]) -> torch.Tensor:
            return torch.from_numpy(array).to(device, non_blocking=True)

        packing = None
        if batch.pieces_BT is not None and batch.chunk_starts_C is not None:
            packing = Packing(moved(batch.pieces_BT), moved(batch.chunk_starts_C))
        return cls(
            rows=TokenRows(
                moved(batch.seq_BT), moved(batch.labels_BT), moved(batch.counted_BT), packing
            ),
            retrieved=Retrieved(moved(batch.retrieved), moved(batch.exists)),
            num_labels=batch.num_labels,
        )


def load_batches(
    dataset: SequenceDataset, rows: Iterable[NDArray[np.int64]], num_workers: int
) -> Iterator[Batch]:
    """Yield the batch of each item of ``rows``, in their order however many workers there are.

    Args:
        dataset: Where rows come from.
        rows: Numbers of rows, one array per batch; it may be endless.
        num_workers: Processes that prepare batches ahead; 0 prepares them when asked.
    """
    if num_workers == 0:
        yield from (dataset.batch(rows_B) for rows_B in rows)
        return
    loader: DataLoader[Batch] = DataLoader(
        _BatchDataset(dataset),
        batch_size=None,
        sampler=rows,
        num_workers=num_workers,
        collate_fn=_unchanged,
    )
    yield from loader


class _BatchDataset(Dataset[Batch]):
    """Makes the keys of a DataLoader whole batches."""

    def __init__(self, dataset: SequenceDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, rows_B: NDArray[np.int64]) -> Batch:
        return self.dataset.batch(rows_B)


def _unchanged(batch: Any) -> Any:
    return batch
