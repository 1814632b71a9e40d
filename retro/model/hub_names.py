"""Names of models on the Hub, and their files."""

import re
from collections.abc import Sequence
from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented there

from retro.errors import ArtifactMissingError, PublishError, shown
from retro.places import check_place
from retro.whole_files import disk_errors

LONGEST_REASON = 200
HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
HUB_ERRORS = (OSError, HTTPError, ValueError, RuntimeError)
"""What the Hub's client raises for a wrong name, no network, no access and no login."""


def check_repository(repo_id: str) -> None:
    """Refuse a name that nothing on the Hub can have.

    Raises:
        PublishError: It is such a name.
    """
    try:
        validate_repo_id(repo_id)
    except ValueError as error:
        raise PublishError(
            f"The name of a model on the Hub must be like user/model, got {shown(repo_id)} "
            f"({first_sentence(error)}). Choose another name."
        ) from error


def is_hub_name(name: str) -> bool:
    """Return whether a model on the Hub can have a name."""
    return HUB_NAME.fullmatch(name) is not None


def download(
    name: str | Path,
    patterns: Sequence[str],
    next_step: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Path:
    """Return the folder of a model, downloading it if need be.

    Args:
        name: A folder, or a name on the Hub.
        patterns: Files of the Hub that are wanted.
        next_step: What to do where it cannot be had; a sentence.
        revision: Branch, tag or commit on the Hub.
        token: Access token of the Hub.
        cache_dir: Where downloads are kept.
        force_download: Download again what is in the cache.
        local_files_only: Use the cache alone.

    Raises:
        ConfigError: No model could be called so.
        ArtifactMissingError: It is neither here nor can it be downloaded.
        DiskFullError: There is no room for the download.
    """
    folder = check_place("The model", name)
    if folder.is_dir():
        return folder
    try:
        with disk_errors(folder):
            return Path(
                snapshot_download(
                    str(name),
                    revision=revision,
                    token=token,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    allow_patterns=list(patterns),
                )
            )
    except HUB_ERRORS as error:
        raise ArtifactMissingError(
            f"The model {shown(str(name))} is not a folder here and cannot be had from the Hub "
            f"({first_sentence(error)}). {next_step}"
        ) from error


def cached_folder(name: str, file: str, revision: str | None = None) -> Path | None:
    """Return the folder of a downloaded model that has a file; None where there is none.

    Nothing is asked of the network.
    """
    if not is_hub_name(name):
        return None
    path = try_to_load_from_cache(name, file, revision=revision)
    return Path(path).parent if isinstance(path, str) else None


def first_sentence(error: Exception) -> str:
    """Return the first sentence of what a library says, shortened."""
    lines = str(error).strip().splitlines()
    return lines[0].split(". ")[0][:LONGEST_REASON].rstrip(".: ") if lines else type(error).__name__
