"""A folder of text as the raw chunk files of RETRO-pytorch.

Shape suffixes: N tokens of one document, C chunks of one document, W tokens of a stored
row: a chunk and the token after it.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from retro.data.documents import decode_text, read_inside
from retro.errors import ConfigError, InputError
from retro.retro_pytorch.arguments import checks_arguments, count
from retro.retro_pytorch.dataset import chunks_per_sequence
from retro.retro_pytorch.encoder import EncoderName, TokenEncoder, open_encoder
from retro.retro_pytorch.files import as_path, only_writer, replaced_together

logger = logging.getLogger(__name__)

CHARACTERS_AT_ONCE = 2**20
"""Text given to the tokenizer in one call, which reads several documents in parallel."""


@checks_arguments
def text_folder_to_chunks_(
    *,
    folder: str | os.PathLike[str],
    chunks_memmap_path: str | os.PathLike[str],
    seqs_memmap_path: str | os.PathLike[str],
    doc_ids_memmap_path: str | os.PathLike[str],
    chunk_size: int = 64,
    seq_len: int = 2048,
    glob: str = "**/*.txt",
    max_chunks: int = 1_000_000,
    max_seqs: int = 100_000,
    encoder: EncoderName = None,
) -> dict[str, int]:
    """Cut a folder of text into chunks and write them as raw int32 files.

    A document is [CLS] text [SEP] in the tokens of the encoder; its last chunk is padded.
    The files hold exactly the rows that are used. They take their names together at the
    end: whatever fails before, older files stay as they were.

    Text is UTF-8, UTF-16 or UTF-32, else Latin-1 with a note in the log. Files that are
    hidden, empty or not text are left out, with the reason in the log.

    Args:
        folder: Where the text is.
        chunks_memmap_path: Will hold (chunks, chunk_size + 1); the last column is the token
            after the chunk, padding after the last token of the document.
        seqs_memmap_path: Will hold (sequences,), the first chunk of each sequence.
        doc_ids_memmap_path: Will hold (chunks,), the document of each chunk, from 0.
        chunk_size: Tokens per chunk.
        seq_len: Tokens per training sequence, a multiple of ``chunk_size``.
        glob: Which files, in the order of their paths.
        max_chunks: Most chunks.
        max_seqs: Most sequences.
        encoder: Hub name or folder of the encoder whose tokenizer is used; None is what
            ``RETRO_ENCODER`` says, or ``bert-base-cased``.

    Returns:
        ``{"chunks": ..., "docs": ..., "seqs": ...}``, how many there are.

    Raises:
        ConfigError: An argument is unknown or outside its range, or a cap is too low.
        InputError: There is no such folder, or no text in it.
        ArtifactMissingError: The encoder cannot be had.
        DiskFullError: The disk is full.
    """
    per_sequence = chunks_per_sequence(seq_len, chunk_size)
    chunk_size = int(chunk_size)
    max_chunks = count("max_chunks", max_chunks, 1)
    max_seqs = count("max_seqs", max_seqs, 1)
    paths = [
        as_path("chunks_memmap_path", chunks_memmap_path),
        as_path("seqs_memmap_path", seqs_memmap_path),
        as_path("doc_ids_memmap_path", doc_ids_memmap_path),
    ]
    root = as_path("folder", folder)
    files_in = matching_files(root, glob)
    opened = open_encoder(encoder)
    counts = {"chunks": 0, "docs": 0, "seqs": 0}
    with only_writer(paths[0]), replaced_together(paths) as files:
        for tokens_N in _tokenized(root, files_in, opened):
            rows_CW = document_rows(tokens_N, chunk_size, opened)
            num_chunks = len(rows_CW)
            starts = np.arange(0, num_chunks, per_sequence, dtype=np.int32) + counts["chunks"]
            if counts["chunks"] + num_chunks <= max_chunks:
                _write(files[0], rows_CW)
                _write(files[1], starts)
                _write(files[2], np.full(num_chunks, counts["docs"], dtype=np.int32))
            # Beyond the cap nothing is written, but counted, so that the message can say how much.
            counts["chunks"] += num_chunks
            counts["docs"] += 1
            counts["seqs"] += len(starts)
        if counts["docs"] == 0:
            raise InputError(
                f"{str(folder)!r} must hold text in files that match {glob!r}, got none that can "
                f"be read ({len(files_in)} skipped, see the log). Add text files."
            )
        _check_caps(counts, max_chunks, max_seqs)
    logger.info("%(docs)d documents, %(chunks)d chunks, %(seqs)d sequences", counts)
    return counts


def matching_files(folder: Path, glob: str) -> list[str]:
    """Return the relative paths of the files to read, sorted.

    Raises:
        InputError: There is no such folder, or nothing matches.
        ConfigError: The pattern cannot be used.
    """
    if not folder.is_dir():
        raise InputError(f"folder must be a folder, but there is none at {str(folder)!r}.")
    try:
        found = sorted(folder.glob(glob))
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(
            f"glob must be a pattern of relative paths like '**/*.txt', got {glob!r} ({error})."
        ) from None
    relative = [path.relative_to(folder) for path in found if not path.is_dir()]
    hidden = [path for path in relative if any(part.startswith(".") for part in path.parts)]
    for path in hidden:
        logger.warning("skipped %s: hidden files are left out", path)
    kept = [path.as_posix() for path in relative if path not in set(hidden)]
    if not kept:
        raise InputError(
            f"{str(folder)!r} must hold files that match {glob!r}, got none. "
            f"Add text files or correct glob."
        )
    return kept


def document_rows(
    tokens_N: NDArray[np.int32], chunk_size: int, encoder: TokenEncoder
) -> NDArray[np.int32]:
    """Return the stored rows of one document.

    Args:
        tokens_N: Token ids of its text, without special tokens, at least one.
        chunk_size: Tokens per chunk.
        encoder: Whose special tokens are added.

    Returns:
        Rows, (chunks, chunk_size + 1). No chunk holds the end token alone: then it is only
        in the last column.
    """
    cls_id, sep_id, pad_id = encoder.special_ids
    num_tokens = len(tokens_N) + 2
    num_chunks = -(-(num_tokens - 1) // chunk_size)
    flat_N = np.full(num_chunks * chunk_size + 1, pad_id, dtype=np.int32)
    flat_N[0] = cls_id
    flat_N[1 : num_tokens - 1] = tokens_N
    flat_N[num_tokens - 1] = sep_id
    rows_CW = np.empty((num_chunks, chunk_size + 1), dtype=np.int32)
    rows_CW[:, :-1] = flat_N[:-1].reshape(num_chunks, chunk_size)
    rows_CW[:, -1] = flat_N[chunk_size::chunk_size]
    return rows_CW


def _tokenized(
    folder: Path, files: list[str], encoder: TokenEncoder
) -> Iterator[NDArray[np.int32]]:
    root = folder.resolve()
    batch: list[tuple[str, str]] = []
    num_characters = 0
    for relative in files:
        text = _read_text(root, relative)
        if text is None:
            continue
        batch.append((relative, text))
        num_characters += len(text)
        if num_characters >= CHARACTERS_AT_ONCE:
            yield from _tokenize_batch(batch, encoder)
            batch, num_characters = [], 0
    yield from _tokenize_batch(batch, encoder)


def _tokenize_batch(
    batch: list[tuple[str, str]], encoder: TokenEncoder
) -> Iterator[NDArray[np.int32]]:
    found = encoder.tokenize_documents([text for _, text in batch])
    for (relative, _), tokens_N in zip(batch, found, strict=True):
        if len(tokens_N) == 0:
            logger.warning("skipped %s: the tokenizer finds no token in it", relative)
        else:
            yield tokens_N


def _read_text(root: Path, relative: str) -> str | None:
    try:
        document = decode_text(read_inside(root, relative), relative)
    except InputError as error:
        logger.warning("skipped %s: %s", relative, error)
        return None
    except OSError as error:
        logger.warning("skipped %s: it cannot be read (%s)", relative, error.strerror)
        return None
    if document.note:
        logger.warning("%s: %s", relative, document.note)
    return document.text


def _write(file: BinaryIO, rows: NDArray[np.int32]) -> None:
    file.write(np.ascontiguousarray(rows).tobytes())


def _check_caps(counts: dict[str, int], max_chunks: int, max_seqs: int) -> None:
    for name, counted, cap in (
        ("max_chunks", counts["chunks"], max_chunks),
        ("max_seqs", counts["seqs"], max_seqs),
    ):
        if counted > cap:
            raise ConfigError(
                f"{name} must be at least {counted} for this folder, got {cap}. "
                f"Raise {name} or use less text; no file was changed."
            )
