"""Makes language models: a new one, one of a checkpoint, a saved one."""

from pathlib import Path

import torch

from retro.config.pretrained import PretrainedConfig
from retro.model.hub import find_model, read_saved_settings
from retro.model.kinds import PRETRAINED_KIND, RETRO_KIND, ModelSettings, kind_in
from retro.model.language_model import LanguageModel, ModelClass, ReadingModel
from retro.model.pretrained.base import open_base
from retro.model.pretrained.model import PretrainedModel
from retro.model.retro.model import RETRO

CLASSES: dict[str, ModelClass] = {RETRO_KIND: RETRO, PRETRAINED_KIND: PretrainedModel}


def settle_settings(kind: str, settings: ModelSettings) -> ModelSettings:
    """Return settings with everything written down that a new model would find out.

    Args:
        kind: Kind of the model.
        settings: Its settings.
    """
    return CLASSES[kind].settle(settings)


def new_model(kind: str, settings: ModelSettings, device: torch.device) -> LanguageModel:
    """Return a model with initial weights.

    Args:
        kind: Its kind.
        settings: Its settings.
        device: Where it is to be.
    """
    return CLASSES[kind].create(settings, device)


def open_pretrained(folder: Path, config: PretrainedConfig, device: torch.device) -> ReadingModel:
    """Return a pretrained model of transformers that reads neighbors, in evaluation mode.

    Args:
        folder: Where ``retro.model.pretrained.base.find_base`` found it.
        config: Its settings.
        device: Where the model is to be.

    Raises:
        ArtifactMissingError: A file of it is not there.
        ArtifactMismatchError: It cannot read neighbors, a file is damaged, or it is too large.
    """
    return PretrainedModel(config, open_base(folder, device)).eval()


def open_checkpoint(
    kind: str, settings: ModelSettings, folder: Path, device: torch.device
) -> LanguageModel:
    """Return the model of a checkpoint, in evaluation mode.

    Args:
        kind: Kind of the run's model.
        settings: Settings of the run's model.
        folder: Folder of the checkpoint.
        device: Where the model is to be.

    Raises:
        ArtifactMismatchError: The weights are damaged or belong to a model of other sizes.
    """
    model = new_model(kind, settings, device)
    model.load_weights(folder)
    model.network.eval()
    return model


def open_saved(name: str | Path, device: torch.device) -> LanguageModel:
    """Return a saved model, in evaluation mode, with its origin.

    Args:
        name: A folder, or a name on the Hub.
        device: Where the model is to be.

    Raises:
        ArtifactMissingError: There is no such folder or name, or a file is not there.
        ArtifactMismatchError: A file is damaged or does not fit the others.
        ConfigError: A setting is unknown or outside its range.
    """
    folder = find_model(name)
    kind = kind_in(read_saved_settings(folder))
    return CLASSES[kind].from_pretrained(folder, map_location=str(device))
