"""What a training step of a pretrained model costs, counted from its sizes.

Measured on SmolLM2-135M with sequences of 384 to 1,536 tokens: the memory within 20 %.
"""

from retro.config.pretrained import PretrainedConfig, TrainingMode
from retro.config.training import TrainingConfig
from retro.model.memory import BYTES_PER_WEIGHT, TrainingMemory
from retro.model.pretrained.stored import BaseSizes

STATES_PER_TOKEN = (12, 5)
"""Inner states of a layer that are kept for the gradient: of the width, of the inner width."""
SCORE_BYTES = 12
"""Bytes of each score of the attention that are kept: the score, its weight, and its mask."""


def training_flops(sizes: BaseSizes, config: PretrainedConfig, training: TrainingConfig) -> float:
    """Return the operations of training on one token, its share of the neighbors included.

    Neighbors are read without a gradient, and without the output layer.
    """
    passes = 3 if config.mode is TrainingMode.FULL else 2
    body = sizes.parameters - sizes.vocab_size * sizes.width
    read = 2 * training.num_neighbors
    attended = training.sequence_length / 2 + read * config.chunk_size
    attention = 4.0 * sizes.layers * sizes.width * attended
    return passes * (2.0 * sizes.parameters + attention) + read * 2.0 * body


def training_memory(
    sizes: BaseSizes,
    config: PretrainedConfig,
    training: TrainingConfig,
    *,
    checkpointing: bool,
    halves: bool,
) -> TrainingMemory:
    """Estimate the memory of a training step.

    Args:
        sizes: Of the base.
        config: What is trained.
        training: How.
        checkpointing: Whether inner states are computed again instead of being kept.
        halves: Whether a base that is not trained is held in bfloat16, as on a GPU.
    """
    trained = sizes.trained(config)
    is_half = halves and config.mode is not TrainingMode.FULL
    tokens, read = training.batch_size * training.sequence_length, 2 * training.num_neighbors
    of_width, of_inner = STATES_PER_TOKEN
    layer = BYTES_PER_WEIGHT * (of_width * sizes.width + of_inner * sizes.inner)
    layer += SCORE_BYTES * sizes.heads * (training.sequence_length + read * config.chunk_size)
    kept = BYTES_PER_WEIGHT * sizes.width
    per_token = layer + sizes.layers * kept if checkpointing else sizes.layers * layer
    # Keys and values of the neighbors.
    per_token += 2 * BYTES_PER_WEIGHT * sizes.layers * sizes.width * read
    return TrainingMemory(
        weights=sizes.parameters * (2 if is_half else BYTES_PER_WEIGHT),
        gradients=BYTES_PER_WEIGHT * trained,
        moments=2 * BYTES_PER_WEIGHT * trained,
        activations=tokens * per_token,
    )
