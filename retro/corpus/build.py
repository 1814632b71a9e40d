"""Building a corpus: every stage, in turn.

A stage writes its folder whole or not at all; its manifest names the fingerprint of its
settings and of the stages before it. A finished stage whose fingerprint is the wanted one
and whose files are undamaged is kept.
"""

import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from retro.artifacts import is_finished
from retro.config.checks import config_to_dict
from retro.config.corpus import CorpusConfig
from retro.corpus.chunk_stage import build_database, choose_splits, database_fingerprint
from retro.corpus.corpus import Corpus
from retro.corpus.embed_stage import embed_database, keys_fingerprint, prepare_keys
from retro.corpus.files import (
    CONFIG_NAME,
    DATABASE_NAME,
    DATABASE_PARTIAL_NAME,
    KEYS_NAME,
    TOKENIZER_KIND,
    TOKENIZER_NAME,
)
from retro.corpus.index_stage import IndexStage, remove_stale
from retro.corpus.key_reuse import forget_earlier
from retro.corpus.plan import estimate_build_bytes
from retro.corpus.summary import CorpusSummary
from retro.corpus.tokenizer import (
    TokenizerRecord,
    TokenizerSource,
    find_model_tokenizer,
    find_tokenizer,
    is_whole,
    save_tokenizer,
    take_tokenizer,
    training_fingerprint,
)
from retro.data.byte_level import ByteLevelTokenizer
from retro.data.database import DATABASE_KIND, RetrievalDatabase
from retro.data.documents import read_stored
from retro.data.splits import DocumentSource, Split, read_sources
from retro.data.tokenizer import Tokenizer, choose_vocab_size, open_tokenizer
from retro.device import default_device
from retro.disk import require_free
from retro.errors import ArtifactMismatchError, ConfigError
from retro.progress import Progress, no_progress
from retro.retrieval.embedder import ChunkEmbedder, Embedder, MakeEmbedder
from retro.retrieval.keys import KEYS_KIND
from retro.whole_files import disk_errors, remove_staging, write_json


def build_corpus(
    corpus_dir: Path,
    config: CorpusConfig,
    *,
    device: torch.device | None = None,
    on_progress: Progress = no_progress,
    embedder: MakeEmbedder | None = None,
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
        on_progress: Called with the progress of each stage (ingest, tokenize, chunk, embed, index,
            neighbors); it may raise to stop the work.
        embedder: Makes the embedder, given the tokenizer; None is the encoder that
            ``config`` names.
        tokenizer: A run, a saved model, another corpus, or a folder with
            ``tokenizer.json``, whose tokenizer the corpus takes; None is that of the model
            ``config`` names, else keeps the one it has, and trains one where it has none.
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
    source = find_tokenizer(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
    if source is None and config.tokenizer is not None and not new_tokenizer:
        source = find_model_tokenizer(config.tokenizer, on_progress)
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


class Build:
    """One build of one corpus; the arguments are those of ``build_corpus``."""

    def __init__(
        self,
        corpus_dir: Path,
        config: CorpusConfig,
        *,
        device: torch.device | None,
        on_progress: Progress,
        embedder: MakeEmbedder | None,
        tokenizer: TokenizerSource | None,
        new_tokenizer: bool,
        documents: Collection[str] | None,
    ) -> None:
        self.corpus_dir = corpus_dir
        self.config = config
        self.device = device or default_device()
        self.on_progress = on_progress
        self.make_embedder = embedder or self._open_embedder
        self.tokenizer = tokenizer
        self.new_tokenizer = new_tokenizer
        self.documents = documents
        self.num_embedded = 0
        """Chunks whose keys were computed; those of the others were there."""

    def run(self) -> None:
        """Bring every stage up to date."""
        with disk_errors(self.corpus_dir):
            self._run()

    def _run(self) -> None:
        self.on_progress("ingest", 0, 0)
        sources = read_sources(self.corpus_dir, self.on_progress, self.documents)
        sizes = {source.path: source.bytes for source in sources}
        remove_staging(self.corpus_dir)
        self._require_free(estimate_build_bytes(self.corpus_dir, self.config, sizes=sizes))
        write_json(self.corpus_dir / CONFIG_NAME, config_to_dict(self.config))
        tokenizer = self._tokenize(sources)
        self._chunk(sources, tokenizer)
        embedder = self.make_embedder(tokenizer)
        self._embed(embedder, sizes)
        IndexStage(
            self.corpus_dir, self.config, device=self.device, on_progress=self.on_progress
        ).run()

    def _require_free(self, needed: int) -> None:
        require_free(self.corpus_dir, needed, f"building the corpus {self.corpus_dir.name!r}")

    def _open_embedder(self, tokenizer: Tokenizer) -> Embedder:
        return ChunkEmbedder.open(self.config.encoder, tokenizer, self.device)

    def _tokenize(self, sources: list[DocumentSource]) -> Tokenizer:
        if self.tokenizer is not None:
            take_tokenizer(self.corpus_dir, self.tokenizer)
        splits = choose_splits(self.corpus_dir, sources, self.config)
        trained_on = [source for source, split in splits if split is not Split.VALIDATION]
        vocab_size = self.config.vocab_size or choose_vocab_size(sum(s.bytes for s in sources))
        kept = None if self.new_tokenizer else TokenizerRecord.read(self.corpus_dir)
        if kept is not None and not kept.has_size(self.config.vocab_size):
            kept = None
        if kept is None:
            wanted = training_fingerprint(trained_on, vocab_size)
            finished = is_finished(self.corpus_dir / TOKENIZER_NAME, TOKENIZER_KIND, wanted)
        else:
            vocab_size = kept.asked_vocab_size or vocab_size
            finished = is_whole(self.corpus_dir)
        if not finished:
            self._train_tokenizer(trained_on, vocab_size, kept)
        self.on_progress("tokenize", len(trained_on), len(trained_on))
        return open_tokenizer(self.corpus_dir / TOKENIZER_NAME)

    def _train_tokenizer(
        self, trained_on: list[DocumentSource], vocab_size: int, lost: TokenizerRecord | None
    ) -> None:
        """Train a tokenizer, which must turn out to be the one that was lost, if one was."""
        self.on_progress("tokenize", 0, len(trained_on))
        texts = (
            self._text("tokenize", row, len(trained_on), source)
            for row, source in enumerate(trained_on)
        )
        tokenizer = ByteLevelTokenizer.train(texts, vocab_size)
        if lost is not None and lost.fingerprint != tokenizer.fingerprint:
            raise ArtifactMismatchError(
                f"The tokenizer of the corpus must stay {lost.fingerprint[:12]}, which its models "
                f"read, but its file is damaged, and training it again on the present documents "
                f"gives {tokenizer.fingerprint[:12]}. Build with the tokenizer of a run that was "
                f"trained on this corpus (--tokenizer RUN), or ask for a new one that no earlier "
                f"model fits (--new-tokenizer)."
            )
        made_from = training_fingerprint(trained_on, vocab_size)
        save_tokenizer(self.corpus_dir, tokenizer, made_from, asked_vocab_size=vocab_size)

    def _text(self, stage: str, row: int, total: int, source: DocumentSource) -> str:
        self.on_progress(stage, row, total)
        return read_stored(self.corpus_dir, source.path)

    def _chunk(self, sources: list[DocumentSource], tokenizer: Tokenizer) -> None:
        splits = choose_splits(self.corpus_dir, sources, self.config)
        wanted = database_fingerprint(sources, self.config, tokenizer, splits)
        if is_finished(self.corpus_dir / DATABASE_NAME, DATABASE_KIND, wanted):
            # A build may have ended before it could do this itself.
            shutil.rmtree(self.corpus_dir / DATABASE_PARTIAL_NAME, ignore_errors=True)
            self.on_progress("chunk", len(sources), len(sources))
        else:
            build_database(
                self.corpus_dir, self.config, tokenizer, self.on_progress, sources=sources
            )

    def _embed(self, embedder: Embedder, sizes: Mapping[str, int]) -> None:
        database = RetrievalDatabase.open(self.corpus_dir / DATABASE_NAME)
        wanted = keys_fingerprint(database, embedder.fingerprint)
        remove_stale(self.corpus_dir, wanted)
        if is_finished(self.corpus_dir / KEYS_NAME, KEYS_KIND, wanted):
            forget_earlier(self.corpus_dir)
            self.on_progress("embed", database.num_chunks, database.num_chunks)
        else:
            if (self.corpus_dir / KEYS_NAME).exists():
                prepare_keys(self.corpus_dir, database, embedder)
            # Now the number of chunks and the width of the keys are known.
            needed = estimate_build_bytes(self.corpus_dir, self.config, embedder.width, sizes=sizes)
            self._require_free(needed)
            self.num_embedded = embed_database(self.corpus_dir, embedder, self.on_progress)
