"""A corpus: text that was built into a retrieval database with keys, index and neighbors.

Importing this module and opening a corpus needs neither torch, transformers nor FAISS;
building and searching import them when they start.

Shape suffixes: C chunks, K neighbors per chunk.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from retro.artifacts import open_array, read_json, read_manifest
from retro.config import CorpusConfig, Exclusion, IndexKind, config_from_dict, config_to_dict
from retro.data.chunking import DATABASE_NAME
from retro.data.database import RetrievalDatabase
from retro.data.documents import DOCUMENTS_NAME, SkippedFile, read_folder, store_document
from retro.data.splits import Split
from retro.data.tokenizer import ByteLevelTokenizer, choose_vocab_size
from retro.errors import ArtifactMismatchError, ArtifactMissingError, ConfigError, InputError
from retro.progress import Progress, no_progress
from retro.retrieval.corpus_summary import CorpusSummary
from retro.retrieval.corpus_tokenizer import (
    TOKENIZER_KIND,
    TOKENIZER_NAME,
    TokenizerOrigin,
    TokenizerRecord,
    TokenizerSource,
    find_tokenizer,
    training_fingerprint,
)
from retro.retrieval.index_info import IndexInfo
from retro.retrieval.retriever import Retriever

if TYPE_CHECKING:
    import torch

    from retro.retrieval.embedder import Embedder
    from retro.retrieval.search import KeySearch

MakeEmbedder: TypeAlias = "Callable[[ByteLevelTokenizer], Embedder]"
BUILD_STAGES = ("ingest", "tokenize", "chunk", "embed", "index", "neighbors")
CONFIG_NAME = "corpus.json"
KEYS_NAME = "keys"
INDEX_NAME = "index"
INDEX_PARTIAL_NAME = "index.partial"
"""What is finished of an index that is being made."""
INDEX_KIND = "index"
BUNDLED_ENCODER = "all-MiniLM-L6-v2"


def ingest_folder(
    folder: Path,
    corpus_dir: Path,
    on_progress: Progress = no_progress,
    on_skip: Callable[[SkippedFile], None] = lambda _: None,
) -> int:
    """Keep every text of a folder in a corpus.

    Args:
        folder: Where the text is.
        corpus_dir: The corpus.
        on_progress: Told of the stage ``ingest`` in documents; the total is not known
            before the end.
        on_skip: Told of each file that is not accepted, with the reason.

    Returns:
        Documents kept.

    Raises:
        InputError: There is no such folder, or no text in it.
    """
    num_skipped = 0

    def count_skipped(skipped: SkippedFile) -> None:
        nonlocal num_skipped
        num_skipped += 1
        on_skip(skipped)

    num_documents = 0
    for document in read_folder(folder, count_skipped):
        try:
            store_document(corpus_dir, document)
        except InputError as error:
            count_skipped(SkippedFile(path=document.path, reason=str(error)))
            continue
        num_documents += 1
        on_progress("ingest", num_documents, num_documents)
    if num_documents == 0:
        raise InputError(
            f"{folder.name!r} must hold at least one text file, got none "
            f"({num_skipped} files skipped). Add files in UTF-8, UTF-16 or Latin-1."
        )
    return num_documents


def build_corpus(
    corpus_dir: Path,
    config: CorpusConfig,
    *,
    device: "torch.device | None" = None,
    on_progress: Progress = no_progress,
    embedder: "MakeEmbedder | None" = None,
    tokenizer: str | Path | TokenizerSource | None = None,
    new_tokenizer: bool = False,
    documents: Collection[str] | None = None,
) -> CorpusSummary:
    """Build everything from the stored documents of a corpus.

    A stage that is finished and was made from the same inputs is kept, so building again
    after an interruption goes on where it stopped. The tokenizer of a corpus is kept also
    when its documents have changed, so that the models which read it still fit; another
    ``vocab_size`` asks for another one.

    Args:
        corpus_dir: The corpus; it holds ``documents/``.
        config: How to build it.
        device: Where keys are computed; None is CUDA where there is one.
        on_progress: Told of each of ``BUILD_STAGES``; it may raise to stop the work.
        embedder: Makes the embedder, given the tokenizer; None is the encoder that
            ``config`` names.
        tokenizer: A run, a saved model, another corpus, or a folder with
            ``tokenizer.json``, whose tokenizer the corpus takes; None keeps the one it
            has, and trains one where it has none.
        new_tokenizer: Train the tokenizer on the present documents, whatever there was.
        documents: Paths of the documents; None is all that lies in ``documents/``.

    Returns:
        What was built.

    Raises:
        ConfigError: ``config`` contradicts the tokenizer that is to be taken.
        InputError: There are no documents, or they are too short.
        ArtifactMissingError: A document, the encoder or the tokenizer cannot be had.
        ArtifactMismatchError: The tokenizer is damaged, and it cannot be made again.
        DiskFullError: The disk is full; what was finished is kept.
    """
    from retro.retrieval.build import Build  # noqa: PLC0415  # imports torch and FAISS

    source = find_tokenizer(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
    if source is not None:
        if new_tokenizer:
            raise ConfigError(
                f"A corpus is built either with a new tokenizer or with that of {source.name}, "
                f"got both. Leave one of them out."
            )
        source.settings(config_to_dict(config))
    build = Build(
        corpus_dir,
        config,
        device=device,
        on_progress=on_progress,
        embedder=embedder,
        tokenizer=source,
        new_tokenizer=new_tokenizer,
        documents=documents,
    )
    build.run()
    summary = Corpus.open(corpus_dir).summary()
    return replace(
        summary,
        num_embedded=build.num_embedded,
        num_reused=summary.num_chunks - build.num_embedded,
    )


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A finished corpus, opened for reading."""

    folder: Path
    """Where it is."""

    config: CorpusConfig
    """How it was built."""

    database: RetrievalDatabase
    """Its chunks."""

    tokenizer: ByteLevelTokenizer
    """Its tokenizer."""

    neighbors_CK: NDArray[np.int32]
    """Neighbors of each chunk, nearest first, -1 where there is none; read-only."""

    distances_CK: NDArray[np.float32]
    """Their squared L2 distances, infinity where there is none; read-only."""

    exclusion: Exclusion
    """Which chunks may not be neighbors of a chunk; never ``AUTO``."""

    index_info: IndexInfo
    """How its keys are searched."""

    num_short: int
    """Chunks with fewer neighbors than the config asks for."""

    tokenizer_record: TokenizerRecord | None
    """Where its tokenizer comes from."""

    fingerprint: str
    """Identity of everything that training reads."""

    @classmethod
    def open(cls, corpus_dir: Path) -> "Corpus":
        """Open a corpus; arrays are memory maps and nothing large is loaded.

        Raises:
            ArtifactMissingError: It has not been built.
            ArtifactMismatchError: Its parts do not belong together, as after a build
                that was interrupted, or are damaged.
        """
        if not (corpus_dir / INDEX_NAME / "manifest.json").exists():
            raise ArtifactMissingError(
                f"The corpus {corpus_dir.name!r} has no index yet. Build the corpus first."
            )
        manifest = read_manifest(corpus_dir / INDEX_NAME, INDEX_KIND)
        read_manifest(corpus_dir / TOKENIZER_NAME, TOKENIZER_KIND)
        database = RetrievalDatabase.open(corpus_dir / DATABASE_NAME)
        settings = manifest.settings
        try:
            corpus = cls(
                folder=corpus_dir,
                config=config_from_dict(CorpusConfig, settings["config"]),
                database=database,
                tokenizer=ByteLevelTokenizer.load(corpus_dir / TOKENIZER_NAME),
                neighbors_CK=open_array(corpus_dir / INDEX_NAME / "neighbors.npy"),
                distances_CK=open_array(corpus_dir / INDEX_NAME / "distances.npy"),
                exclusion=Exclusion(settings["exclusion"]),
                index_info=IndexInfo(
                    **{**settings["index"], "kind": IndexKind(settings["index"]["kind"])}
                ),
                num_short=settings["num_short"],
                tokenizer_record=TokenizerRecord.read(corpus_dir),
                fingerprint=manifest.fingerprint,
            )
            parts = (settings["database"], settings["tokenizer"])
        except (KeyError, TypeError) as error:
            raise ArtifactMismatchError(
                f"The index of {corpus_dir.name!r} is incomplete ({error!r}). "
                f"Build the corpus again."
            ) from error
        found = (database.fingerprint, corpus.tokenizer.fingerprint)
        if parts != found or database.tokenizer_fingerprint != found[1]:
            raise ArtifactMismatchError(
                f"The index of {corpus_dir.name!r} was made from other chunks than those in "
                f"{DATABASE_NAME!r}; a later build was not finished. Build the corpus again."
            )
        corpus._check_shapes()
        return corpus

    def _check_shapes(self) -> None:
        shape = (self.database.num_chunks, self.config.num_neighbors)
        arrays: dict[str, tuple[NDArray[Any], Any]] = {
            "neighbors.npy": (self.neighbors_CK, np.int32),
            "distances.npy": (self.distances_CK, np.float32),
        }
        for name, (array, dtype) in arrays.items():
            if array.shape != shape or array.dtype != dtype:
                raise ArtifactMismatchError(
                    f"{name} must hold {np.dtype(dtype)} of shape {shape}, "
                    f"got {array.dtype} of shape {array.shape}. Build the corpus again."
                )

    def retriever(
        self,
        device: "torch.device | None" = None,
        *,
        embedder: "MakeEmbedder | None" = None,
    ) -> Retriever:
        """Return the retriever; it loads encoder and index at the first search.

        Args:
            device: Where keys are computed; None is CUDA where there is one. Each device
                has one retriever, which is kept.
            embedder: Makes the embedder the corpus was built with, given the tokenizer;
                None is the encoder that ``config`` names.
        """
        made = Retriever(
            self.database, self.tokenizer, partial(self._open_search, device, embedder)
        )
        return self._retrievers.setdefault((str(device), embedder), made)

    @property
    def _retrievers(self) -> "dict[tuple[str, MakeEmbedder | None], Retriever]":
        # Frozen fields are what was built; this only saves loading the encoder again.
        kept: dict[tuple[str, MakeEmbedder | None], Retriever]
        kept = self.__dict__.setdefault("_kept_retrievers", {})
        return kept

    def _open_search(
        self, device: "torch.device | None", embedder: "MakeEmbedder | None"
    ) -> "KeySearch":
        from retro.retrieval.build import open_search  # noqa: PLC0415  # imports torch and FAISS

        return open_search(self, device, embedder)

    def summary(self) -> CorpusSummary:
        """Return what the corpus holds."""
        documents = self.database.documents
        origin, source = self._tokenizer_origin()
        return CorpusSummary(
            num_documents=len(documents),
            num_validation_documents=sum(record.split != "train" for record in documents),
            num_chunks=self.database.num_chunks,
            num_retrievable=self.database.num_retrievable,
            num_tokens=self.database.num_tokens,
            num_bytes=sum(record.bytes for record in documents),
            chunk_size=self.database.chunk_size,
            num_neighbors=self.neighbors_CK.shape[1],
            num_short=self.num_short,
            vocab_size=self.database.vocab_size,
            index_kind=self.index_info.kind.value,
            recall=self.index_info.recall,
            exclusion=self.exclusion.value,
            exclusion_window=self.config.exclusion_window,
            encoder=self.config.encoder or BUNDLED_ENCODER,
            tokenizer_origin=origin.value,
            tokenizer_source=source,
            fingerprint=self.fingerprint,
        )

    def _tokenizer_origin(self) -> tuple[TokenizerOrigin, str | None]:
        record = self.tokenizer_record
        if record is not None and record.source is not None:
            return TokenizerOrigin.TAKEN, record.source
        documents = self.database.documents
        vocab_size = None if record is None else record.asked_vocab_size
        if vocab_size is None:
            num_bytes = sum(document.bytes for document in documents)
            vocab_size = self.config.vocab_size or choose_vocab_size(num_bytes)
        present = training_fingerprint(
            (document for document in documents if document.split is not Split.VALIDATION),
            vocab_size,
        )
        unchanged = record is not None and record.made_from == present
        return (TokenizerOrigin.TRAINED if unchanged else TokenizerOrigin.KEPT), None


def read_config(corpus_dir: Path) -> CorpusConfig:
    """Return the settings of the newest build of a corpus, finished or not.

    Raises:
        ArtifactMissingError: It was never built.
    """
    return config_from_dict(CorpusConfig, read_json(corpus_dir / CONFIG_NAME))


def is_corpus(folder: Path) -> bool:
    """Tell whether a folder is a corpus that a build has begun with."""
    return (folder / CONFIG_NAME).is_file() and (folder / DOCUMENTS_NAME).is_dir()
