"""Exceptions this package raises on purpose.

RetroError
|-- ConfigError              a setting is unknown or outside its range
|-- InputError               a document or a prompt cannot be used
|-- ShapeError               an array does not fit the operation
|-- TrainingError            a training run cannot go on
|-- PublishError             a model cannot be put on the Hugging Face Hub
`-- ArtifactError            a file written by an earlier step cannot be used
    |-- ArtifactMissingError
    |-- ArtifactMismatchError
    `-- DiskFullError

A caller that can show a message to a person catches ``RetroError``. Anything
else that escapes is a bug and is logged with its traceback.
"""


class RetroError(Exception):
    """Base class; the message is fit to be shown to a person."""


class ConfigError(RetroError, ValueError):
    """A setting is unknown or outside its range."""


class InputError(RetroError, ValueError):
    """A document or a prompt cannot be used."""


class ShapeError(RetroError, ValueError):
    """An array does not fit the operation."""


class TrainingError(RetroError):
    """A training run cannot go on; its last good checkpoint is kept."""


class PublishError(RetroError):
    """A model cannot be put on the Hugging Face Hub."""


class ArtifactError(RetroError):
    """A file written by an earlier step cannot be used."""


class ArtifactMissingError(ArtifactError):
    """A file that an earlier step should have written is not there."""


class ArtifactMismatchError(ArtifactError):
    """Two files were made with different settings, or a file is damaged."""


class DiskFullError(ArtifactError):
    """A file could not be written because the disk is full."""


def shown(value: object) -> str:
    """Return a value as it can stand in a message, shortened."""
    # What was sent may have millions of characters or items.
    text = repr(value[:80] if isinstance(value, str | bytes | list | tuple) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."
