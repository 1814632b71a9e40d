"""Reuse chunks of unchanged documents.

Shape suffixes: N documents.
"""

import itertools
from pathlib import Path

from retro.artifacts import read_manifest, verify_files
from retro.corpus.chunk_shards import CutDocument
from retro.data.database import DATABASE_KIND, read_records
from retro.errors import ArtifactError
from retro.whole_files import open_array


def earlier_cuts(
    folder: Path, tokenizer: str, pad_id: int, chunk_size: int
) -> dict[str, CutDocument]:
    """Return the documents of a finished database by the sha256 of their text.

    Args:
        folder: The database; it may be missing, damaged, or made in another way.
        tokenizer: Identity of the tokenizer that is used now.
        pad_id: Its padding.
        chunk_size: Tokens per chunk.

    Returns:
        Documents whose arrays are memory maps; none where the database cannot be used.
    """
    try:
        manifest = read_manifest(folder, DATABASE_KIND)
        names = ("tokenizer", "pad_id", "chunk_size")
        if [manifest.settings[name] for name in names] != [tokenizer, pad_id, chunk_size]:
            return {}
        verify_files(folder, manifest)
        records = read_records(folder)
        chunks_CM, spans_C2 = open_array(folder / "chunks.npy"), open_array(folder / "spans.npy")
        starts = itertools.accumulate((record.num_chunks for record in records), initial=0)
        return {
            record.sha256: CutDocument(
                characters=record.characters,
                chunks_CM=chunks_CM[start : start + record.num_chunks],
                spans_C2=spans_C2[start : start + record.num_chunks],
            )
            for record, start in zip(records, starts, strict=False)
        }
    except (ArtifactError, OSError, KeyError, TypeError, ValueError):
        return {}
