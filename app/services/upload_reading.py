"""One uploaded file becomes documents, and reasons for what does not become one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from app.format import size
from app.services.archives import Archive
from app.services.json_lines import SUFFIXES, read_json_lines
from app.services.unpacking import (
    Budget,
    Counted,
    Gunzip,
    Readable,
    RefusedError,
    Sent,
    Spare,
    UnreadableError,
    num_bytes,
    read_at_most,
)
from app.services.upload_limits import UploadLimits
from retro.data.documents import TextDocument, check_relative_path, decode_text
from retro.errors import InputError

GZIP = ".gz"
MOST_LINE_REASONS = 200
"""Lines of one file that are listed with their reason."""
DAMAGED = "It is damaged inside the zip file. Pack it again."


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A file, a member of one, or lines of one, that become no document."""

    path: str
    """Where it lies, as people see it."""

    reason: str

    num_files: int = 1
    """How many are meant."""


Outcome = TextDocument | Refusal


class UploadReader:
    """Reads the files of one request.

    Args:
        limits: How much may be sent.
        text_field: Field of JSON lines that holds the text.
    """

    def __init__(self, limits: UploadLimits, text_field: str) -> None:
        self._limits = limits
        self._text_field = text_field
        self._spare = Spare(limits)

    def read(self, path: str, content: BinaryIO) -> Iterator[Outcome]:
        """Yield the documents of a file, each under a path of its own, and what is refused.

        What the caller does with one takes no time from the file's budget.

        Args:
            path: Relative path as the browser gave it.
            content: The file as it was sent.
        """
        budget = Budget(self._limits, num_bytes(content), self._spare)
        # Hashes: a million long paths would take gigabytes.
        taken: set[int] = set()
        try:
            for outcome in self._read(path, content, budget):
                if isinstance(outcome, TextDocument):
                    outcome = self._refuse_place(outcome, taken)
                with budget.paused():
                    yield outcome
        except RefusedError as error:
            yield Refusal(path=path, reason=str(error))
        finally:
            budget.settle()

    def _read(self, path: str, content: BinaryIO, budget: Budget) -> Iterator[Outcome]:
        try:
            name = check_relative_path(path)
        except InputError as error:
            yield Refusal(path=path, reason=str(error))
            return
        if name.lower().endswith(".zip"):
            yield from self._read_archive(name, content, budget)
            return
        is_plain = not name.lower().endswith((GZIP, *SUFFIXES))
        try:
            yield from self._read_content(
                name, content if is_plain else Sent(content, budget), budget
            )
        except UnreadableError as error:
            reason = f"It is not a readable gzip file ({str(error)[:200]}). Pack it again."
            yield Refusal(path=name, reason=reason)

    def _read_archive(self, path: str, content: BinaryIO, budget: Budget) -> Iterator[Outcome]:
        archive = Archive(content, self._limits, budget)
        for member in archive.members():
            shown = f"{path}: {member.name}"
            if member.reason is not None:
                yield Refusal(path=shown, reason=member.reason)
                continue
            try:
                name = check_relative_path(member.name)
                yield from self._read_content(name, archive.open(member), budget)
            except InputError as error:
                yield Refusal(path=shown, reason=str(error))
            except UnreadableError:
                yield Refusal(path=shown, reason=DAMAGED)

    def _read_content(self, path: str, content: Readable, budget: Budget) -> Iterator[Outcome]:
        if path.lower().endswith(GZIP):
            path, content = path[: -len(GZIP)], Counted(Gunzip(content), budget)
        if path.lower().endswith(SUFFIXES):
            yield from self._read_lines(path, content)
            return
        data = read_at_most(content, self._limits.file_bytes)
        if data is None:
            most = size(self._limits.file_bytes)
            yield Refusal(path=path, reason=f"A file may have at most {most}. Split it.")
            return
        try:
            yield decode_text(data, path)
        except InputError as error:
            yield Refusal(path=path, reason=str(error))

    def _read_lines(self, path: str, content: Readable) -> Iterator[Outcome]:
        bad = taken = 0
        try:
            for line in read_json_lines(content, path, self._text_field, self._limits):
                if isinstance(line.outcome, TextDocument):
                    taken += 1
                    yield line.outcome
                else:
                    bad += 1
                    if bad <= MOST_LINE_REASONS:
                        yield Refusal(path=f"{path}: line {line.number:,}", reason=line.outcome)
            if bad == taken == 0:
                yield Refusal(path=path, reason="It holds no lines. Leave it out.")
        except InputError as error:
            yield Refusal(path=path, reason=str(error))
        if bad > MOST_LINE_REASONS:
            more = bad - MOST_LINE_REASONS
            reason = f"{more:,} more lines hold no document either."
            yield Refusal(path=path, reason=reason, num_files=more)

    def _refuse_place(self, document: TextDocument, taken: set[int]) -> Outcome:
        """Return a document, or why it cannot lie where it should."""
        path = document.path
        if (folders := path.count("/")) > self._limits.folders:
            reason = (
                f"A document may lie in at most {self._limits.folders} folders, got {folders}. "
                f"Move it up."
            )
            return Refusal(path=path, reason=reason)
        if hash(path) in taken:
            reason = (
                "An earlier document of the same file has this path, and was taken. Rename one."
            )
            return Refusal(path=path, reason=reason)
        taken.add(hash(path))
        return document
