"""The stage of a build that cuts the documents of a corpus into its retrieval database.

Shape suffixes: N tokens of one document, C chunks, M tokens per chunk. A trailing 2 is
(first character, character after the last).
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from retro.artifacts import fingerprint, read_manifest, write_manifest
from retro.config.corpus import CorpusConfig
from retro.corpus.array_writer import ArrayWriter
from retro.corpus.chunk_shards import Cut, CutDocument, cut_documents
from retro.corpus.earlier_cuts import earlier_cuts
from retro.corpus.files import DATABASE_NAME, DATABASE_PARTIAL_NAME
from retro.data.cutting import split_into_chunks
from retro.data.database import DATABASE_KIND, RECORDS_NAME, DocumentRecord, read_records
from retro.data.documents import read_stored
from retro.data.splits import DocumentSource, Split, read_sources, split_documents
from retro.data.tokenizer import Tokenizer
from retro.errors import ArtifactError, InputError
from retro.progress import Progress, no_progress
from retro.whole_files import staged_folder, write_json

Splits = list[tuple[DocumentSource, Split]]
"""Documents in their final order."""
FEWEST_RETRIEVABLE = 2
"""A chunk and another one that can be its neighbor."""


def choose_splits(
    corpus_dir: Path, sources: Sequence[DocumentSource], config: CorpusConfig
) -> Splits:
    """Choose the validation documents of a corpus, which may have been built before."""
    chosen = (config.validation_fraction, config.seed)
    return split_documents(sources, *chosen, _splits_before(corpus_dir / DATABASE_NAME, chosen))


def _splits_before(folder: Path, chosen: tuple[float, int]) -> Mapping[str, Split]:
    """Return path to split of the last build, if it was made with the same settings."""
    try:
        settings = read_manifest(folder, DATABASE_KIND).settings
        if (settings["validation_fraction"], settings["seed"]) != chosen:
            return {}
        return {record.path: record.split for record in read_records(folder)}
    except (ArtifactError, KeyError, TypeError, ValueError):
        # What is damaged is about to be made anew.
        return {}


def database_fingerprint(
    sources: Sequence[DocumentSource], config: CorpusConfig, tokenizer: Tokenizer, splits: Splits
) -> str:
    """Return the identity of the database these inputs give."""
    fresh = split_documents(sources, config.validation_fraction, config.seed)
    kept = {} if splits == fresh else {"splits": [[one.path, split] for one, split in splits]}
    return fingerprint(
        {
            **kept,
            "stage": DATABASE_KIND,
            "documents": [[source.path, source.sha256] for source in sources],
            "tokenizer": tokenizer.fingerprint,
            "chunk_size": config.chunk_size,
            "validation_fraction": config.validation_fraction,
            "seed": config.seed,
        }
    )


def build_database(
    corpus_dir: Path,
    config: CorpusConfig,
    tokenizer: Tokenizer,
    on_progress: Progress = no_progress,
    *,
    sources: list[DocumentSource] | None = None,
) -> None:
    """Cut the stored documents of a corpus into the retrieval database.

    Args:
        corpus_dir: The corpus; ``documents/`` is read and ``database/`` is written.
        config: Chunk size and validation share.
        tokenizer: Maps text to token ids.
        on_progress: Called with the progress of the stage ``chunk`` in documents.
        sources: The documents, where the caller has read them already.

    Raises:
        InputError: The text is too short to be a retrieval database.
    """
    if sources is None:
        sources = read_sources(corpus_dir, no_progress)
    splits = choose_splits(corpus_dir, sources, config)
    partial = corpus_dir / DATABASE_PARTIAL_NAME
    cut = _cutter(corpus_dir, config.chunk_size, tokenizer)
    made_with = [tokenizer.fingerprint, tokenizer.pad_id, config.chunk_size]
    with staged_folder(corpus_dir / DATABASE_NAME) as staging:
        size = config.chunk_size
        with (
            ArrayWriter(staging / "chunks.npy", np.int32, (size,)) as chunks,
            ArrayWriter(staging / "documents.npy", np.int32) as documents,
            ArrayWriter(staging / "spans.npy", np.int64, (2,)) as spans,
        ):
            records: list[DocumentRecord] = []
            num_tokens = 0
            in_order = [source for source, _ in splits]
            done = cut_documents(partial, in_order, cut, made_with, on_progress)
            for (source, split), document in zip(splits, done, strict=True):
                num_chunks = len(document.chunks_CM)
                documents.append(np.full(num_chunks, len(records), dtype=np.int32))
                chunks.append(document.chunks_CM)
                spans.append(document.spans_C2)
                records.append(_record(source, split, document))
                num_tokens += int((document.chunks_CM != tokenizer.pad_id).sum())
        num_retrievable = _settle_splits(records, config.validation_fraction)
        _check_size(num_retrievable, chunks.num_rows, config.chunk_size)
        write_json(staging / RECORDS_NAME, [asdict(record) for record in records])
        write_manifest(
            staging,
            DATABASE_KIND,
            content=database_fingerprint(sources, config, tokenizer, splits),
            settings={
                "chunk_size": config.chunk_size,
                "validation_fraction": config.validation_fraction,
                "seed": config.seed,
                "num_chunks": chunks.num_rows,
                "num_retrievable": num_retrievable,
                "num_tokens": num_tokens,
                "pad_id": tokenizer.pad_id,
                "eos_id": tokenizer.eos_id,
                "vocab_size": tokenizer.vocab_size,
                "tokenizer": tokenizer.fingerprint,
            },
        )
    shutil.rmtree(partial, ignore_errors=True)


def _cutter(corpus_dir: Path, chunk_size: int, tokenizer: Tokenizer) -> Cut:
    # The old database stays where it is until the new one is whole.
    earlier = earlier_cuts(
        corpus_dir / DATABASE_NAME, tokenizer.fingerprint, tokenizer.pad_id, chunk_size
    )

    def cut(source: DocumentSource) -> CutDocument:
        if source.sha256 in earlier:
            return earlier[source.sha256]
        text = read_stored(corpus_dir, source.path)
        tokens_N, spans_N2 = tokenizer.encode_with_spans(text)
        chunks_CM, spans_C2 = split_into_chunks(tokens_N, spans_N2, chunk_size, tokenizer.pad_id)
        return CutDocument(characters=len(text), chunks_CM=chunks_CM, spans_C2=spans_C2)

    return cut


def _record(source: DocumentSource, split: Split, document: CutDocument) -> DocumentRecord:
    return DocumentRecord(
        path=source.path,
        characters=document.characters,
        bytes=source.bytes,
        sha256=source.sha256,
        split=split,
        num_chunks=len(document.chunks_CM),
    )


def _settle_splits(records: list[DocumentRecord], fraction: float) -> int:
    """Decide how much of a document that is both is held out; return ``num_retrievable``."""
    num_chunks = sum(record.num_chunks for record in records)
    num_retrievable = 0
    for row, record in enumerate(records):
        if record.split is Split.TRAIN:
            num_retrievable += record.num_chunks
        elif record.split is Split.BOTH:
            held_out = min(max(1, round(fraction * num_chunks)), record.num_chunks)
            num_retrievable += record.num_chunks - held_out
            if held_out == record.num_chunks:
                records[row] = replace(record, split=Split.VALIDATION)
    return num_retrievable


def _check_size(num_retrievable: int, num_chunks: int, chunk_size: int) -> None:
    if num_retrievable < FEWEST_RETRIEVABLE or num_retrievable == num_chunks:
        raise InputError(
            f"A corpus must have at least {FEWEST_RETRIEVABLE + 1} chunks of {chunk_size} tokens, "
            f"of which 1 is held out for validation, got {num_chunks}. "
            f"Add more text, or choose a smaller chunk_size."
        )
