"""Keys and index of raw chunk files, kept with what they were made from.

Shape suffixes: W tokens of a stored row.
"""

import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retro.artifacts import fingerprint, sha256_file, write_bytes, write_json
from retro.config import IndexKind
from retro.errors import ArtifactError, ConfigError
from retro.json_files import read_object
from retro.retrieval.embedder import TextEncoder
from retro.retrieval.index import Index, build_index, open_index
from retro.retrieval.index_info import IndexInfo, plan_index
from retro.retro_pytorch.bert import EncoderName, TokenEmbedder, open_encoder
from retro.retro_pytorch.dataset import whole_number
from retro.retro_pytorch.files import only_writer, open_rows
from retro.retro_pytorch.keys import MemmapKeys, embed_rows, sidecar

logger = logging.getLogger(__name__)

MemorySize = str | int | None
MEMORY_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


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
        whole_number("max_rows_per_file", self.max_rows_per_file, 1)
        if self.chunks_to_embeddings_batch_size is not None:
            whole_number("chunks_to_embeddings_batch_size", self.chunks_to_embeddings_batch_size, 1)
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

    embedder: TokenEmbedder
    """Made the keys."""

    keys: MemmapKeys
    """The keys by chunk id."""

    index: Index
    """The index over them."""

    info: IndexInfo
    """Facts about the index."""

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
    num_chunks = whole_number("num_chunks", num_chunks, 1)
    chunk_size = whole_number("chunk_size", chunk_size, 2)
    rows_CW = open_rows(chunks_path, np.int32, num_chunks, (chunk_size + 1,), counted="num_chunks")
    encoder = open_encoder(settings.encoder)
    _check_encoder(encoder, chunk_size, settings)
    # Refused before the keys are computed, which takes long.
    plan = plan_index(
        IndexKind.AUTO,
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
    return IndexedChunks(
        rows_CW=rows_CW, embedder=embedder, keys=keys, index=index, info=info, fingerprint=wanted
    )


def memory_bytes(name: str, value: MemorySize) -> int | None:
    """Return a size of memory in bytes; k, m, G, T are powers of 1,024.

    Raises:
        ConfigError: It is no such size.
    """
    if value is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", str(value).lower())
    if isinstance(value, bool) or found is None or float(found[1]) == 0:
        raise ConfigError(
            f"{name} must be a size like '100m', '1G' or a number of bytes, got {value!r}."
        )
    return int(float(found[1]) * MEMORY_UNITS[found[2]])


def _check_encoder(encoder: TextEncoder, chunk_size: int, settings: IndexSettings) -> None:
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
    write_json(
        sidecar(path), {"fingerprint": wanted, "sha256": sha256_file(path), "info": asdict(info)}
    )
    logger.info(
        "index %s (%s) of %d keys finds %.1f %% of the true neighbors",
        info.kind.value,
        info.code.value,
        info.num_keys,
        100 * info.recall,
    )


def _kept_index(path: Path, wanted: str) -> tuple[Index, IndexInfo] | None:
    try:
        note = read_object(sidecar(path))
        if note.get("fingerprint") != wanted:
            return None
        if not path.exists() or note.get("sha256") != sha256_file(path):
            return None
        info = IndexInfo(**note["info"])
        return open_index(path.parent, info, path.name), info
    except (ArtifactError, KeyError, TypeError, ValueError):
        return None
