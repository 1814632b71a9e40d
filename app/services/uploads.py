"""Uploads: every file is accepted or gets a reason, and nothing leaves the corpus folder.

Limits are checked while reading, never from what a request or an archive says about
itself alone.
"""

import hashlib
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from app.errors import ChangeRefusedError, RequestTooLargeError
from app.format import size
from app.services.changes import resume_note, unfinished_runs
from app.services.filling import document_bytes
from jobs.home import Home
from jobs.rows import DocumentEntry
from jobs.states import CorpusState
from jobs.store import Store
from retro.data.documents import (
    LARGEST_DOCUMENT_BYTES,
    check_relative_path,
    decode_text,
    store_document,
)
from retro.errors import DiskFullError, InputError

READ_BYTES = 1 << 20
RECORD_EVERY = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadLimits:
    """How much may be sent."""

    request_files: int = 5_000
    """Files in one request; larger folders are sent in several."""

    request_bytes: int = 4 << 30
    """Bytes of one request."""

    file_bytes: int = LARGEST_DOCUMENT_BYTES
    """Bytes of one file, unpacked."""

    corpus_files: int = 500_000
    """Documents of one corpus."""

    corpus_bytes: int = 200 << 30
    """Text of one corpus, in bytes."""

    zip_files: int = 10_000
    """Members of one zip file."""

    zip_ratio: int = 100
    """Unpacked bytes per packed byte, once ``zip_free_bytes`` are unpacked."""

    zip_free_bytes: int = 10 << 20
    """Bytes of a zip file that are unpacked whatever their ratio."""

    free_disk: int = 1 << 30
    """Bytes of the disk that stay free."""


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

    def skip(self, path: str, reason: str) -> None:
        """Note that a file was not taken."""
        self.skipped.append({"path": path[:500], "reason": reason})


class UploadService:
    """Takes files into a corpus."""

    def __init__(self, home: Home, store: Store, limits: UploadLimits) -> None:
        self._home = home
        self._store = store
        self.limits = limits

    def check_open(self, corpus_id: str) -> None:
        """Refuse before the body of a request is read.

        Raises:
            ChangeRefusedError: The corpus is being built.
        """
        corpus = self._store.get_corpus(corpus_id)
        if corpus.state is CorpusState.BUILDING:
            raise ChangeRefusedError(
                f"Files can be added to corpus {corpus.name!r} when it is not being built. "
                f"Wait for the build to end, or cancel it on the Jobs page."
            )

    def add(self, corpus_id: str, files: list[UploadedFile]) -> dict[str, Any]:
        """Take the files of one request.

        Args:
            corpus_id: Where they go.
            files: What was sent; zip files are unpacked.

        Returns:
            ``accepted`` with path, bytes and note, and ``skipped`` with path and reason;
            ``note`` where the next build ends the training of unfinished runs.

        Raises:
            RequestTooLargeError: There are too many files.
            DiskFullError: The disk is nearly full; what was accepted before is kept.
        """
        self.check_open(corpus_id)
        if len(files) > self.limits.request_files:
            raise RequestTooLargeError(
                f"One request may hold at most {self.limits.request_files:,} files, "
                f"got {len(files):,}. Send them in several requests, or as one zip file."
            )
        intake = _Intake(self._home, self._store, self.limits, corpus_id)
        try:
            for file in files:
                intake.take(file)
        finally:
            # What is on disk is recorded, even when a later file stops the request.
            intake.record()
        answer: dict[str, Any] = {
            "accepted": intake.report.accepted,
            "skipped": intake.report.skipped,
        }
        note = resume_note([run.name for run in unfinished_runs(self._store, corpus_id)])
        return {**answer, "note": note} if note and intake.report.accepted else answer


class _Intake:
    """One request's way into one corpus."""

    def __init__(self, home: Home, store: Store, limits: UploadLimits, corpus_id: str) -> None:
        self.report = UploadReport()
        self._folder = home.corpus_dir(corpus_id)
        self._store = store
        self._limits = limits
        self._corpus_id = corpus_id
        self._home = home
        self._pending: list[DocumentEntry] = []
        self._num_documents = store.count_documents(corpus_id)
        self._num_bytes = document_bytes(store, corpus_id)

    def take(self, file: UploadedFile) -> None:
        """Accept one file, unpack it, or note why not."""
        try:
            path = check_relative_path(file.path)
        except InputError as error:
            self.report.skip(file.path, str(error))
            return
        if path.lower().endswith(".zip"):
            self._unpack(path, file.content)
            return
        data = _read_at_most(file.content, self._limits.file_bytes)
        if data is None:
            self.report.skip(path, self._too_long())
        else:
            self._accept(path, data)

    def record(self) -> None:
        """Write the accepted files to the table of documents."""
        if self._pending:
            self._store.add_documents(self._corpus_id, self._pending)
            self._pending = []

    def _accept(self, path: str, data: bytes) -> None:
        try:
            document = decode_text(data, path)
        except InputError as error:
            self.report.skip(path, str(error))
            return
        if self._num_documents >= self._limits.corpus_files:
            limit = self._limits.corpus_files
            self.report.skip(path, f"A corpus may hold at most {limit:,} documents.")
            return
        if self._num_bytes + len(data) > self._limits.corpus_bytes:
            most = size(self._limits.corpus_bytes)
            self.report.skip(path, f"A corpus may hold at most {most} of text.")
            return
        self._check_disk(len(data))
        try:
            stored_bytes = store_document(self._folder, document)
        except InputError as error:
            self.report.skip(path, str(error))
            return
        self._num_documents += 1
        self._num_bytes += stored_bytes
        self._pending.append(
            DocumentEntry(
                path=document.path,
                bytes=stored_bytes,
                sha256=hashlib.sha256(document.text.encode()).hexdigest(),
                encoding=document.encoding,
                note=document.note,
            )
        )
        accepted = {"path": document.path, "bytes": stored_bytes}
        self.report.accepted.append(
            accepted if document.note is None else {**accepted, "note": document.note}
        )
        if len(self._pending) >= RECORD_EVERY:
            self.record()

    def _check_disk(self, num_bytes: int) -> None:
        free = shutil.disk_usage(self._home.path).free
        if free - num_bytes < self._limits.free_disk:
            raise DiskFullError(
                f"At least {size(self._limits.free_disk)} of the disk must stay free, "
                f"and {size(free)} are. Free some space and upload the rest again."
            )

    def _too_long(self) -> str:
        return f"A file may have at most {size(self._limits.file_bytes)}. Split it."

    def _unpack(self, path: str, content: BinaryIO) -> None:
        try:
            with zipfile.ZipFile(content) as archive:
                members = [info for info in archive.infolist() if not info.is_dir()]
                if reason := self._refuse_archive(members):
                    self.report.skip(path, reason)
                    return
                self._take_members(path, archive, members)
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as error:
            self.report.skip(path, f"It is not a readable zip file ({error}). Pack it again.")

    def _refuse_archive(self, members: list[zipfile.ZipInfo]) -> str | None:
        if not members:
            return "The zip file holds no files."
        if len(members) > self._limits.zip_files:
            return (
                f"A zip file may hold at most {self._limits.zip_files:,} files, "
                f"got {len(members):,}. Split it."
            )
        packed = sum(info.compress_size for info in members)
        unpacked = sum(info.file_size for info in members)
        if self._swells(packed, unpacked):
            return (
                f"A zip file may unpack to at most {self._limits.zip_ratio} times its size, "
                f"and this one holds {size(unpacked)} in {size(packed)}. "
                f"Upload the files themselves."
            )
        return None

    def _swells(self, packed: int, unpacked: int) -> bool:
        limit = max(self._limits.zip_free_bytes, packed * self._limits.zip_ratio)
        return unpacked > limit

    def _take_members(
        self, archive_path: str, archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]
    ) -> None:
        packed = unpacked = 0
        for info in members:
            shown = f"{archive_path}: {info.filename}"
            if reason := _refuse_member(info):
                self.report.skip(shown, reason)
                continue
            try:
                path = check_relative_path(info.filename)
            except InputError as error:
                self.report.skip(shown, str(error))
                continue
            try:
                with archive.open(info) as member:
                    data = _read_at_most(member, self._limits.file_bytes)
            except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, zlib.error):
                self.report.skip(shown, "It is damaged inside the zip file. Pack it again.")
                continue
            if data is None:
                self.report.skip(shown, self._too_long())
                continue
            packed += info.compress_size
            unpacked += len(data)
            if self._swells(packed, unpacked):
                self.report.skip(
                    archive_path,
                    f"The zip file unpacks to more than {self._limits.zip_ratio} times its size; "
                    f"the rest of it was not read.",
                )
                return
            self._accept(path, data)


def _refuse_member(info: zipfile.ZipInfo) -> str | None:
    if stat.S_ISLNK(info.external_attr >> 16):
        return "Links are not followed."
    if info.flag_bits & 0x1:
        return "It is encrypted. Pack it without a password."
    if info.filename.lower().endswith(".zip"):
        return "Zip files inside zip files are not unpacked."
    return None


def _pieces(content: BinaryIO) -> Iterator[bytes]:
    while piece := content.read(READ_BYTES):
        yield piece


def _read_at_most(content: BinaryIO | Any, limit: int) -> bytes | None:
    """Return the whole content, or None if it is longer than the limit."""
    data = bytearray()
    for piece in _pieces(content):
        data += piece
        if len(data) > limit:
            return None
    return bytes(data)
