"""Folders that later steps rely on: each describes itself, and is checked when read.

A stage writes into a staging folder beside its final place. When everything is on
disk, ``manifest.json`` is written last (sizes, sha256, settings, fingerprint of the
inputs) and the folder takes its final name. A reader that finds a manifest therefore
finds everything the manifest names.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro.errors import ArtifactError, ArtifactMismatchError, ArtifactMissingError, shown
from retro.json_files import read_object
from retro.places import check_place
from retro.whole_files import json_bytes, write_json

MANIFEST_NAME = "manifest.json"
TOKENIZER_FILE = "tokenizer.json"
"""Of a corpus, a run, a saved model."""
SPECIAL_TOKENS_FILE = "special_tokens.json"
"""Beside the tokenizer of a pretrained model: which tokens begin and end a text."""
FORMAT_VERSION = 1
SUM_NAME = "sha256"
"""Field of a manifest with the fingerprint of its other fields; earlier versions wrote none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a finished folder holds and what it was made from."""

    kind: str
    """What the folder is, for example ``database`` or ``checkpoint``."""

    fingerprint: str
    """Identity of the content: settings and inputs, as a sha256 in hexadecimal."""

    settings: dict[str, Any]
    """Settings and facts the stage recorded."""

    files: dict[str, dict[str, Any]]
    """Relative path to ``{"bytes", "sha256"}``."""


def fingerprint(value: object) -> str:
    """Return the sha256 of a JSON-serialisable value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_array(array: NDArray[Any]) -> str:
    """Return the sha256 of an array's numbers in hexadecimal, row after row."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def write_manifest(
    folder: Path, kind: str, *, content: str, settings: Mapping[str, Any]
) -> Manifest:
    """Describe every file in ``folder``; call it last.

    Args:
        folder: A folder whose other files are complete.
        kind: What the folder is.
        content: Fingerprint of settings and inputs, see ``fingerprint``.
        settings: Settings and facts to record.

    Returns:
        The manifest as written.
    """
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": sha256_file(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST_NAME
    }
    values = {
        "format": FORMAT_VERSION,
        "kind": kind,
        "fingerprint": content,
        "settings": dict(settings),
        "files": files,
    }
    write_json(folder / MANIFEST_NAME, {**values, SUM_NAME: _sum(values)})
    return Manifest(kind=kind, fingerprint=content, settings=dict(settings), files=files)


def _sum(values: dict[str, Any]) -> str:
    # As a reader finds them: JSON has neither tuples nor numbers as keys.
    return fingerprint(json.loads(json.dumps(values)))


def read_manifest(folder: Path, kind: str) -> Manifest:
    """Read a folder's manifest and check what can be checked without reading the files.

    Args:
        folder: The finished folder.
        kind: What it must be.

    Raises:
        ArtifactMissingError: There is no finished folder here.
        ArtifactMismatchError: It is something else, of another format, or a file is
            missing or has another size.
    """
    manifest = read_record(folder, kind)
    for name, entry in manifest.files.items():
        file = folder / name
        found = file.stat().st_size if file.exists() else None
        if found != entry["bytes"]:
            raise ArtifactMismatchError(
                f"{folder.name}/{name} must have {entry['bytes']} bytes, "
                f"got {'no file' if found is None else found}. Make the {kind} again."
            )
    return manifest


def read_record(folder: Path, kind: str) -> Manifest:
    """Read a folder's manifest alone, whatever became of the files that it names.

    Raises:
        ArtifactMissingError: There is no finished folder here.
        ArtifactMismatchError: It is something else, of another format, or is damaged.
    """
    path = folder / MANIFEST_NAME
    if not path.exists():
        raise ArtifactMissingError(
            f"{folder.parent.name} has no finished {kind}. Run the step that makes it first."
        )
    values = read_object(path)
    if values.get("format") != FORMAT_VERSION:
        raise ArtifactMismatchError(
            f"{folder.name}/{MANIFEST_NAME} must have format {FORMAT_VERSION}, "
            f"got {shown(values.get('format'))}. Make the {kind} again with this version."
        )
    if values.get("kind") != kind:
        raise ArtifactMismatchError(
            f"{folder.name} must be a {kind}, got {shown(values.get('kind'))}. "
            f"Choose another folder."
        )
    try:
        manifest = Manifest(
            kind=kind,
            fingerprint=values["fingerprint"],
            settings=values["settings"],
            files={_inner(name): _entry(entry) for name, entry in values["files"].items()},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ArtifactMismatchError(
            f"{folder.name}/{MANIFEST_NAME} is incomplete ({error}). Make the {kind} again."
        ) from error
    _check_sum(folder, values)
    return manifest


def _inner(name: str) -> str:
    """Return the name of a file if it lies in the folder."""
    path = check_place("a file", name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{shown(name)} is not in the folder")
    return name


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    return {"bytes": entry["bytes"], "sha256": entry["sha256"]}


def _check_sum(folder: Path, values: dict[str, Any]) -> None:
    fields = {name: value for name, value in values.items() if name != SUM_NAME}
    # An unknown field may be the one with the sum, damaged.
    is_known = fields.keys() == {"format", "kind", "fingerprint", "settings", "files"}
    is_same = (folder / MANIFEST_NAME).read_bytes() == json_bytes(values)
    if not (is_known and is_same and values.get(SUM_NAME) in (None, _sum(fields))):
        raise ArtifactMismatchError(
            f"{folder.name}/{MANIFEST_NAME} is damaged: its sha256 differs from its content. "
            f"Make the {values['kind']} again."
        )


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Compare the sha256 of every file with the manifest.

    Raises:
        ArtifactMismatchError: A file's content is not what was written.
    """
    for name, entry in manifest.files.items():
        if sha256_file(folder / name) != entry["sha256"]:
            raise ArtifactMismatchError(
                f"{folder.name}/{name} is damaged: its sha256 differs from the manifest. "
                f"Make the {manifest.kind} again."
            )


def is_finished(folder: Path, kind: str, wanted: str) -> bool:
    """Return whether a folder is whole, undamaged, and made from these inputs."""
    try:
        manifest = read_manifest(folder, kind)
        if manifest.fingerprint != wanted:
            return False
        verify_files(folder, manifest)
    except ArtifactError:
        return False
    return True
