"""Packed files: what comes out is counted while it comes out, and never believed beforehand."""

import gzip
import io
import stat
import zipfile
import zlib
from typing import IO, Any, BinaryIO

from app.format import size
from app.services.upload_limits import UploadLimits

READ_BYTES = 1 << 20
UNREADABLE = (
    zipfile.BadZipFile,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
    ValueError,
    zlib.error,
)


class SwollenError(Exception):
    """A packed file holds far more than its size lets expect."""


class UnreadableError(Exception):
    """A packed file cannot be read to its end."""


class Budget:
    """How much a packed file may still give.

    Args:
        limits: What is allowed.
        packed: Bytes that were sent.
    """

    def __init__(self, limits: UploadLimits, packed: int = 0) -> None:
        self._limits = limits
        self.packed = packed
        self._unpacked = 0

    def spend(self, num_bytes: int) -> None:
        """Count bytes that came out.

        Raises:
            SwollenError: They are too many.
        """
        self._unpacked += num_bytes
        if self.swells(self._unpacked):
            raise SwollenError

    def swells(self, unpacked: int) -> bool:
        """Tell whether so many bytes would be too many."""
        limit = max(self._limits.zip_free_bytes, self.packed * self._limits.zip_ratio)
        return unpacked > limit


class Counted(io.RawIOBase):
    """Reads from a packed file and spends its budget.

    Args:
        content: Gives unpacked bytes.
        budget: What they are counted against.
    """

    def __init__(self, content: IO[bytes], budget: Budget) -> None:
        super().__init__()
        self._content = content
        self._budget = budget

    def readable(self) -> bool:
        """Return that this is for reading."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return at most so many bytes."""
        return self._take(self._content.read, size)

    def readline(self, size: int | None = -1) -> bytes:
        """Return a line, or the beginning of one."""
        return self._take(self._content.readline, -1 if size is None else size)

    def _take(self, read: Any, size: int) -> bytes:
        try:
            data: bytes = read(min(size, READ_BYTES) if size >= 0 else READ_BYTES)
        except UNREADABLE as error:
            raise UnreadableError(str(error) or type(error).__name__) from error
        self._budget.spend(len(data))
        return data


def read_at_most(content: BinaryIO | Counted, limit: int) -> bytes | None:
    """Return the whole content, or None if it is longer than the limit."""
    data = bytearray()
    while piece := content.read(READ_BYTES):
        data += piece
        if len(data) > limit:
            return None
    return bytes(data)


def open_gzip(content: IO[bytes]) -> IO[bytes]:
    """Return what a gzip file holds; nothing is read yet."""
    return gzip.GzipFile(fileobj=content, mode="rb")  # type: ignore[return-value]  # reads bytes


def num_bytes(content: BinaryIO) -> int:
    """Return the size of a file that was sent."""
    end = content.seek(0, io.SEEK_END)
    content.seek(0)
    return end


def refuse_archive(members: list[zipfile.ZipInfo], limits: UploadLimits) -> str | None:
    """Return why a zip file is not unpacked at all, None if it is."""
    if not members:
        return "The zip file holds no files."
    if len(members) > limits.zip_files:
        return (
            f"A zip file may hold at most {limits.zip_files:,} files, "
            f"got {len(members):,}. Split it."
        )
    packed = sum(info.compress_size for info in members)
    unpacked = sum(info.file_size for info in members)
    if Budget(limits, packed).swells(unpacked):
        return (
            f"A zip file may unpack to at most {limits.zip_ratio} times its size, "
            f"and this one holds {size(unpacked)} in {size(packed)}. "
            f"Upload the files themselves."
        )
    return None


def refuse_member(info: zipfile.ZipInfo) -> str | None:
    """Return why a member of a zip file is left out, None if it is not."""
    if stat.S_ISLNK(info.external_attr >> 16):
        return "Links are not followed."
    if info.flag_bits & 0x1:
        return "It is encrypted. Pack it without a password."
    if info.filename.lower().endswith(".zip"):
        return "Zip files inside zip files are not unpacked."
    return None
