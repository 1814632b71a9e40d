"""Which documents are held out of the retrieval database for validation."""

import hashlib
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from retro.data.documents import read_stored_bytes, stored_documents
from retro.errors import ArtifactMissingError, InputError
from retro.progress import Progress, no_progress

LARGEST_HELD_OUT_SHARE = 0.25
"""Of all bytes. A corpus of few documents has none small enough to be held out whole."""
REPORT_EVERY_S = 0.5
NOTHING_BEFORE: Mapping[str, "Split"] = MappingProxyType({})


class Split(StrEnum):
    """What a document is used for."""

    TRAIN = "train"
    """Its chunks can be retrieved and are trained on."""
    VALIDATION = "validation"
    """Its chunks are held out."""
    BOTH = "both"
    """Its last chunks are held out, the others can be retrieved."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentSource:
    """One stored document."""

    path: str
    """Relative path."""

    bytes: int
    """Size of the stored text."""

    sha256: str
    """Hash of the stored text."""


def read_sources(
    corpus_dir: Path,
    on_progress: Progress = no_progress,
    documents: Collection[str] | None = None,
) -> list[DocumentSource]:
    """Describe every stored document, sorted by path.

    Args:
        corpus_dir: The corpus.
        on_progress: Called with the progress of the stage ``ingest`` in documents.
        documents: Paths of the documents; None is all that lies in ``documents/``.

    Raises:
        InputError: There are no documents.
        ArtifactMissingError: Documents are not in their places.
    """
    paths = stored_documents(corpus_dir) if documents is None else sorted(documents)
    if not paths:
        raise InputError(
            "A corpus must have at least one document, got none. "
            "Add text files (UTF-8, UTF-16 or Latin-1) first."
        )
    sources = []
    missing = []
    reported = -math.inf
    for done, path in enumerate(paths):
        if time.monotonic() - reported >= REPORT_EVERY_S:
            reported = time.monotonic()
            on_progress("ingest", done, len(paths))
        try:
            data = read_stored_bytes(corpus_dir, path)
        except ArtifactMissingError:
            missing.append(path)
            continue
        digest = hashlib.sha256(data).hexdigest()
        sources.append(DocumentSource(path=path, bytes=len(data), sha256=digest))
    if missing:
        others = len(missing) - 1
        more = f", and those of {others:,} others" if others else ""
        raise ArtifactMissingError(
            f"The file of every document must be on the disk, and that of {missing[0]!r} is "
            f"not{more}. Upload it again, or remove the document, and build again."
        )
    on_progress("ingest", len(paths), len(paths))
    return sources


def split_documents(
    sources: Sequence[DocumentSource],
    fraction: float,
    seed: int,
    before: Mapping[str, Split] = NOTHING_BEFORE,
) -> list[tuple[DocumentSource, Split]]:
    """Choose the validation documents and put all documents in their final order.

    Where no document is small enough to be held out whole, the end of the largest one is. In a
    corpus that has grown, what was held out stays held out, and more is drawn, from the new
    documents, only as far as the share asks for it: text that is added can be retrieved, and
    what a model was trained on does not become its validation text.

    Args:
        sources: The documents, sorted by path.
        fraction: Share of documents to hold out; at least one is.
        seed: Another seed makes another choice.
        before: Path to split of the documents that were there when it was built last.

    Returns:
        Documents with their split: retrievable ones, then one that is both, then those
        held out; the chunks of a document are therefore neighbors in the database.
    """
    total = sum(source.bytes for source in sources)
    limit = max(LARGEST_HELD_OUT_SHARE, 1.5 * fraction) * total
    wanted = max(1, round(fraction * len(sources)))
    held_out: set[str] = set()
    held_out_bytes = 0
    shared = [source.path for source in sources if before.get(source.path) is Split.BOTH]
    if shared and wanted == 1:
        return _in_order(sources, held_out, shared[0])
    for source in sorted(
        sources, key=lambda item: (_TURN[before.get(item.path)], _lot(item.path, seed))
    ):
        # A choice of very short documents alone would measure nothing.
        if len(held_out) >= wanted and held_out_bytes >= fraction * total / 2:
            break
        if held_out_bytes + source.bytes <= limit:
            held_out.add(source.path)
            held_out_bytes += source.bytes

    both = None if held_out else max(sources, key=lambda source: source.bytes).path
    return _in_order(sources, held_out, both)


def _in_order(
    sources: Sequence[DocumentSource], held_out: set[str], both: str | None
) -> list[tuple[DocumentSource, Split]]:
    splits = [(source, _split_of(source.path, held_out, both)) for source in sources]
    return sorted(splits, key=lambda pair: _ORDER[pair[1]])


_TURN = {Split.VALIDATION: 0, None: 1, Split.BOTH: 2, Split.TRAIN: 2}
"""In which order documents are drawn; None are the new ones."""
_ORDER = {Split.TRAIN: 0, Split.BOTH: 1, Split.VALIDATION: 2}


def _split_of(path: str, held_out: set[str], both: str | None) -> Split:
    if path in held_out:
        return Split.VALIDATION
    return Split.BOTH if path == both else Split.TRAIN


def _lot(path: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{path}".encode()).digest()
