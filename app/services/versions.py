"""The versions of a corpus, as the page and the REST routes show them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.services.sizes import tree_bytes
from app.services.views.corpora import CorpusParts, CorpusVersion
from jobs.home import Home
from jobs.store.rows import CorpusRow, CorpusVersionRow
from jobs.store.store import Store
from jobs.version_files import KEPT_FOLDERS, VERSIONS_NAME, kept_versions, version_dir
from retro.data.documents import DOCUMENTS_NAME

SIZE_PARTS = ("tokenizer", "database", "keys", "index", VERSIONS_NAME)
SHOWN_FACTS = (
    "num_documents",
    "num_validation_documents",
    "num_chunks",
    "num_embedded",
    "num_reused",
    "vocab_size",
)


def current_version(store: Store, row: CorpusRow) -> CorpusVersionRow | None:
    """Return the version that a corpus is now, None if it has none yet."""
    fingerprint = (row.summary or {}).get("fingerprint")
    if fingerprint is None:
        return None
    found = store.list_versions(row.id)
    return next((item for item in found if item.fingerprint == fingerprint), None)


def describe_versions(home: Home, store: Store, row: CorpusRow) -> list[CorpusVersion]:
    """Return all versions of a corpus, the newest first.

    Each is ``current``, or ``kept`` because runs were trained on it, or ``replaced``.
    """
    versions = store.list_versions(row.id)
    current = current_version(store, row)
    folder = home.corpus_dir(row.id)
    kept = set(kept_versions(folder))
    runs = [run for run in store.list_runs() if run.corpus_id == row.id]
    earlier = [*versions, None][1:]
    return [
        CorpusVersion.of(
            item,
            **{name: item.summary.get(name) for name in SHOWN_FACTS},
            state="current" if item == current else "kept" if item.number in kept else "replaced",
            changed_settings=(
                [] if before is None else changed_settings(before.settings, item.settings)
            ),
            bytes=_version_bytes(folder, item, is_current=item == current, kept=kept),
            runs=[run for run in runs if run.corpus_version == item.number],
        )
        for item, before in zip(versions, earlier, strict=True)
    ]


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the names of settings that are different."""
    names = sorted({*before, *after})
    return [name for name in names if before.get(name) != after.get(name)]


def _version_bytes(
    folder: Path, item: CorpusVersionRow, *, is_current: bool, kept: set[int]
) -> int:
    root = folder if is_current else version_dir(folder, item.number)
    if not is_current and item.number not in kept:
        return 0
    return sum(disk_parts(root, KEPT_FOLDERS).values())


def disk_parts(folder: Path, names: tuple[str, ...] = SIZE_PARTS) -> dict[str, int]:
    """Return the bytes of parts of a corpus; a file with two names counts once."""
    seen: set[tuple[int, int]] = set()
    return {name: tree_bytes(folder / name, seen) for name in names}


def corpus_bytes(folder: Path, num_bytes: int) -> CorpusParts:
    """Return what a corpus takes on the disk, by part.

    Args:
        folder: The corpus.
        num_bytes: Its text.
    """
    return CorpusParts(**{DOCUMENTS_NAME: num_bytes, **disk_parts(folder)})
