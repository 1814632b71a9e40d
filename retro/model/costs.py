"""What training costs, whichever kind of model: parameters, operations, memory.

Importing this module does not import torch.
"""

from retro.config.model import ModelConfig
from retro.config.training import TrainingConfig
from retro.errors import ConfigError
from retro.model.kinds import ModelSettings
from retro.model.memory import TrainingMemory
from retro.model.pretrained import costs as pretrained
from retro.model.pretrained.stored import BaseSizes, known_sizes
from retro.model.retro import costs as scratch
from retro.model.retro.presets import parameter_count


def num_parameters(settings: ModelSettings) -> int:
    """Return the weights of a model; 0 for a pretrained one that is not on this machine."""
    if isinstance(settings, ModelConfig):
        return parameter_count(settings)
    sizes = known_sizes(settings)
    return 0 if sizes is None else sizes.parameters


def num_trained(settings: ModelSettings) -> int:
    """Return the parameters that training changes; 0 where they are not known."""
    if isinstance(settings, ModelConfig):
        return parameter_count(settings)
    sizes = known_sizes(settings)
    return 0 if sizes is None else sizes.trained(settings)


def flops_per_token(settings: ModelSettings, training: TrainingConfig) -> float:
    """Return the operations of training on one token.

    Raises:
        ConfigError: The sizes of a pretrained model are not known.
    """
    if isinstance(settings, ModelConfig):
        length = training.sequence_length
        flops = scratch.forward_flops(settings, length, training.num_neighbors)
        return flops.training / length
    return pretrained.training_flops(_sizes(settings), settings, training)


def memory_of(
    settings: ModelSettings,
    training: TrainingConfig,
    *,
    checkpointing: bool,
    halves: bool,
    gpu: bool,
) -> TrainingMemory:
    """Estimate the memory of a training step.

    Args:
        settings: The model.
        training: How it is trained.
        checkpointing: Whether inner states are computed again instead of being kept.
        halves: Whether products are computed in bfloat16.
        gpu: Whether the device is a GPU.

    Raises:
        ConfigError: The sizes of a pretrained model are not known.
    """
    if isinstance(settings, ModelConfig):
        return scratch.training_memory(
            settings,
            batch_size=training.batch_size,
            tokens=training.sequence_length,
            num_neighbors=training.num_neighbors,
            value_bytes=3 if halves else 4,
            checkpointing=checkpointing,
        )
    return pretrained.training_memory(
        _sizes(settings), settings, training, checkpointing=checkpointing, halves=gpu
    )


def _sizes(settings: ModelSettings) -> BaseSizes:
    assert not isinstance(settings, ModelConfig)
    sizes = known_sizes(settings)
    if sizes is None:
        raise ConfigError(
            f"What training {settings.base} needs is known only when the model is on this machine, "
            f"and it is not. Start the run, which fetches it first."
        )
    return sizes
