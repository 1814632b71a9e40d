"""Zip files: what one says about itself is checked against where its data lies."""

import stat
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from app.services.unpacking import (
    READ_BYTES,
    UNREADABLE,
    Budget,
    Counted,
    RefusedError,
    Sent,
    UnreadableError,
)
from app.services.upload_limits import UploadLimits

ENTRY_BYTES = 1024
"""Bytes of the list of files for each file that an archive may have; most entries have 100."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED, SIZES_FOLLOW = 0x1, 0x8
IN_EXTRA_FIELD = 0xFFFFFFFF
HEADER = struct.Struct("<4s2xHH4xLLLHH")
SIGNATURE = b"PK\x03\x04"


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A file in an archive."""

    info: zipfile.ZipInfo

    reason: str | None
    """Why it is left out, None if it is not."""

    @property
    def name(self) -> str:
        """Return its path as the archive gives it, also what stands after a NUL."""
        return self.info.orig_filename


class Archive:
    """An archive whose members lie apart from each other and inside of it.

    Args:
        content: The zip file.
        limits: What is allowed.
        budget: What is counted against.

    Raises:
        RefusedError: It cannot be read, or is not unpacked at all.
    """

    def __init__(self, content: IO[bytes], limits: UploadLimits, budget: Budget) -> None:
        self._budget = budget
        self._sent = Sent(content, budget, max(READ_BYTES, limits.zip_files * ENTRY_BYTES))
        try:
            self._zip = zipfile.ZipFile(self._sent)
        except UNREADABLE as error:
            reason = str(error)[:200] or type(error).__name__
            raise RefusedError(
                f"It is not a readable zip file ({reason}). Pack it again."
            ) from error
        num_files = sum(not _is_folder(info) for info in self._zip.infolist())
        if num_files == 0:
            raise RefusedError("The zip file holds no files. Pack it again.")
        if num_files > limits.zip_files:
            raise RefusedError(
                f"A zip file may hold at most {limits.zip_files:,} files, got {num_files:,}. "
                f"Split it."
            )
        self._headers = self._read_headers()
        budget.check_size(sum(info.file_size for info in self._zip.infolist()))

    def members(self) -> Iterator[Member]:
        """Yield the files in the order of the archive's list."""
        for info, header in zip(self._zip.infolist(), self._headers, strict=True):
            if not _is_folder(info):
                yield Member(info=info, reason=_refuse(info) or _refuse_difference(info, header))

    def open(self, member: Member) -> Counted:
        """Return what a member holds.

        Raises:
            UnreadableError: It is damaged.
        """
        try:
            return Counted(self._zip.open(member.info), self._budget)
        except UNREADABLE as error:
            raise UnreadableError(str(error)) from error

    def _read_headers(self) -> list["_Header | None"]:
        """Return the header before each member's data, None where there is none.

        Raises:
            RefusedError: A member lies outside of the data, or over another one.
        """
        entries = self._zip.infolist()
        headers: list[_Header | None] = [None] * len(entries)
        end, before = 0, ""
        for number in sorted(range(len(entries)), key=lambda n: entries[n].header_offset):
            info = entries[number]
            start, name = info.header_offset, repr(info.orig_filename[:80])
            if before and start < end:
                raise RefusedError(
                    f"The files of a zip file must lie apart from each other, and {name} lies "
                    f"over {before}. Pack it again."
                )
            if not 0 <= start <= self._zip.start_dir:
                raise _outside(name)
            self._sent.seek(start)
            header = headers[number] = _Header.of(self._sent.read(HEADER.size))
            end = start + HEADER.size + info.compress_size + (header.rest_bytes if header else 0)
            if end > self._zip.start_dir:
                raise _outside(name)
            before = name
        return headers


@dataclass(frozen=True, slots=True)
class _Header:
    """What stands before the data of a member."""

    flags: int
    method: int
    crc: int
    packed: int
    unpacked: int
    rest_bytes: int
    """Name and extra field."""

    @classmethod
    def of(cls, data: bytes) -> "_Header | None":
        if len(data) < HEADER.size:
            return None
        signature, flags, method, crc, packed, unpacked, name, extra = HEADER.unpack(data)
        if signature != SIGNATURE:
            return None
        return cls(flags, method, crc, packed, unpacked, name + extra)


def _is_folder(info: zipfile.ZipInfo) -> bool:
    # The method of this name looks at the last character, also where there is none.
    return info.orig_filename.endswith("/")


def _outside(name: str) -> RefusedError:
    return RefusedError(
        f"The files of a zip file must lie inside of it, and {name} does not. Pack it again."
    )


def _refuse(info: zipfile.ZipInfo) -> str | None:
    """Return why a member is left out, None if it is not."""
    if stat.S_ISLNK(info.external_attr >> 16):
        return "Links are not followed."
    if info.flag_bits & ENCRYPTED:
        return "It is encrypted. Pack it without a password."
    if info.orig_filename.lower().endswith(".zip"):
        return "Zip files inside zip files are not unpacked."
    if info.compress_type not in METHODS:
        return (
            f"It must be stored (method 0) or deflated (8), got the method {info.compress_type}. "
            f"Pack it as an ordinary zip file."
        )
    return None


def _refuse_difference(info: zipfile.ZipInfo, header: _Header | None) -> str | None:
    """Return in what the two headers of a member differ: programs would read different files."""
    if header is None:
        return None
    pairs = {"method": (header.method, info.compress_type)}
    if not (header.flags | info.flag_bits) & SIZES_FOLLOW:
        pairs["checksum"] = header.crc, info.CRC
        if IN_EXTRA_FIELD not in (header.packed, header.unpacked):
            pairs["packed size"] = header.packed, info.compress_size
            pairs["size"] = header.unpacked, info.file_size
    for name, (there, listed) in pairs.items():
        if there != listed:
            return (
                f"Its {name} must be the same in its header and in the zip file's list, got "
                f"{there} and {listed}. Pack it again."
            )
    return None
