"""Checks of what RETRO is given, and the masks that follow from ``pad_id``.

Shape suffixes: B batch, T tokens, L chunks, K neighbors per chunk, R tokens per retrieved value.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from retro.config.model import ModelConfig
from retro.errors import ShapeError, shown
from retro.model.language_model import Retrieved
from retro.model.packing import Packing


@dataclass(frozen=True, slots=True)
class Labeled:
    """Tokens and what each is followed by."""

    inputs_BT: Tensor
    labels_BT: Tensor
    counted_BT: Tensor
    """True where the label counts."""


def labeled(
    seq: Tensor,
    labels: Tensor | None,
    counted: Tensor | None,
    packing: Packing | None,
    config: ModelConfig,
) -> Labeled:
    """Return inputs and labels; see ``RETRO.forward``.

    Raises:
        ShapeError: They do not fit each other.
    """
    if labels is not None:
        if labels.shape != seq.shape:
            raise ShapeError(
                f"labels must have the shape of seq, {tuple(seq.shape)}, got {tuple(labels.shape)}."
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
    check_ids(labels, config)
    if counted is None:
        counted = labels != config.pad_id
    elif counted.shape != labels.shape:
        raise ShapeError(
            f"counted must have the shape of the labels, {tuple(labels.shape)}, "
            f"got {tuple(counted.shape)}."
        )
    return Labeled(inputs_BT, labels.long(), counted)


def check_sequence(
    seq: object, left_padding: int, packing: Packing | None, config: ModelConfig
) -> None:
    """Refuse what is no sequence, or too long a one.

    Raises:
        ShapeError: It is.
    """
    if not isinstance(seq, Tensor) or seq.ndim != 2 or seq.shape[1] == 0:
        got = tuple(seq.shape) if isinstance(seq, Tensor) else shown(seq)
        raise ShapeError(f"seq must be a tensor of token ids, (batch, tokens), got {got}.")
    if seq.shape[1] > config.max_seq_len:
        raise ShapeError(
            f"The model reads at most max_seq_len = {config.max_seq_len} tokens, "
            f"got {seq.shape[1]}. Shorten the sequence."
        )
    if not 0 <= left_padding < config.chunk_size or (packing and left_padding):
        raise ShapeError(
            f"left_padding must be at least 0 and below chunk_size = "
            f"{config.chunk_size}, and 0 for packed rows, got {left_padding}."
        )


def check_ids(ids: Tensor, config: ModelConfig) -> None:
    """Refuse ids that the vocabulary does not have.

    Raises:
        ShapeError: There is one, or they are no integers.
    """
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise ShapeError(f"Token ids must be integers, got {ids.dtype}.")
    # On the CPU this costs nothing; on a GPU it would wait for the device, and a compiled
    # graph would break here.
    if ids.device.type != "cpu" or not ids.numel() or torch.compiler.is_compiling():
        return
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= config.num_tokens:
        raise ShapeError(
            f"Token ids must be at least 0 and below num_tokens = "
            f"{config.num_tokens}, got {low if low < 0 else high}."
        )


def masked(retrieved: Tensor | Retrieved, pad_id: int) -> Retrieved:
    """Return retrieved values with their mask, which a tensor alone marks by its ``pad_id``."""
    return (
        retrieved if isinstance(retrieved, Retrieved) else Retrieved(retrieved, retrieved != pad_id)
    )


def neighbors_of_rows(
    retrieved: Retrieved, num_rows: int, num_tokens: int, num_chunks: int
) -> Retrieved:
    """Return the retrieved values of rows, (batch, chunks, neighbors, tokens).

    Raises:
        ShapeError: They are not those of the chunks that end within these tokens.
    """
    if retrieved.ids.ndim == 3:
        retrieved = Retrieved(retrieved.ids[:, :, None, :], retrieved.exists[:, :, None, :])
    if retrieved.ids.ndim != 4 or retrieved.ids.shape[:2] != (num_rows, num_chunks):
        raise ShapeError(
            f"retrieved must be (batch, chunks, neighbors, tokens) or (batch, chunks, tokens) "
            f"with batch {num_rows} and chunks {num_chunks} for {num_tokens} tokens, "
            f"got {tuple(retrieved.ids.shape)}."
        )
    return retrieved


def check_packing(packing: Packing, seq: Tensor) -> None:
    """Refuse a packing of other rows.

    Raises:
        ShapeError: It is.
    """
    if packing.pieces_BT.shape != seq.shape:
        raise ShapeError(
            f"packing must say for each of the {tuple(seq.shape)} tokens to which piece it "
            f"belongs, got {tuple(packing.pieces_BT.shape)}."
        )


def neighbors_of_packed(retrieved: Retrieved, packing: Packing) -> Retrieved:
    """Return the retrieved values of packed rows as one row, (1, chunks, neighbors, tokens).

    Raises:
        ShapeError: They are not those of the packing's chunks.
    """
    if retrieved.ids.ndim != 3 or len(retrieved.ids) != len(packing.chunk_starts_C):
        raise ShapeError(
            f"retrieved must be (chunks, neighbors, tokens) for the "
            f"{len(packing.chunk_starts_C)} chunks of the packed rows, "
            f"got {tuple(retrieved.ids.shape)}."
        )
    return Retrieved(retrieved.ids[None], retrieved.exists[None])
