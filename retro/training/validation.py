"""Validation losses of a model in training, with retrieval on, off, and with others' neighbors.

Shape suffixes: B rows of a batch, T tokens, N any number, K neighbors per chunk, R tokens per
retrieved value.
"""

import numpy as np
import torch

from retro.config.training import TrainingConfig
from retro.data.dataset import SequenceDataset
from retro.model.language_model import LanguageModel, Retrieved
from retro.training.batches import DeviceBatch


@torch.no_grad()
def validation_losses(
    model: LanguageModel, validation: SequenceDataset, config: TrainingConfig
) -> dict[str, float]:
    """Return ``val_loss_on``, ``val_loss_off`` and ``val_loss_shuffled`` in nats per token.

    Where the last is no higher than the first, the model does not use what it retrieves.

    Args:
        model: In evaluation mode.
        validation: Held-out sequences.
        config: How many of them, and how many at once.
    """
    sums = np.zeros(3)
    count = 0
    num_sequences = min(len(validation), config.eval_sequences)
    # Evenly over all held-out documents: the first sequences are of one or two alone.
    chosen_N = np.arange(num_sequences) * len(validation) // num_sequences
    for start in range(0, num_sequences, config.batch_size):
        rows_B = chosen_N[start : start + config.batch_size]
        batch = DeviceBatch.move(validation.batch(rows_B), model.device)
        for i, retrieved in enumerate((batch.retrieved, None, _shuffled(batch.retrieved))):
            losses_BT = model.losses(batch.rows, retrieved)
            sums[i] += losses_BT.double().sum().item()
        count += batch.num_labels
    on, off, shuffled = (float(total) / max(1, count) for total in sums)
    return {"val_loss_on": on, "val_loss_off": off, "val_loss_shuffled": shuffled}


def _shuffled(retrieved: Retrieved) -> Retrieved:
    """Return each chunk's retrieved values with another chunk."""

    def moved(values: torch.Tensor) -> torch.Tensor:
        chunks_NKR = values.flatten(0, -3)
        return chunks_NKR.roll(max(1, len(chunks_NKR) // 2), 0).view_as(values)

    return Retrieved(moved(retrieved.ids), moved(retrieved.exists))
