"""One request's way into one corpus: every file is accepted or gets a reason."""

import hashlib
import shutil
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from app.format import size
from app.services.upload_limits import UploadLimits
from app.services.upload_reading import Refusal, UploadReader
from jobs.corpus_files import CorpusFiles, NewText, hold_corpus
from jobs.home import Home
from jobs.store.corpus_locks import CorpusUse
from jobs.store.rows import DocumentEntry
from jobs.store.store import Store
from retro.data.documents import TextDocument
from retro.errors import DiskFullError

BATCH_FILES = 500
BATCH_BYTES = 32 << 20
MOST_LISTED = 10_000
"""Entries of the lists of an answer; the counts cover everything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadedFile:
    """One file of a request."""

    path: str
    """Relative path as the browser gave it."""

    content: BinaryIO


@dataclass(kw_only=True, slots=True)
class UploadReport:
    """What became of each file."""

    accepted: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("added", "replaced", "unchanged", "skipped", "bytes"), 0
        )
    )

    @property
    def num_stored(self) -> int:
        """Documents that were written."""
        return self.counts["added"] + self.counts["replaced"]

    def accept(self, entry: DocumentEntry, change: str) -> None:
        """Note that a document is in the corpus: ``added``, ``replaced`` or ``unchanged``."""
        self.counts[change] += 1
        self.counts["bytes"] += entry.bytes
        if len(self.accepted) < MOST_LISTED:
            values = {"path": entry.path, "bytes": entry.bytes, "encoding": entry.encoding}
            note = {} if entry.note is None else {"note": entry.note}
            self.accepted.append({**values, "change": change, **note})

    def skip(self, path: str, reason: str, count: int = 1) -> None:
        """Note that a file, or several, were not taken."""
        self.counts["skipped"] += count
        if len(self.skipped) < MOST_LISTED:
            self.skipped.append({"path": path[:500], "reason": reason})

    def to_dict(self) -> dict[str, Any]:
        """Return the answer of the REST route."""
        return {"accepted": self.accepted, "skipped": self.skipped, "counts": self.counts}


class Intake:
    """Takes the files of one request.

    Args:
        home: The folder that holds everything.
        store: The database.
        limits: How much may be sent.
        corpus_id: Where the files go.
        text_field: Field of JSON lines that holds the text.
        keep_duplicates: Store a text also where the corpus has it under another path.
    """

    def __init__(
        self,
        home: Home,
        store: Store,
        limits: UploadLimits,
        corpus_id: str,
        *,
        text_field: str,
        keep_duplicates: bool,
    ) -> None:
        self.report = UploadReport()
        self._home = home
        self._store = store
        self._limits = limits
        self._corpus_id = corpus_id
        self._reader = UploadReader(limits, text_field)
        self._keep_duplicates = keep_duplicates
        self._batch: list[TextDocument] = []
        self._batch_bytes = 0
        self._counted_at: float | None = None
        self._num_documents = self._num_bytes = 0

    def take(self, file: UploadedFile) -> None:
        """Accept the documents of one file, or note why not."""
        for outcome in self._reader.read(file.path, file.content):
            if isinstance(outcome, Refusal):
                self.report.skip(outcome.path, outcome.reason, outcome.num_files)
            else:
                self._accept(outcome)

    def finish(self) -> None:
        """Store what is waiting, and record it."""
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if batch:
            self._store_batch(batch)

    def _accept(self, document: TextDocument) -> None:
        self._batch.append(document)
        self._batch_bytes += len(document.text)
        if len(self._batch) >= BATCH_FILES or self._batch_bytes >= BATCH_BYTES:
            self.finish()

    def _store_batch(self, batch: list[TextDocument]) -> None:
        texts = [new_text(document) for document in batch]
        # Not longer than for a batch: reading a large request takes hours.
        with hold_corpus(self._home, self._store, self._corpus_id, CorpusUse.ADD) as files:
            self._count(files)
            changes = self._choose(files, [entry for entry, _ in texts])
            chosen = [
                (text, change)
                for text, change in zip(texts, changes, strict=True)
                if change is not None
            ]
            self._check_disk(sum(entry.bytes for (entry, _), _ in chosen))
            problems = files.keep([text for text, _ in chosen])
            self._counted_at = files.changed_at
        for ((entry, _), change), problem in zip(chosen, problems, strict=True):
            if problem is None:
                self.report.accept(entry, change)
            else:
                self.report.skip(entry.path, str(problem))

    def _count(self, files: CorpusFiles) -> None:
        """Count what the corpus holds, if others have changed it since the last batch."""
        if self._counted_at != files.changed_at:
            self._counted_at = files.changed_at
            self._num_documents = self._store.count_documents(self._corpus_id)
            self._num_bytes = self._store.document_bytes(self._corpus_id)

    def _choose(self, files: CorpusFiles, entries: list[DocumentEntry]) -> list[str | None]:
        """Return what storing each document changes, None for those that are not stored."""
        paths, sums = [item.path for item in entries], [item.sha256 for item in entries]
        wanted = [] if self._keep_duplicates else sums
        known = self._store.document_sums(self._corpus_id, paths=paths, sha256s=wanted)
        holders = {sha256: path for path, sha256 in sorted(known.items(), reverse=True)}
        written: set[str] = set()
        changes: list[str | None] = []
        for entry in entries:
            before = known.get(entry.path)
            is_there = before == entry.sha256 and (entry.path in written or files.has_text(entry))
            change = self._change(entry, before, holders, is_there=is_there)
            changes.append(change)
            if change is not None:
                written.add(entry.path)
                known[entry.path] = entry.sha256
                if before is not None and holders.get(before) == entry.path:
                    del holders[before]
                holders.setdefault(entry.sha256, entry.path)
                self._num_documents += before is None
                self._num_bytes += entry.bytes
        return changes

    def _change(
        self, entry: DocumentEntry, before: str | None, holders: dict[str, str], *, is_there: bool
    ) -> str | None:
        """Return what storing a document would change, None where it is not stored."""
        if is_there:
            self.report.accept(entry, "unchanged")
            return None
        same = holders.get(entry.sha256)
        if before is None and same is not None and not self._keep_duplicates:
            reason = f"It has the same text as {same}. Ask to keep duplicates to store it as well."
        elif before is None and self._num_documents >= self._limits.corpus_files:
            reason = f"A corpus may hold at most {self._limits.corpus_files:,} documents."
        elif self._num_bytes + entry.bytes > self._limits.corpus_bytes:
            reason = f"A corpus may hold at most {size(self._limits.corpus_bytes)} of text."
        else:
            return "added" if before is None else "replaced"
        self.report.skip(entry.path, reason)
        return None

    def _check_disk(self, num_bytes: int) -> None:
        free = shutil.disk_usage(self._home.corpora_dir).free
        if free - num_bytes < self._limits.free_disk:
            raise DiskFullError(
                f"At least {size(self._limits.free_disk)} of the disk must stay free, "
                f"and {size(free)} are. Free some space and upload the rest again."
            )


def new_text(document: TextDocument) -> NewText:
    """Return what is recorded and stored of a document."""
    data = document.text.encode()
    entry = DocumentEntry(
        path=document.path,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        encoding=document.encoding,
        note=document.note,
    )
    return entry, data
