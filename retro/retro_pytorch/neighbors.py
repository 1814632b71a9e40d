"""Index and neighbors of raw chunk files, by the names of RETRO-pytorch.

Everything lies beside the chunks file and is kept with what it was made from:

    <chunks>.embedded           keys, raw float32
    <chunks>.index/<index_file> the index, as FAISS writes it
    <stem>.knn<suffix>          neighbors, raw int32, -1 where there is none

Shape suffixes: C chunks, K neighbors per chunk.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retro.artifacts import fingerprint, sha256_array
from retro.config.checks import MOST_NEIGHBORS
from retro.config.corpus import CorpusConfig, Exclusion
from retro.errors import ArtifactMismatchError
from retro.retrieval.neighbors import find_neighbors, resolve_exclusion
from retro.retro_pytorch.arguments import checks_arguments, count
from retro.retro_pytorch.encoder import EncoderName
from retro.retro_pytorch.files import as_path, only_writer, open_rows, read_note, write_note
from retro.retro_pytorch.index import IndexedChunks, IndexSettings, index_chunks
from retro.retro_pytorch.memory import MemorySize
from retro.whole_files import write_bytes

logger = logging.getLogger(__name__)

MOST_EXTRA = 1_000
"""Beyond it, FAISS on a GPU refuses; excluded results come on top."""
FilePath = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class MemmapDocuments:
    """Which document each chunk of raw files is of."""

    documents_C: NDArray[np.int32]
    """Number of the document, counted from 0 without gaps."""

    chunk_size: int
    """Tokens per chunk."""

    @property
    def num_chunks(self) -> int:
        """All chunks."""
        return len(self.documents_C)

    @property
    def num_retrievable(self) -> int:
        """Chunks that can be found: all."""
        return len(self.documents_C)


@checks_arguments
def chunks_to_index_and_embed(
    *,
    num_chunks: int,
    chunk_size: int,
    chunk_memmap_path: FilePath,
    use_cls_repr: bool = False,
    max_rows_per_file: int = 500,
    chunks_to_embeddings_batch_size: int | None = None,
    embed_dim: int | None = None,
    index_file: str = "knn.index",
    max_index_memory_usage: MemorySize = None,
    current_memory_available: MemorySize = None,
    encoder: EncoderName = None,
) -> tuple[Any, NDArray[np.float32]]:
    """Embed chunks and put their keys into an index.

    What is finished and was made from the same chunks, encoder and settings is kept; what
    was interrupted goes on where it stopped. Another process that does the same waits.

    Args:
        num_chunks: Rows of the chunks file to read; it may hold more.
        chunk_size: Tokens per chunk.
        chunk_memmap_path: int32, (num_chunks, chunk_size + 1).
        use_cls_repr: Use the state of [CLS] as the key instead of the mean over all others.
        max_rows_per_file: Chunks embedded between two notes of how far the work is. With
            few, less is lost when it is interrupted; many of like length are computed
            together, which is faster.
        chunks_to_embeddings_batch_size: Most chunks in one call of the encoder. None lets
            the number of tokens decide, which is fastest.
        embed_dim: Width of the keys; None is what the encoder has, another is refused.
        index_file: Name of the index in the folder ``<chunk_memmap_path>.index``.
        max_index_memory_usage: Most the index may take, as ``'100m'``, ``'1G'`` or a number
            of bytes. If full keys take more, they are shortened in the index.
        current_memory_available: Most memory that building the index may hold, in the same
            form. It bounds the keys it is trained on and those added at once.
        encoder: Hub name or folder; None is what ``RETRO_ENCODER`` says, or
            ``bert-base-cased``.

    Returns:
        The index, of FAISS, whose ``search(vectors, k=...)`` gives squared L2 distances and
        chunk ids; and the keys, (num_chunks, width), float32, a read-only memory map.

    Raises:
        ConfigError: An argument is unknown or outside its range, or memory is too small.
        ArtifactMissingError: The chunks file or the encoder is not there.
        ArtifactMismatchError: The file holds fewer chunks, or rows of another size.
        ShapeError: It holds ids that the encoder does not know.
        DiskFullError: The disk is full; what was computed is kept.
    """
    settings = IndexSettings(
        use_cls_repr=use_cls_repr,
        max_rows_per_file=max_rows_per_file,
        chunks_to_embeddings_batch_size=chunks_to_embeddings_batch_size,
        embed_dim=embed_dim,
        index_file=index_file,
        max_index_memory_usage=max_index_memory_usage,
        current_memory_available=current_memory_available,
        encoder=encoder,
    )
    made = index_chunks(
        as_path("chunk_memmap_path", chunk_memmap_path), num_chunks, chunk_size, settings
    )
    return made.search.index.backend, made.search.keys.shards[0]


@checks_arguments
def chunks_to_precalculated_knn_(
    *,
    num_nearest_neighbors: int,
    num_chunks: int,
    chunk_size: int,
    chunk_memmap_path: FilePath,
    doc_ids_memmap_path: FilePath,
    use_cls_repr: bool = False,
    max_rows_per_file: int = 500,
    chunks_to_embeddings_batch_size: int | None = None,
    embed_dim: int | None = None,
    num_extra_neighbors: int = 10,
    force_reprocess: bool = False,
    index_file: str = "knn.index",
    max_index_memory_usage: MemorySize = None,
    current_memory_available: MemorySize = None,
    encoder: EncoderName = None,
    exclusion_window: int = 2048,
) -> tuple[Path, Any]:
    """Write the neighbors of every chunk as a raw int32 file beside the chunks.

    A neighbor is never of the chunk's own document. Where one document holds more than half
    of all chunks, that would leave few or none: then a neighbor may be of the same document
    if it lies outside ``exclusion_window``, and a warning says so.

    Args:
        num_nearest_neighbors: Neighbors per chunk.
        num_chunks: See ``chunks_to_index_and_embed``.
        chunk_size: See there.
        chunk_memmap_path: See there.
        doc_ids_memmap_path: int32, (num_chunks,), the document of each chunk, never falling.
        use_cls_repr: See ``chunks_to_index_and_embed``.
        max_rows_per_file: See there.
        chunks_to_embeddings_batch_size: See there.
        embed_dim: See there.
        num_extra_neighbors: Fewest candidates beyond the wanted neighbors that are asked
            from the index and compared by their full keys.
        force_reprocess: Make keys, index and neighbors anew, whatever is there.
        index_file: See ``chunks_to_index_and_embed``.
        max_index_memory_usage: See there.
        current_memory_available: See there.
        encoder: See there.
        exclusion_window: Tokens on either side of a chunk, in its document.

    Returns:
        Path of the neighbors, ``./train.chunks.knn.dat`` for ``./train.chunks.dat``, which
        holds (num_chunks, num_nearest_neighbors), -1 where there is none; and the index.

    Raises:
        ArtifactMismatchError: Document ids fall, or a file is smaller than said.
        RetroError: As for ``chunks_to_index_and_embed``.
    """
    settings = IndexSettings(
        use_cls_repr=use_cls_repr,
        max_rows_per_file=max_rows_per_file,
        chunks_to_embeddings_batch_size=chunks_to_embeddings_batch_size,
        embed_dim=embed_dim,
        index_file=index_file,
        max_index_memory_usage=max_index_memory_usage,
        current_memory_available=current_memory_available,
        encoder=encoder,
        force=force_reprocess,
    )
    path, made = precalculated_neighbors(
        as_path("chunk_memmap_path", chunk_memmap_path),
        as_path("doc_ids_memmap_path", doc_ids_memmap_path),
        num_chunks=num_chunks,
        chunk_size=chunk_size,
        num_neighbors=num_nearest_neighbors,
        num_extra=num_extra_neighbors,
        window=exclusion_window,
        settings=settings,
    )
    return path, made.search.index.backend


def precalculated_neighbors(
    chunks_path: Path,
    doc_ids_path: Path,
    *,
    num_chunks: int,
    chunk_size: int,
    num_neighbors: int,
    num_extra: int,
    window: int,
    settings: IndexSettings,
) -> tuple[Path, IndexedChunks]:
    """Do the work of ``chunks_to_precalculated_knn_``; return all that was opened for it."""
    num_chunks = count("num_chunks", num_chunks, 1)
    num_neighbors = count("num_nearest_neighbors", num_neighbors, 1, MOST_NEIGHBORS)
    num_extra = count("num_extra_neighbors", num_extra, 0, MOST_EXTRA)
    window = count("exclusion_window", window, 1)
    documents = open_documents(doc_ids_path, num_chunks, chunk_size)
    made = index_chunks(chunks_path, num_chunks, chunk_size, settings)
    path = chunks_path.with_name(f"{chunks_path.stem}.knn{chunks_path.suffix}")
    with only_writer(chunks_path):
        _bring_up_to_date(
            path, documents, made, num_neighbors, num_extra, window, force=settings.force
        )
    return path, made


def _bring_up_to_date(
    path: Path,
    documents: MemmapDocuments,
    made: IndexedChunks,
    num_neighbors: int,
    num_extra: int,
    window: int,
    *,
    force: bool,
) -> None:
    """Write the neighbors, unless they are there and were made from the same inputs."""
    exclusion = resolve_exclusion(documents, CorpusConfig())
    if exclusion is Exclusion.WINDOW:
        logger.warning(
            "one document holds more than half of all %d chunks: neighbors may be of the same "
            "document, but not within %d tokens",
            documents.num_chunks,
            window,
        )
    wanted = fingerprint(
        {
            "index": made.fingerprint,
            "documents": sha256_array(documents.documents_C),
            "exclusion": [exclusion, window if exclusion is Exclusion.WINDOW else None],
            "neighbors": [num_neighbors, num_extra],
        }
    )
    if not force and read_note(path, wanted) is not None:
        logger.info("%s is up to date", path.name)
        return
    ids_CK, _ = find_neighbors(
        documents,
        made.search.keys,
        made.search.index,
        made.search.info,
        num_neighbors=num_neighbors,
        exclusion=exclusion,
        window=window,
        num_extra=num_extra,
        device=made.search.device,
    )
    num_short = int((ids_CK[:, -1] < 0).sum())
    if num_short:
        logger.warning(
            "%d of %d chunks have fewer than %d neighbors", num_short, len(ids_CK), num_neighbors
        )
    write_bytes(path, ids_CK.tobytes())
    write_note(path, wanted, shape=list(ids_CK.shape))


def open_documents(path: Path, num_chunks: int, chunk_size: int) -> MemmapDocuments:
    """Read the document ids of chunks.

    Raises:
        ArtifactMissingError: There is no such file.
        ArtifactMismatchError: It is smaller, or ids fall.
    """
    ids_C = np.asarray(open_rows(path, np.int32, num_chunks, (), counted="num_chunks"))
    falls = np.flatnonzero(ids_C[1:] < ids_C[:-1])
    if len(falls):
        row = int(falls[0]) + 1
        raise ArtifactMismatchError(
            f"{path.name} must hold document ids that never fall, got {ids_C[row]} after "
            f"{ids_C[row - 1]} in row {row}. Make it with text_folder_to_chunks_()."
        )
    begins_C = np.append(False, ids_C[1:] != ids_C[:-1])
    return MemmapDocuments(
        documents_C=np.cumsum(begins_C, dtype=np.int32), chunk_size=int(chunk_size)
    )
