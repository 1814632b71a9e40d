"""Corpora: make, fill with the sample, build, look into, search, delete."""

import hashlib
import stat
import threading
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import ChangeRefusedError, MissingError
from app.services.jobs import JobService
from jobs.home import Home, remove_folder
from jobs.rows import CorpusRow, DocumentEntry, DocumentRow
from jobs.states import CorpusState
from jobs.store import Store
from retro.config import CorpusConfig, config_from_dict, config_to_dict, shown
from retro.data.documents import read_stored, store_document
from retro.data.samples import SAMPLES, sample_documents
from retro.errors import ArtifactMissingError, ConfigError, InputError
from retro.retrieval.corpus import Corpus
from retro.retrieval.retriever import Neighbor

MOST_NAME_CHARACTERS = 200
MOST_SEARCH_CHARACTERS = 20_000
MOST_NEIGHBORS = 100
PROMPT_CHARACTERS = 160
BUILT_FOLDERS = ("tokenizer", "database", "keys", "index")


class CorpusService:
    """Everything about corpora but uploads."""

    def __init__(self, home: Home, store: Store, jobs: JobService, encoder: str | None) -> None:
        self._home = home
        self._store = store
        self._jobs = jobs
        self._encoder = encoder
        self._num_bytes: dict[str, tuple[float, int]] = {}
        self._open: dict[str, tuple[str, Corpus]] = {}
        self._open_lock = threading.Lock()

    def create(
        self, name: str, *, sample: str | None = None, settings: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Make a corpus, empty or filled with a built-in sample.

        Raises:
            ConfigError: The name is empty, the sample or a setting is unknown.
        """
        cleaned = check_name(name)
        if sample is not None and sample not in SAMPLES:
            known = ", ".join(repr(item) for item in SAMPLES)
            raise ConfigError(f"sample must be one of {known}, got {shown(sample)}.")
        config = self._config(settings or {})
        row = self._store.create_corpus(cleaned, config_to_dict(config))
        if sample is not None:
            self._fill(row.id, sample)
        return self.get(row.id)

    def _config(self, settings: dict[str, Any]) -> CorpusConfig:
        defaults = {} if self._encoder is None else {"encoder": self._encoder}
        return config_from_dict(CorpusConfig, {**defaults, **settings})

    def _fill(self, corpus_id: str, sample: str) -> None:
        entries = []
        for document in sample_documents(sample):
            stored_bytes = store_document(self._home.corpus_dir(corpus_id), document)
            entries.append(
                DocumentEntry(
                    path=document.path,
                    bytes=stored_bytes,
                    sha256=hashlib.sha256(document.text.encode()).hexdigest(),
                    encoding=document.encoding,
                    note=document.note,
                )
            )
        self._store.add_documents(corpus_id, entries)

    def list_corpora(self) -> list[dict[str, Any]]:
        """Return all corpora, the newest first."""
        return [self._to_dict(row) for row in self._store.list_corpora()]

    def get(self, corpus_id: str) -> dict[str, Any]:
        """Return one corpus with its counts and settings."""
        return self._to_dict(self._store.get_corpus(corpus_id))

    def disk_bytes(self, corpus_id: str) -> int:
        """Return the bytes a corpus takes on disk: its documents and what was built."""
        folder = self._home.corpus_dir(corpus_id)
        built = (path for name in BUILT_FOLDERS for path in (folder / name).rglob("*"))
        return self.num_bytes(corpus_id) + sum(_file_bytes(path) for path in built)

    def delete(self, corpus_id: str) -> None:
        """Delete a corpus and free its disk.

        Raises:
            InvalidChangeError: A run or an unfinished job needs it.
        """
        self._store.delete_corpus(corpus_id)
        with self._open_lock:
            self._open.pop(corpus_id, None)
        remove_folder(self._home.corpus_dir(corpus_id))

    def build(self, corpus_id: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
        """Submit the job that chunks, embeds and indexes a corpus.

        Args:
            corpus_id: The corpus.
            settings: Settings that replace those of the corpus, by name.

        Raises:
            InputError: The corpus holds no documents.
            ChangeRefusedError: It is being built already.
        """
        row = self._store.get_corpus(corpus_id)
        if row.state is CorpusState.BUILDING:
            raise ChangeRefusedError(
                f"Corpus {row.name!r} is being built already. Wait for that job, or cancel it."
            )
        if self._store.count_documents(corpus_id) == 0:
            raise InputError(
                f"Corpus {row.name!r} must hold at least one document, got none. "
                f"Upload text files first."
            )
        config = config_from_dict(CorpusConfig, {**row.settings, **(settings or {})})
        values = config_to_dict(config)
        if values != row.settings:
            self._store.set_corpus_settings(corpus_id, values)
        job = self._store.submit("build", corpus_id=corpus_id, settings=values)
        return self._jobs.get(job.id)

    def num_bytes(self, corpus_id: str) -> int:
        """Return the bytes of text in a corpus; added up again when it has changed."""
        changed_at = self._store.get_corpus(corpus_id).updated_at
        known = self._num_bytes.get(corpus_id)
        if known is None or known[0] != changed_at:
            known = (changed_at, document_bytes(self._store, corpus_id))
            self._num_bytes[corpus_id] = known
        return known[1]

    def documents(self, corpus_id: str, limit: int = 100, offset: int = 0) -> dict[str, Any]:
        """Return a page of a corpus's documents and how many there are."""
        self._store.get_corpus(corpus_id)
        rows = self._store.list_documents(corpus_id, limit=limit, offset=offset)
        return {
            "documents": [document_to_dict(row) for row in rows],
            "total": self._store.count_documents(corpus_id),
        }

    def open(self, corpus_id: str) -> Corpus:
        """Open a finished corpus; opened ones are kept until they are built again.

        Raises:
            ArtifactMissingError: The corpus has no index yet.
        """
        row = self._store.get_corpus(corpus_id)
        if row.summary is None:
            raise ArtifactMissingError(
                f"Corpus {row.name!r} has no index yet. Build it first, and wait for the job."
            )
        fingerprint = str(row.summary.get("fingerprint", ""))
        with self._open_lock:
            cached = self._open.get(corpus_id)
            if cached is None or cached[0] != fingerprint:
                self._open[corpus_id] = (fingerprint, Corpus.open(self._home.corpus_dir(corpus_id)))
            return self._open[corpus_id][1]

    def chunk(self, corpus_id: str, chunk_id: int) -> dict[str, Any]:
        """Return one chunk of a corpus with its place and its neighbors."""
        corpus = self.open(corpus_id)
        if not 0 <= chunk_id < corpus.database.num_chunks:
            raise MissingError(
                f"chunk_id must be between 0 and {corpus.database.num_chunks - 1}, got {chunk_id}."
            )
        place = corpus.retriever().describe(np.array([chunk_id]), np.array([0.0]))[0]
        neighbors = corpus.retriever().describe(
            corpus.neighbors_CK[chunk_id], corpus.distances_CK[chunk_id]
        )
        own = neighbor_to_dict(place)
        del own["rank"], own["distance"]
        return {
            **own,
            "is_retrievable": chunk_id < corpus.database.num_retrievable,
            "neighbors": [neighbor_to_dict(neighbor) for neighbor in neighbors],
        }

    def search(self, corpus_id: str, text: str, k: int = 5) -> list[dict[str, Any]]:
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
        if not 1 <= k <= MOST_NEIGHBORS:
            raise ConfigError(f"k must be between 1 and {MOST_NEIGHBORS}, got {k}.")
        corpus = self.open(corpus_id)
        neighbors = corpus.retriever().search_text(text, k)
        return [neighbor_to_dict(neighbor) for neighbor in neighbors]

    def passage(
        self, corpus_id: str, path: str, start: int, end: int, around: int
    ) -> dict[str, Any]:
        """Return a place in a document with the text around it.

        Args:
            corpus_id: The corpus.
            path: Relative path of the document.
            start: First character of the place, from 0.
            end: Character after its last one; with ``start`` 0 and ``end`` 0, no place.
            around: Characters to show on either side.
        """
        self._store.get_corpus(corpus_id)
        text = read_stored(self._home.corpus_dir(corpus_id), path)
        end = min(end, len(text), start + around)
        start = min(start, end)
        first, last = max(0, start - around), min(len(text), end + around)
        return {
            "start": first,
            "before": text[first:start],
            "text": text[start:end],
            "after": text[end:last],
            "has_more": last < len(text),
            "num_characters": len(text),
        }

    def suggest_prompt(self, corpus_id: str) -> str:
        """Return the beginning of a held-out document, which is a fair thing to continue."""
        corpus = self.open(corpus_id)
        records = corpus.database.documents
        held_out = [record.path for record in records if record.split == "validation"]
        paths = held_out or [record.path for record in records]
        folder = self._home.corpus_dir(corpus_id)
        for path in paths[:20]:
            text = read_stored(folder, path).strip()
            if len(text) >= PROMPT_CHARACTERS:
                return beginning(text, PROMPT_CHARACTERS)
        return beginning(read_stored(folder, paths[0]).strip(), PROMPT_CHARACTERS)

    def _to_dict(self, row: CorpusRow) -> dict[str, Any]:
        summary = row.summary or {}
        return {
            "id": row.id,
            "name": row.name,
            "state": row.state.value,
            "settings": row.settings,
            "summary": row.summary,
            "num_documents": self._store.count_documents(row.id),
            "num_chunks": summary.get("num_chunks"),
            "build_job_id": row.build_job_id,
            "created_at": row.created_at,
            "updated_at": row.updated_at,
        }


def document_bytes(store: Store, corpus_id: str) -> int:
    """Return the bytes of all documents of a corpus."""
    total, offset = 0, 0
    while rows := store.list_documents(corpus_id, limit=5_000, offset=offset):
        total += sum(row.bytes for row in rows)
        offset += len(rows)
    return total


def _file_bytes(path: Path) -> int:
    try:
        status = path.lstat()
    except FileNotFoundError:  # a stage may replace its files at any time
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def check_name(name: str) -> str:
    """Return a name for a corpus or a run, without the white space around it.

    Raises:
        ConfigError: It is empty, too long, or not printable.
    """
    cleaned = " ".join(name.split())
    if not cleaned or len(cleaned) > MOST_NAME_CHARACTERS or not cleaned.isprintable():
        raise ConfigError(
            f"name must have 1 to {MOST_NAME_CHARACTERS} printable characters, got {shown(name)}."
        )
    return cleaned


def beginning(text: str, num_characters: int) -> str:
    """Return the start of a text, cut between words."""
    if len(text) <= num_characters:
        return text
    cut = text[:num_characters]
    last = max(cut.rfind(" "), cut.rfind("\n"))
    return cut[:last].rstrip() if last > num_characters // 2 else cut


def document_to_dict(row: DocumentRow) -> dict[str, Any]:
    """Return a document as the REST routes answer it."""
    return {"path": row.path, "bytes": row.bytes, "encoding": row.encoding, "note": row.note}


def neighbor_to_dict(neighbor: Neighbor) -> dict[str, Any]:
    """Return a neighbor as the REST routes answer it."""
    return {
        "rank": neighbor.rank,
        "chunk_id": neighbor.chunk_id,
        "document": neighbor.document,
        "start": neighbor.start,
        "end": neighbor.end,
        "distance": neighbor.distance,
        "text": neighbor.text,
        "continuation": neighbor.continuation,
        "chunk_index": neighbor.chunk_index,
        "num_chunks": neighbor.num_chunks,
    }
