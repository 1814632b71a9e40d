"""Settings that name a file, a folder or something on the Hub."""

import os
import unicodedata
from pathlib import Path

from retro.errors import ConfigError, shown

LONGEST_PLACE = 3_500
"""Bytes; the system takes some hundred more, which names inside the folder need."""
LONGEST_PART = 255
"""Bytes between two slashes, as all usual file systems have it."""
LONGEST_NEW_PART = 200
"""The same for what is to be made: while it is written, its name is longer."""
MOST_PARTS = 128


def check_place(name: str, value: str | os.PathLike[str], *, is_new: bool = False) -> Path:
    """Return a setting as a path, if there can be one of this name.

    Args:
        name: What people call the setting.
        value: What was chosen.
        is_new: Whether a file or folder of this name is to be made.

    Raises:
        ConfigError: No file, folder or repository could be called so.
    """
    text = os.fspath(value)
    if not text.strip():
        raise ConfigError(f"{name} must be a name or a path, got {shown(text)}.")
    control = next((letter for letter in text if unicodedata.category(letter) == "Cc"), None)
    if control is not None:
        raise ConfigError(
            f"{name} must be in one line and without control characters, got {shown(text)}, which "
            f"has {control!a}. Choose another name or path."
        )
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        raise ConfigError(
            f"{name} must have characters that a file name can have, got {text[:80]!a}. Choose "
            f"another name or path."
        ) from None
    parts = [len(os.fsencode(part)) for part in Path(text).parts]
    most = LONGEST_NEW_PART if is_new else LONGEST_PART
    for rule, limit, found in (
        ("bytes", LONGEST_PLACE, len(encoded)),
        ("bytes between two slashes", most, max(parts, default=0)),
        ("folders inside each other", MOST_PARTS, len(parts)),
    ):
        if found > limit:
            raise ConfigError(
                f"{name} must have at most {limit:,} {rule}, got {found:,} in {shown(text)}. "
                f"Choose a shorter name or path."
            )
    return Path(text)
