"""The stages of building a corpus, and opening what search needs.

A stage writes its folder whole or not at all; its manifest names the fingerprint of its
settings and of the stages before it. A finished stage whose fingerprint is the wanted one
and whose files are undamaged is kept.
"""

from dataclasses import asdict
from pathlib import Path

import torch

from retro.artifacts import (
    fingerprint,
    read_manifest,
    remove_staging,
    save_array,
    staged_folder,
    verify_files,
    write_json,
    write_manifest,
)
from retro.config import CorpusConfig, config_to_dict
from retro.data.chunking import (
    DATABASE_KIND,
    DATABASE_NAME,
    build_database,
    database_fingerprint,
)
from retro.data.database import RetrievalDatabase
from retro.data.documents import read_stored
from retro.data.splits import DocumentSource, Split, read_sources, split_documents
from retro.data.tokenizer import ByteLevelTokenizer, choose_vocab_size
from retro.device import default_device
from retro.errors import ArtifactError
from retro.progress import Progress
from retro.retrieval.corpus import (
    CONFIG_NAME,
    INDEX_KIND,
    INDEX_NAME,
    TOKENIZER_KIND,
    TOKENIZER_NAME,
    MakeEmbedder,
)
from retro.retrieval.embedder import ChunkEmbedder, Embedder, TextEncoder
from retro.retrieval.index import build_index, open_index
from retro.retrieval.index_info import IndexInfo, choose_kind
from retro.retrieval.keys import KEYS_KIND, KEYS_NAME, KeyStore, embed_database, keys_fingerprint
from retro.retrieval.neighbors import find_neighbors, resolve_exclusion
from retro.retrieval.search import KeySearch


class Build:
    """One build of one corpus."""

    def __init__(
        self,
        corpus_dir: Path,
        config: CorpusConfig,
        device: torch.device | None,
        on_progress: Progress,
        make_embedder: "MakeEmbedder | None",
    ) -> None:
        self.corpus_dir = corpus_dir
        self.config = config
        self.device = device or default_device()
        self.on_progress = on_progress
        self.make_embedder = make_embedder or self._open_embedder

    def run(self) -> None:
        """Bring every stage up to date."""
        self.on_progress("ingest", 0, 0)
        sources = read_sources(self.corpus_dir, self.on_progress)
        remove_staging(self.corpus_dir)
        write_json(self.corpus_dir / CONFIG_NAME, config_to_dict(self.config))
        tokenizer = self._tokenize(sources)
        self._chunk(sources, tokenizer)
        embedder = self.make_embedder(tokenizer)
        self._embed(embedder)
        self._index(tokenizer)

    def _open_embedder(self, tokenizer: ByteLevelTokenizer) -> Embedder:
        return ChunkEmbedder(TextEncoder.open(self.config.encoder, self.device), tokenizer)

    def _tokenize(self, sources: list[DocumentSource]) -> ByteLevelTokenizer:
        splits = split_documents(sources, self.config.validation_fraction, self.config.seed)
        trained_on = [source for source, split in splits if split is not Split.VALIDATION]
        num_bytes = sum(source.bytes for source in sources)
        vocab_size = self.config.vocab_size or choose_vocab_size(num_bytes)
        wanted = fingerprint(
            {
                "stage": TOKENIZER_KIND,
                "documents": [[source.path, source.sha256] for source in trained_on],
                "vocab_size": vocab_size,
            }
        )
        folder = self.corpus_dir / TOKENIZER_NAME
        if not is_finished(folder, TOKENIZER_KIND, wanted):
            self.on_progress("tokenize", 0, len(trained_on))
            texts = (
                self._text("tokenize", row, len(trained_on), source)
                for row, source in enumerate(trained_on)
            )
            with staged_folder(folder) as staging:
                tokenizer = ByteLevelTokenizer.train(texts, vocab_size)
                tokenizer.save(staging)
                settings = {
                    "vocab_size": tokenizer.vocab_size,
                    "fingerprint": tokenizer.fingerprint,
                }
                write_manifest(staging, TOKENIZER_KIND, content=wanted, settings=settings)
        self.on_progress("tokenize", len(trained_on), len(trained_on))
        return ByteLevelTokenizer.load(folder)

    def _text(self, stage: str, row: int, total: int, source: DocumentSource) -> str:
        self.on_progress(stage, row, total)
        return read_stored(self.corpus_dir, source.path)

    def _chunk(self, sources: list[DocumentSource], tokenizer: ByteLevelTokenizer) -> None:
        wanted = database_fingerprint(sources, self.config, tokenizer)
        if is_finished(self.corpus_dir / DATABASE_NAME, DATABASE_KIND, wanted):
            self.on_progress("chunk", len(sources), len(sources))
        else:
            build_database(
                self.corpus_dir, self.config, tokenizer, self.on_progress, sources=sources
            )

    def _embed(self, embedder: Embedder) -> None:
        database = RetrievalDatabase.open(self.corpus_dir / DATABASE_NAME)
        wanted = keys_fingerprint(database, embedder.fingerprint)
        if is_finished(self.corpus_dir / KEYS_NAME, KEYS_KIND, wanted):
            self.on_progress("embed", database.num_chunks, database.num_chunks)
        else:
            embed_database(self.corpus_dir, embedder, self.on_progress)

    def _index(self, tokenizer: ByteLevelTokenizer) -> None:
        database = RetrievalDatabase.open(self.corpus_dir / DATABASE_NAME)
        keys = KeyStore.open(self.corpus_dir / KEYS_NAME)
        exclusion = resolve_exclusion(database, self.config)
        kind = choose_kind(self.config.index_kind, database.num_retrievable)
        wanted = fingerprint(
            {
                "stage": INDEX_KIND,
                "keys": keys.fingerprint,
                "config": config_to_dict(self.config),
                "exclusion": exclusion,
                "kind": kind,
            }
        )
        if is_finished(self.corpus_dir / INDEX_NAME, INDEX_KIND, wanted):
            for stage in ("index", "neighbors"):
                self.on_progress(stage, database.num_chunks, database.num_chunks)
            return
        with staged_folder(self.corpus_dir / INDEX_NAME) as staging:
            index, info = build_index(
                keys,
                database.num_retrievable,
                kind,
                seed=self.config.seed,
                on_progress=self.on_progress,
            )
            index.save(staging)
            ids_CK, distances_CK = find_neighbors(
                database,
                keys,
                index,
                info,
                num_neighbors=self.config.num_neighbors,
                exclusion=exclusion,
                window=self.config.exclusion_window,
                device=self.device,
                on_progress=self.on_progress,
            )
            save_array(staging / "neighbors.npy", ids_CK)
            save_array(staging / "distances.npy", distances_CK)
            write_manifest(
                staging,
                INDEX_KIND,
                content=wanted,
                settings={
                    "config": config_to_dict(self.config),
                    "exclusion": exclusion,
                    "index": asdict(info),
                    "num_short": int((ids_CK[:, -1] < 0).sum()),
                    "database": database.fingerprint,
                    "tokenizer": tokenizer.fingerprint,
                    "keys": keys.fingerprint,
                },
            )


def is_finished(folder: Path, kind: str, wanted: str) -> bool:
    """Return whether a stage's folder is whole, undamaged, and made from these inputs."""
    try:
        manifest = read_manifest(folder, kind)
        if manifest.fingerprint != wanted:
            return False
        verify_files(folder, manifest)
    except ArtifactError:
        return False
    return True


def open_search(
    corpus_dir: Path,
    config: CorpusConfig,
    tokenizer: ByteLevelTokenizer,
    info: IndexInfo,
    device: torch.device | None,
    make_embedder: "MakeEmbedder | None" = None,
) -> KeySearch:
    """Load encoder, keys and index of a finished corpus."""
    device = device or default_device()
    return KeySearch(
        embedder=(
            ChunkEmbedder(TextEncoder.open(config.encoder, device), tokenizer)
            if make_embedder is None
            else make_embedder(tokenizer)
        ),
        keys=KeyStore.open(corpus_dir / KEYS_NAME),
        index=open_index(corpus_dir / INDEX_NAME, info),
        info=info,
        device=device,
    )
