"""Keys and index of raw chunk files, kept with what they were made from.

Shape suffixes: W tokens of a stored row.
"""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retro.artifacts import fingerprint
from retro.config.corpus import IndexKind
from retro.errors import ArtifactError, ConfigError
from retro.retrieval.index import Index, build_index, open_index
from retro.retrieval.index_info import IndexInfo
from retro.retrieval.search import KeySearch
from retro.retro_pytorch.arguments import count
from retro.retro_pytorch.encoder import (
    EncoderName,
    TokenEmbedder,
    TokenEncoder,
    open_encoder,
)
from retro.retro_pytorch.files import only_writer, open_rows, read_note, write_note
from retro.retro_pytorch.keys import embed_rows
from retro.retro_pytorch.memory import MemorySize, memory_bytes, plan_within
from retro.whole_files import write_bytes

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexSettings:
    """How chunks are embedded and indexed; named as in the messages people read."""

    use_cls_repr: bool = False
    """Use the state of [CLS] as the key instead of the mean over all others."""

    max_rows_per_file: int = 500
    """Chunks embedded between two notes of how far the work is."""

    chunks_to_embeddings_batch_size: int | None = None
    """Most chunks in one call of the encoder; None lets the number of tokens decide."""

    embed_dim: int | None = None
    """Width of the keys; None is what the encoder has."""

    index_file: str = "knn.index"
    """Name of the index in its folder."""

    max_index_memory_usage: MemorySize = None
    """Most the index may take."""

    current_memory_available: MemorySize = None
    """Most that building the index may hold."""

    encoder: EncoderName = None
    """Hub name or folder."""

    force: bool = False
    """Make everything anew."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        count("max_rows_per_file", self.max_rows_per_file, 1)
        if self.chunks_to_embeddings_batch_size is not None:
            count("chunks_to_embeddings_batch_size", self.chunks_to_embeddings_batch_size, 1)
        if not self.index_file or Path(self.index_file).name != self.index_file:
            raise ConfigError(
                f"index_file must be a file name without folders, got {self.index_file!r}. "
                f"It lies in the folder '<chunks file>.index'."
            )
        memory_bytes("max_index_memory_usage", self.max_index_memory_usage)
        memory_bytes("current_memory_available", self.current_memory_available)


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexedChunks:
    """Chunks with keys and index."""

    rows_CW: NDArray[np.int32]
    """Stored rows; the last column is the token after the chunk."""

    encoder: TokenEncoder
    """Made the keys."""

    search: KeySearch
    """Finds chunks by their keys."""

    fingerprint: str
    """Identity of keys and index."""


def index_chunks(
    chunks_path: Path, num_chunks: int, chunk_size: int, settings: IndexSettings
) -> IndexedChunks:
    """Embed and index the chunks of a raw file, or open what was made of them before.

    Args:
        chunks_path: int32, (num_chunks, chunk_size + 1).
        num_chunks: Rows to read.
        chunk_size: Tokens per chunk.
        settings: How.

    Raises:
        RetroError: See ``retro.retrieval.chunks_to_index_and_embed``.
    """
    num_chunks = count("num_chunks", num_chunks, 1)
    chunk_size = count("chunk_size", chunk_size, 2)
    rows_CW = open_rows(chunks_path, np.int32, num_chunks, (chunk_size + 1,), counted="num_chunks")
    encoder = open_encoder(settings.encoder)
    _check_encoder(encoder, chunk_size, settings)
    # Refused before the keys are computed, which takes long.
    plan = plan_within(
        num_chunks,
        encoder.width,
        largest_bytes=memory_bytes("max_index_memory_usage", settings.max_index_memory_usage),
        available_bytes=memory_bytes("current_memory_available", settings.current_memory_available),
    )
    embedder = TokenEmbedder(
        encoder,
        use_cls_repr=settings.use_cls_repr,
        most_rows=settings.chunks_to_embeddings_batch_size,
    )
    with only_writer(chunks_path):
        keys = embed_rows(
            rows_CW,
            chunks_path.with_name(f"{chunks_path.name}.embedded"),
            embedder,
            rows_per_save=settings.max_rows_per_file,
            force=settings.force,
        )
        wanted = fingerprint({"keys": keys.fingerprint, "plan": asdict(plan)})
        path = chunks_path.with_name(f"{chunks_path.name}.index") / settings.index_file
        found = None if settings.force else _kept_index(path, wanted)
        if found is None:
            found = build_index(keys, num_chunks, IndexKind.AUTO, plan=plan)
            _keep_index(path, wanted, *found)
    index, info = found
    search = KeySearch(embedder=embedder, keys=keys, index=index, info=info, device=encoder.device)
    return IndexedChunks(rows_CW=rows_CW, encoder=encoder, search=search, fingerprint=wanted)


def _check_encoder(encoder: TokenEncoder, chunk_size: int, settings: IndexSettings) -> None:
    if settings.embed_dim is not None and settings.embed_dim != encoder.width:
        raise ConfigError(
            f"embed_dim must be {encoder.width}, the width of the encoder {encoder.name!r}, "
            f"got {settings.embed_dim}. Leave it out."
        )
    if chunk_size + 2 > encoder.longest:
        raise ConfigError(
            f"chunk_size must be at most {encoder.longest - 2} for the encoder {encoder.name!r}, "
            f"got {chunk_size}."
        )


def _keep_index(path: Path, wanted: str, index: Index, info: IndexInfo) -> None:
    write_bytes(path, index.serialized().tobytes())
    write_note(path, wanted, info=asdict(info))
    logger.info(
        "index %s (%s) of %d keys finds %.1f %% of the true neighbors",
        info.kind.value,
        info.code.value,
        info.num_keys,
        100 * info.recall,
    )


def _kept_index(path: Path, wanted: str) -> tuple[Index, IndexInfo] | None:
    try:
        if (note := read_note(path, wanted)) is None:
            return None
        info = IndexInfo(**note["info"])
        return open_index(path.parent, info, path.name), info
    except (ArtifactError, KeyError, TypeError, ValueError):
        return None
