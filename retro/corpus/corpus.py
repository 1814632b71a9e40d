"""A corpus: text that was built into a retrieval database with keys, index and neighbors.

Importing this module and opening a corpus needs neither torch, transformers nor FAISS;
searching imports them when it starts.

Shape suffixes: C chunks, K neighbors per chunk.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retro.artifacts import MANIFEST_NAME, read_manifest
from retro.config.checks import config_from_dict
from retro.config.corpus import BUNDLED_ENCODER, CorpusConfig, Exclusion, IndexKind
from retro.corpus.files import (
    DATABASE_NAME,
    INDEX_KIND,
    INDEX_NAME,
    TOKENIZER_KIND,
    TOKENIZER_NAME,
)
from retro.corpus.summary import CorpusSummary
from retro.corpus.tokenizer import TokenizerOrigin, TokenizerRecord, training_fingerprint
from retro.data.database import NO_NEIGHBOR, RetrievalDatabase, check_array
from retro.data.splits import Split
from retro.data.tokenizer import Tokenizer, choose_vocab_size, open_tokenizer
from retro.errors import ArtifactMismatchError, ArtifactMissingError
from retro.places import check_place
from retro.retrieval.index_info import IndexInfo
from retro.retrieval.retriever import Retriever
from retro.retrieval.scores import SQUARED_L2
from retro.whole_files import open_array

if TYPE_CHECKING:
    import torch

    from retro.retrieval.embedder import MakeEmbedder
    from retro.retrieval.search import KeySearch


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A finished corpus, opened for reading."""

    folder: Path
    """Where it is."""

    config: CorpusConfig
    """How it was built."""

    database: RetrievalDatabase
    """Its chunks."""

    tokenizer: Tokenizer
    """Its tokenizer."""

    neighbors_CK: NDArray[np.int32]
    """Neighbors of each chunk, nearest first, -1 where there is none; read-only."""

    distances_CK: NDArray[np.float32]
    """Their squared L2 distances, infinity where there is none; read-only."""

    exclusion: Exclusion
    """Which chunks may not be neighbors of a chunk; never ``AUTO``."""

    index_info: IndexInfo
    """How its keys are searched."""

    has_neighbors: bool
    """Whether the neighbors of its chunks were found; a build is at it otherwise."""

    num_short: int
    """Chunks with fewer neighbors than the config asks for."""

    tokenizer_record: TokenizerRecord | None
    """Where its tokenizer comes from."""

    fingerprint: str
    """Identity of everything that training reads."""

    _retrievers: "dict[tuple[str, MakeEmbedder | None], Retriever]" = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """One per device and embedder, so that the encoder is loaded once."""

    @classmethod
    def open(cls, corpus_dir: Path) -> "Corpus":
        """Open a corpus; arrays are memory maps and nothing large is loaded.

        Raises:
            ArtifactMissingError: It has not been built.
            ArtifactMismatchError: Its parts do not belong together, as after a build
                that was interrupted, or are damaged.
        """
        if not (check_place("CORPUS", corpus_dir) / INDEX_NAME / MANIFEST_NAME).exists():
            raise ArtifactMissingError(
                f"The corpus {corpus_dir.name!r} has no index yet. Build the corpus first."
            )
        manifest = read_manifest(corpus_dir / INDEX_NAME, INDEX_KIND)
        read_manifest(corpus_dir / TOKENIZER_NAME, TOKENIZER_KIND)
        database = RetrievalDatabase.open(corpus_dir / DATABASE_NAME)
        settings = manifest.settings
        is_early = bool(settings.get("is_early", False))
        try:
            config = config_from_dict(CorpusConfig, settings["config"])
            shape = (database.num_chunks, config.num_neighbors)
            arrays = _no_neighbors(shape) if is_early else _stored_neighbors(corpus_dir)
            corpus = cls(
                folder=corpus_dir,
                config=config,
                database=database,
                tokenizer=open_tokenizer(corpus_dir / TOKENIZER_NAME),
                neighbors_CK=arrays[0],
                distances_CK=arrays[1],
                exclusion=Exclusion(settings["exclusion"]),
                index_info=IndexInfo(
                    **{**settings["index"], "kind": IndexKind(settings["index"]["kind"])}
                ),
                has_neighbors=not is_early,
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
        check_array("neighbors.npy", corpus.neighbors_CK, np.int32, shape)
        check_array("distances.npy", corpus.distances_CK, np.float32, shape)
        return corpus

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
            self.database, self.tokenizer, SQUARED_L2, partial(self._open_search, device, embedder)
        )
        return self._retrievers.setdefault((str(device), embedder), made)

    def _open_search(
        self, device: "torch.device | None", embedder: "MakeEmbedder | None"
    ) -> "KeySearch":
        from retro.corpus.search import open_search  # noqa: PLC0415  # imports torch and FAISS

        return open_search(
            self.folder,
            self.fingerprint,
            self.index_info,
            self.tokenizer,
            encoder=self.config.encoder,
            device=device,
            make_embedder=embedder,
        )

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


def _stored_neighbors(corpus_dir: Path) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    folder = corpus_dir / INDEX_NAME
    return open_array(folder / "neighbors.npy"), open_array(folder / "distances.npy")


def _no_neighbors(shape: tuple[int, int]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return what stands for neighbors that are still being found; it takes no memory."""
    ids_CK = np.broadcast_to(np.int32(NO_NEIGHBOR), shape)
    return ids_CK, np.broadcast_to(np.float32(SQUARED_L2.missing), shape)
