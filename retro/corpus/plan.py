"""How much disk a build will take, known before it starts.

Importing this module needs neither torch nor FAISS.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from retro.artifacts import MANIFEST_NAME, Manifest, read_manifest
from retro.config.checks import config_to_dict
from retro.config.corpus import CorpusConfig, identifying
from retro.corpus.files import (
    DATABASE_NAME,
    INDEX_KIND,
    INDEX_NAME,
    INDEX_PARTIAL_NAME,
    KEYS_NAME,
)
from retro.corpus.key_reuse import DIGEST_LETTERS
from retro.data.database import DATABASE_KIND, read_records
from retro.data.documents import DOCUMENTS_NAME, stored_documents
from retro.data.tokenizer import choose_vocab_size
from retro.errors import ArtifactError
from retro.retrieval.index_info import plan_index

DEFAULT_WIDTH = 384
"""Key width of the bundled encoder."""

BYTES_OF_TOKEN = 100
"""Of the tokenizer's file."""
BYTES_OF_DOCUMENT = 512
"""Of the list of documents, with a path of ordinary length."""
BYTES_OF_MANIFESTS = 16 * 1024
CHUNK_ROW_BYTES = 4 + 2 * 8
"""Document id and span."""
NEIGHBOR_BYTES = 4 + 4
KEY_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildSize:
    """Bytes that the parts of a corpus take; every one that is made anew lies beside the old."""

    tokenizer: int
    database: int
    keys: int
    index: int
    """With the neighbors, which are written in shards first."""

    @property
    def needed(self) -> int:
        """Most that lies there at once."""
        # While documents are cut, what is cut lies there twice.
        return self.tokenizer + self.database + max(self.database, self.keys + self.index)


def estimate_build_bytes(
    corpus: Path | int,
    config: CorpusConfig,
    width: int = DEFAULT_WIDTH,
    *,
    sizes: Mapping[str, int] | None = None,
) -> int:
    """Return how many bytes a build will add to the disk, at the most.

    The number of chunks is not known before the text is cut. It is estimated for English prose,
    which has rather more tokens per byte than other text.

    Args:
        corpus: The corpus, whose finished parts are counted out, or bytes of text in UTF-8.
        config: How it will be built.
        width: Key width of the encoder.
        sizes: Path to bytes of its documents; None is what lies in its folder.
    """
    if isinstance(corpus, int):
        return expected_size(corpus, 1, config, width).needed
    if sizes is None:
        root = corpus / DOCUMENTS_NAME
        sizes = {path: (root / path).stat().st_size for path in stored_documents(corpus)}
    database = _finished_database(corpus, sizes, config)
    if database is None:
        size = expected_size(sum(sizes.values()), len(sizes), config, width)
        found = 0
    else:
        size = size_of(database.settings["num_chunks"], config, width)
        found = _bytes_in(corpus / INDEX_PARTIAL_NAME)
    # Keys of other chunks are set aside until those of the new ones are written.
    kept = 0 if database is None else _bytes_in(corpus / KEYS_NAME)
    keys = max(0, size.keys - kept)
    is_done = database is not None and _has_index(corpus, database, config)
    return replace(size, keys=keys, index=0 if is_done else max(0, size.index - found)).needed


def expected_size(
    num_bytes: int, num_documents: int, config: CorpusConfig, width: int
) -> BuildSize:
    """Estimate the parts of a corpus of which only the text is there."""
    vocab_size = config.vocab_size or choose_vocab_size(num_bytes)
    num_tokens = num_bytes / _bytes_per_token(vocab_size)
    # The last chunk of a document is half full on average.
    num_chunks = math.ceil(num_tokens / config.chunk_size + num_documents / 2)
    size = size_of(num_chunks, config, width)
    database = (config.chunk_size * 4 + CHUNK_ROW_BYTES) * num_chunks
    return BuildSize(
        tokenizer=vocab_size * BYTES_OF_TOKEN,
        database=database + num_documents * BYTES_OF_DOCUMENT + BYTES_OF_MANIFESTS,
        keys=size.keys,
        index=size.index,
    )


def size_of(num_chunks: int, config: CorpusConfig, width: int) -> BuildSize:
    """Return the parts of a corpus that follow its chunks, whose database is finished."""
    plan = plan_index(config.index_kind, max(num_chunks, 1), width)
    neighbors = num_chunks * config.num_neighbors * NEIGHBOR_BYTES
    return BuildSize(
        tokenizer=0,
        database=0,
        keys=num_chunks * (width * KEY_BYTES + DIGEST_LETTERS),
        index=plan.index_bytes + 2 * neighbors,
    )


def _bytes_per_token(vocab_size: int) -> float:
    """Return what a token covers at least, measured on English of several kinds.

    Of bytes alone it is one; a vocabulary of 1,024 tokens gave 2.5 to 4.0, 4,096 3.3 to 3.6,
    and 8,192 3.7 to 4.9.
    """
    if vocab_size < 1024:
        return max(1.0, 1 + 0.8 * math.log2(vocab_size / 256))
    return 2.6 + 0.3 * math.log2(vocab_size / 1024)


def _finished_database(
    corpus_dir: Path, sizes: Mapping[str, int], config: CorpusConfig
) -> Manifest | None:
    """Return the manifest of the database if it seems to be of these documents.

    Whether it is would be known only after reading them.
    """
    folder = corpus_dir / DATABASE_NAME
    try:
        manifest = read_manifest(folder, DATABASE_KIND)
        found = {record.path: record.bytes for record in read_records(folder)}
    except (ArtifactError, KeyError, TypeError, ValueError):
        return None
    settings = config_to_dict(config)
    is_same = all(
        manifest.settings.get(name) == settings[name]
        for name in ("chunk_size", "validation_fraction", "seed")
    )
    return manifest if is_same and found == sizes else None


def _has_index(corpus_dir: Path, database: Manifest, config: CorpusConfig) -> bool:
    try:
        settings = read_manifest(corpus_dir / INDEX_NAME, INDEX_KIND).settings
    except ArtifactError:
        return False
    found = identifying(settings.get("config", {}), type(config))
    wanted = identifying(config_to_dict(config), type(config))
    return (settings.get("database"), found) == (database.fingerprint, wanted)


def _bytes_in(folder: Path) -> int:
    return sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST_NAME
    )
