"""Refuses work that the disk has no room for, before the work starts.

A full disk stops more than the step that filled it: the database cannot commit, and logs end. So
some room is left free for them.
"""

import shutil
from pathlib import Path

from retro.errors import DiskFullError

FLOOR_BYTES = 256 * 2**20
"""Bytes that are left free for the database, logs and other programs."""

UNITS = ("bytes", "KB", "MB", "GB", "TB", "PB")


def free_bytes(path: Path) -> int:
    """Return the bytes that this process may still write where ``path`` is or will be.

    Args:
        path: A file or folder; it need not exist yet.
    """
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def require_free(path: Path, needed: int, what: str) -> None:
    """Refuse to start work whose files would not fit on the disk.

    Args:
        path: Where the files will be; it need not exist yet.
        needed: Bytes they will take at most.
        what: What needs them, for the message, for example ``the checkpoints of run a``.

    Raises:
        DiskFullError: Less than ``needed`` and ``FLOOR_BYTES`` together is free.
    """
    free = free_bytes(path)
    if free < needed + FLOOR_BYTES:
        raise DiskFullError(
            f"There must be {size_text(needed + FLOOR_BYTES)} free on the disk for {what} "
            f"({size_text(needed)} and {size_text(FLOOR_BYTES)} that stay free), got "
            f"{size_text(free)}. Free some space and start again; nothing was changed."
        )


def size_text(size: int) -> str:
    """Return a number of bytes for people: at most one decimal, with powers of 1,024."""
    power = 0
    while size >= 1024 ** (power + 1) and power < len(UNITS) - 1:
        power += 1
    value = size / 1024**power
    return f"{value:,.{1 if power and value < 10 else 0}f} {UNITS[power]}"
