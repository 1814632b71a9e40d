"""What the files in the home folder take up, part by part."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jobs.home import Home

PARTS = ("corpora", "runs", "models", "database", "logs", "backups", "other")
DATABASE_FILES = "retro.db"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Bytes of everything in a home folder."""

    parts: dict[str, int]
    """Bytes by part, in the order of ``PARTS``."""

    corpora: dict[str, int] = field(default_factory=dict)
    """Bytes by the id of the corpus."""

    runs: dict[str, int] = field(default_factory=dict)
    """Bytes by the id of the run, with its checkpoints."""

    checkpoint_bytes: int = 0
    """Bytes of ``runs`` that are checkpoints."""

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())


def measure(home: Home) -> Sizes:
    """Add up all files; one that has several names counts once.

    Files come and go while this runs: what is no longer there counts nothing.
    """
    seen: set[tuple[int, int]] = set()
    parts = dict.fromkeys(PARTS, 0)
    corpora = {path.name: tree_bytes(path, seen) for path in _folders(home.corpora_dir)}
    runs: dict[str, int] = {}
    checkpoint_bytes = 0
    for path in _folders(home.runs_dir):
        checkpoints = tree_bytes(path / "checkpoints", seen)
        checkpoint_bytes += checkpoints
        runs[path.name] = checkpoints + tree_bytes(path, seen, leave_out="checkpoints")
    parts["corpora"], parts["runs"] = sum(corpora.values()), sum(runs.values())
    for entry in _entries(home.path):
        name = entry.name
        if name in ("corpora", "runs"):
            continue
        place = "database" if name.startswith(DATABASE_FILES) else name
        parts[place if place in parts else "other"] += tree_bytes(Path(entry.path), seen)
    return Sizes(parts=parts, corpora=corpora, runs=runs, checkpoint_bytes=checkpoint_bytes)


def tree_bytes(path: Path, seen: set[tuple[int, int]], *, leave_out: str | None = None) -> int:
    """Return the bytes of a file, or of all files in a folder; links are not followed.

    Args:
        path: The file or folder; it need not be there.
        seen: Files with several names that were counted before; grows.
        leave_out: Name of an entry directly in ``path`` that does not count.
    """
    if not path.is_dir() or path.is_symlink():
        try:
            return _file_bytes(path.lstat(), seen)
        except OSError:
            return 0
    total, waiting = 0, [path]
    while waiting:
        for entry in _entries(waiting.pop()):
            if entry.name == leave_out and Path(entry.path).parent == path:
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                else:
                    total += _file_bytes(entry.stat(follow_symlinks=False), seen)
            except OSError:
                continue
    return total


def _file_bytes(found: os.stat_result, seen: set[tuple[int, int]]) -> int:
    if found.st_nlink > 1:
        identity = (found.st_dev, found.st_ino)
        if identity in seen:
            return 0
        seen.add(identity)
    return found.st_size


def _folders(parent: Path) -> Iterator[Path]:
    return (Path(entry.path) for entry in _entries(parent) if entry.is_dir(follow_symlinks=False))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []
