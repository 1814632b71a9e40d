"""What corpora must hold whatever was killed: rows, files, and what was acknowledged agree."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobs.home import Home
from jobs.store.store import Store
from retro.data.documents import DOCUMENTS_NAME

ALL = 10**9
Texts = dict[str, str]
"""Path to text."""
Possible = set[str | None]
"""Texts that a document may have; None is no document."""
ABSENT: Possible = {None}


@dataclass(slots=True)
class KnownCorpus:
    """What the documents of a corpus may be, from the answers that came."""

    documents: dict[str, Possible] = field(default_factory=dict)

    def learn(self, texts: Mapping[str, str], status: int | None) -> None:
        """Note that texts were sent, and how that was answered; None is not at all."""
        for path, text in texts.items():
            if status == 200:
                self.documents[path] = {text}
            elif status is None:
                self.documents[path] = {*self.possible(path), text}

    def learn_of_both(self, path: str, outcomes: Sequence[tuple[str | None, int | None]]) -> None:
        """Note that texts were sent for one path at once, each with its answer.

        Args:
            path: The path.
            outcomes: Text and status; the text is None where it was skipped.
        """
        done: Possible = {text for text, status in outcomes if status == 200 and text}
        unknown: Possible = {text for text, status in outcomes if status is None}
        self.documents[path] = {*(done or self.possible(path)), *unknown}

    def learn_removal(self, path: str, status: int | None) -> None:
        """Note that a document was to be removed, and how that was answered."""
        if status in (204, 404):
            self.documents[path] = {None}
        elif status is None:
            self.documents[path] = {*self.possible(path), None}

    def possible(self, path: str) -> Possible:
        """Return the texts that a document may have."""
        return self.documents.get(path, ABSENT)

    def present(self) -> list[str]:
        """Return the paths of documents that may be there."""
        return [path for path, texts in self.documents.items() if texts != ABSENT]


def check_files(store: Store, home: Home, corpus_id: str) -> Iterator[str]:
    """Yield where rows and files of a corpus do not agree."""
    rows = {row.path: row for row in store.list_documents(corpus_id, limit=ALL)}
    files = read_documents(home.corpus_dir(corpus_id))
    for path in sorted(rows.keys() ^ files.keys()):
        yield f"corpus {corpus_id}: {path} has only a {'row' if path in rows else 'file'}"
    for path in sorted(rows.keys() & files.keys()):
        found = (len(files[path]), hashlib.sha256(files[path]).hexdigest())
        if found != (rows[path].bytes, rows[path].sha256):
            yield f"corpus {corpus_id}: the file of {path} is not what its row says"


def check_documents(home: Home, corpus_id: str, known: KnownCorpus) -> Iterator[str]:
    """Yield which documents are not what was answered; what they are is known from then on."""
    files = read_documents(home.corpus_dir(corpus_id))
    for path in sorted(known.documents.keys() | files.keys()):
        text = files[path].decode() if path in files else None
        if text not in known.possible(path):
            yield f"corpus {corpus_id}: {path} holds {text!r:.60}, which is not what was answered"
        known.documents[path] = {text}


def read_documents(corpus_dir: Path) -> dict[str, bytes]:
    """Return path to content of every file among the documents of a corpus."""
    root = corpus_dir / DOCUMENTS_NAME
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }
