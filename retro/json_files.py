"""JSON files that an earlier step, another program or a stranger wrote, read within limits.

Python's parser recurses: what is nested deeply enough ends it with a ``RecursionError``, sooner
the more calls are under way.
"""

import errno
import json
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from retro.errors import ArtifactMismatchError, ArtifactMissingError

MOST_BYTES = 2**26
"""Of settings, manifests and tokenizers."""
MOST_BYTES_OF_A_LIST = 2**30
"""Of a list with an item for each document."""
MOST_DEPTH = 100
TOO_DEEP = f"it may be nested at most {MOST_DEPTH} deep, got more"


def parse_json(text: str | bytes) -> Any:
    """Return what JSON says.

    Raises:
        ValueError: It is not JSON, or is nested too deep.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    depth, level = 0, _containers((value,))
    while level:
        depth += 1
        if depth > MOST_DEPTH:
            raise ValueError(TOO_DEEP)
        level = [
            item
            for outer in level
            for item in _containers(outer.values() if isinstance(outer, dict) else outer)
        ]
    return value


def read_json(path: Path, most_bytes: int = MOST_BYTES) -> Any:
    """Read a JSON file, whatever it holds.

    Raises:
        ArtifactMissingError: The file is not there.
        ArtifactMismatchError: It is too large, no JSON, or nested too deep.
    """
    content = read_limited(path, most_bytes)
    try:
        return parse_json(content)
    except ValueError as error:
        raise _damage(path, str(error)) from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        ArtifactMissingError: The file is not there.
        ArtifactMismatchError: It is too large, no JSON, nested too deep, or holds no object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise _damage(path, f"it must hold an object, got {_kind(value)}")
    return value


def read_list(path: Path) -> list[Any]:
    """Read a JSON file that holds a list.

    Raises:
        ArtifactMissingError: The file is not there.
        ArtifactMismatchError: It is too large, no JSON, nested too deep, or holds no list.
    """
    value = read_json(path, MOST_BYTES_OF_A_LIST)
    if not isinstance(value, list):
        raise _damage(path, f"it must hold a list, got {_kind(value)}")
    return value


def read_limited(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Read a file whole, unless it is too large to be what it should be.

    Raises:
        ArtifactMissingError: The file is not there.
        ArtifactMismatchError: It is too large, or no file.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise _damage(path, "it must be a file, got something else")
        if found.st_size > most_bytes:
            raise _damage(path, f"it may have at most {most_bytes} bytes, got {found.st_size}")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactMissingError(
            f"{path.parent.name}/{path.name} does not exist. Run the step that writes it."
        ) from None
    except OSError as error:
        # Everything else may pass, such as too many open files, and is no fault of this one.
        if error.errno != errno.ELOOP:
            raise
        raise _damage(path, "it must be a file, got a link to itself") from error


def _containers(values: Iterable[Any]) -> list[dict[str, Any] | list[Any]]:
    return [value for value in values if isinstance(value, (dict, list))]


def _damage(path: Path, reason: str) -> ArtifactMismatchError:
    return ArtifactMismatchError(
        f"{path.parent.name}/{path.name} is damaged ({reason}). Write it again."
    )


def _kind(value: object) -> str:
    names = {list: "a list", dict: "an object", str: "a text", bool: "true or false"}
    return names.get(type(value), "nothing" if value is None else "a number")
