"""Cut documents, kept while the rest of a large corpus is being cut.

Cutting takes some seven minutes per gigabyte. Documents are therefore cut in shards of a few
megabytes, and a shard that is whole and was made from the same documents is not cut again. The
last one is not kept: what follows it takes no longer than writing it would. A small corpus is
a single one, so it leaves nothing behind.

Shape suffixes: C chunks, M tokens per chunk, N documents. A trailing 2 is (first character,
character after the last), or (characters, chunks) of a document.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retro.artifacts import fingerprint, is_finished, write_manifest
from retro.data.splits import REPORT_EVERY_S, DocumentSource
from retro.progress import Progress
from retro.whole_files import open_array, remove_staging, save_array, staged_folder

BYTES_PER_SHARD = 16 * 2**20
"""Of text; about eight seconds of work."""
SHARD_KIND = "shard of chunks"


@dataclass(frozen=True, kw_only=True, slots=True)
class CutDocument:
    """One document as chunks."""

    characters: int
    """Length of the text."""

    chunks_CM: NDArray[np.int32]
    """Token ids, padded at the end."""

    spans_C2: NDArray[np.int64]
    """Characters that each chunk covers."""


Cut = Callable[[DocumentSource], CutDocument]


def cut_documents(
    partial: Path,
    sources: Sequence[DocumentSource],
    cut: Cut,
    made_with: object,
    on_progress: Progress,
) -> Iterator[CutDocument]:
    """Yield every document cut into chunks, in order.

    Args:
        partial: Where shards are kept; the caller removes it when all is done.
        sources: The documents.
        cut: Cuts one of them.
        made_with: What the result depends on beside the documents, as JSON.
        on_progress: Called with the progress of the stage ``chunk`` in documents.
    """
    if partial.exists():
        remove_staging(partial)
    shards = list(_shards(sources))
    reports = _Reports(on_progress, len(sources))
    done = 0
    for number, shard in enumerate(shards):
        documents = _with_reports(shard, cut, reports, done)
        if number < len(shards) - 1:
            documents = _kept(partial / f"{number:06d}", shard, documents, made_with)
        yield from documents
        done += len(shard)
    on_progress("chunk", done, done)


def _shards(sources: Sequence[DocumentSource]) -> Iterator[list[DocumentSource]]:
    shard: list[DocumentSource] = []
    num_bytes = 0
    for source in sources:
        if shard and num_bytes + source.bytes > BYTES_PER_SHARD:
            yield shard
            shard, num_bytes = [], 0
        shard.append(source)
        num_bytes += source.bytes
    yield shard


class _Reports:
    """Reports progress, but not so often that it takes time itself."""

    def __init__(self, on_progress: Progress, total: int) -> None:
        self._on_progress = on_progress
        self._total = total
        self._reported = -math.inf

    def __call__(self, done: int) -> None:
        if time.monotonic() - self._reported >= REPORT_EVERY_S:
            self._reported = time.monotonic()
            self._on_progress("chunk", done, self._total)


def _with_reports(
    shard: list[DocumentSource], cut: Cut, reports: _Reports, done: int
) -> Iterator[CutDocument]:
    for row, source in enumerate(shard):
        reports(done + row)
        yield cut(source)


def _kept(
    folder: Path, shard: list[DocumentSource], documents: Iterator[CutDocument], made_with: object
) -> Iterator[CutDocument]:
    """Yield the documents of a shard, which is written first unless it is there already."""
    wanted = fingerprint(
        {
            "stage": SHARD_KIND,
            "documents": [[source.path, source.sha256] for source in shard],
            "made_with": made_with,
        }
    )
    if not is_finished(folder, SHARD_KIND, wanted):
        _save(folder, list(documents), wanted)
    yield from _load(folder)


def _save(folder: Path, documents: list[CutDocument], wanted: str) -> None:
    chunks_CM = np.concatenate([document.chunks_CM for document in documents])
    sizes_N2 = [(document.characters, len(document.chunks_CM)) for document in documents]
    with staged_folder(folder) as staging:
        save_array(staging / "chunks.npy", chunks_CM)
        save_array(
            staging / "spans.npy", np.concatenate([document.spans_C2 for document in documents])
        )
        save_array(staging / "sizes.npy", np.array(sizes_N2, dtype=np.int64))
        settings = {"rows": len(chunks_CM), "dtype": str(chunks_CM.dtype)}
        write_manifest(staging, SHARD_KIND, content=wanted, settings=settings)


def _load(folder: Path) -> Iterator[CutDocument]:
    chunks_CM, spans_C2 = open_array(folder / "chunks.npy"), open_array(folder / "spans.npy")
    start = 0
    for characters, num_chunks in open_array(folder / "sizes.npy").tolist():
        rows = slice(start, start + num_chunks)
        yield CutDocument(characters=characters, chunks_CM=chunks_CM[rows], spans_C2=spans_C2[rows])
        start += num_chunks
