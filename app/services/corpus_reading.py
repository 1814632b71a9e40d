"""Looking into corpora that were built: chunks, search, passages of documents."""

import threading
from collections.abc import Sequence

import numpy as np

from app.errors import MissingError
from app.services.views import documents as views
from jobs.home import Home
from jobs.store.store import Store
from retro.artifacts import MANIFEST_NAME
from retro.config.checks import MOST_NEIGHBORS
from retro.corpus.corpus import Corpus
from retro.corpus.files import INDEX_NAME
from retro.errors import ArtifactMissingError, ConfigError, InputError
from retro.retrieval.retriever import Neighbor
from retro.run_samples import beginning_of_held_out

MOST_SEARCH_CHARACTERS = 20_000


class CorpusReader:
    """Opens corpora and reads from them."""

    def __init__(self, home: Home, store: Store) -> None:
        self._home = home
        self._store = store
        self._open: dict[str, tuple[str, Corpus]] = {}
        self._open_lock = threading.Lock()

    def open(self, corpus_id: str) -> Corpus:
        """Open a corpus that can be searched; opened ones are kept until they are built again.

        During its first build that is so as soon as the index is there.

        Raises:
            ArtifactMissingError: The corpus has no index yet.
        """
        row = self._store.get_corpus(corpus_id)
        is_there = (self._home.corpus_dir(corpus_id) / INDEX_NAME / MANIFEST_NAME).exists()
        if row.summary is None and not is_there:
            raise ArtifactMissingError(
                f"Corpus {row.name!r} has no index yet. Build it first, and wait for the job."
            )
        fingerprint = str((row.summary or {}).get("fingerprint", ""))
        with self._open_lock:
            cached = self._open.get(corpus_id)
            if cached is None or cached[0] != fingerprint:
                self._open[corpus_id] = (fingerprint, Corpus.open(self._home.corpus_dir(corpus_id)))
            return self._open[corpus_id][1]

    def forget(self, corpus_id: str) -> None:
        """Close a corpus that is no longer needed."""
        with self._open_lock:
            self._open.pop(corpus_id, None)

    def chunk(self, corpus_id: str, chunk_id: int) -> views.CorpusChunk:
        """Return one chunk of a corpus with its place and its neighbors."""
        corpus = self.open(corpus_id)
        _check_chunk(corpus, chunk_id)
        place = corpus.retriever().describe(np.array([chunk_id]), np.array([0.0]))[0]
        neighbors = corpus.retriever().describe(
            corpus.neighbors_CK[chunk_id], corpus.distances_CK[chunk_id]
        )
        tokens = corpus.database.chunks_CM[chunk_id]
        return views.CorpusChunk.of(
            place,
            num_tokens=int((tokens != corpus.database.pad_id).sum()),
            is_retrievable=chunk_id < corpus.database.num_retrievable,
            neighbors=_views(neighbors),
        )

    def search_like(self, corpus_id: str, chunk_id: int, k: int = 5) -> list[views.Neighbor]:
        """Return the chunks nearest to a chunk; it finds itself, unless it is held out.

        Raises:
            MissingError: There is no such chunk.
            ConfigError: ``k`` is out of range.
        """
        _check_k(k)
        corpus = self.open(corpus_id)
        _check_chunk(corpus, chunk_id)
        retriever = corpus.retriever()
        chunk = corpus.database.chunks_CM[chunk_id : chunk_id + 1]
        ids, distances = retriever.search_chunks(chunk, k)
        return _views(retriever.describe(ids[0], distances[0]))

    def search(self, corpus_id: str, text: str, k: int = 5) -> list[views.Neighbor]:
        """Return the chunks nearest to a text.

        Raises:
            InputError: The text is empty or too long.
            ConfigError: ``k`` is out of range.
        """
        if not text.strip():
            raise InputError("The text to search for must not be empty. Type a few words.")
        if len(text) > MOST_SEARCH_CHARACTERS:
            raise InputError(
                f"The text to search for may have at most {MOST_SEARCH_CHARACTERS:,} characters, "
                f"got {len(text):,}. Shorten it."
            )
        _check_k(k)
        corpus = self.open(corpus_id)
        return _views(corpus.retriever().search_text(text, k))

    def suggest_prompt(self, corpus_id: str) -> str:
        """Return the beginning of a held-out document, which is a fair thing to continue."""
        return beginning_of_held_out(self.open(corpus_id))


def _check_k(k: int) -> None:
    if not 1 <= k <= MOST_NEIGHBORS:
        raise ConfigError(f"k must be between 1 and {MOST_NEIGHBORS}, got {k}.")


def _check_chunk(corpus: Corpus, chunk_id: int) -> None:
    if not 0 <= chunk_id < corpus.database.num_chunks:
        raise MissingError(
            f"chunk_id must be between 0 and {corpus.database.num_chunks - 1}, got {chunk_id}."
        )


def _views(neighbors: Sequence[Neighbor]) -> list[views.Neighbor]:
    return [views.Neighbor.of(one, distance=one.score) for one in neighbors]
