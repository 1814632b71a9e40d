"""Packed files: what comes out is counted while it comes out, and never believed beforehand."""

import io
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, Protocol

from app.format import size
from app.services.upload_limits import UploadLimits

READ_BYTES = 1 << 20
GZIP_READ_BYTES = 1 << 14
"""Few, because what follows a member is copied for each of them."""
GZIP_FORMAT = zlib.MAX_WBITS | 16
MEGABYTE = 1_000_000
UNREADABLE = (
    zipfile.BadZipFile,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
    ValueError,
    zlib.error,
)


class RefusedError(Exception):
    """A file, or the rest of it, is not taken; the message is fit to be shown."""


class UnreadableError(Exception):
    """A packed file cannot be read to its end."""


class Readable(Protocol):
    """What gives bytes piece by piece."""

    def read(self, num_bytes: int = ..., /) -> bytes:
        """Return at most ``num_bytes`` bytes, none at the end."""
        ...


class Spare:
    """What the files of one request may take together, beyond what the size of each allows."""

    def __init__(self, limits: UploadLimits) -> None:
        self.num_bytes = limits.zip_free_bytes
        self.seconds = limits.free_seconds


class Budget:
    """How much a file may still give, and how long that may take.

    Args:
        limits: What is allowed.
        sent: Bytes of the file as it was sent, which no header can lie about.
        spare: What is left for the request.
        clock: Seconds of processor time: waiting for others is nobody's fault.
    """

    def __init__(
        self,
        limits: UploadLimits,
        sent: int,
        spare: Spare,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._ratio = limits.zip_ratio
        self._sent = sent
        self._spare = spare
        self._clock = clock
        self._own_bytes = limits.zip_ratio * sent
        self._own_seconds = limits.seconds_per_mb * sent / MEGABYTE
        self._unpacked = 0
        self._began = clock()

    def spend(self, num_bytes: int) -> None:
        """Count bytes that came out.

        Raises:
            RefusedError: They are too many, or took too long.
        """
        self._unpacked += num_bytes
        self.check_size(self._unpacked)
        self.check_time()

    def check_size(self, unpacked: int) -> None:
        """Refuse a file that would be too large once unpacked.

        Raises:
            RefusedError: They are too many.
        """
        if unpacked > self._own_bytes + self._spare.num_bytes:
            raise RefusedError(
                f"A packed file may unpack to at most {self._ratio} times its size, and this one "
                f"of {size(self._sent)} holds at least {size(unpacked)}. Upload the files "
                f"themselves."
            )

    def check_time(self) -> None:
        """Refuse what has taken too long.

        Raises:
            RefusedError: It has.
        """
        allowed = self._own_seconds + self._spare.seconds
        if self._clock() - self._began > allowed:
            raise RefusedError(
                f"A file of {size(self._sent)} may take at most {allowed:.3g} seconds to read, and "
                f"this one takes longer; the rest of it was not read. Split it."
            )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take no time from the budget while the block runs."""
        began = self._clock()
        try:
            yield
        finally:
            self._began += self._clock() - began

    def settle(self) -> None:
        """Take what was used beyond the file's own share from what is spare."""
        used = self._clock() - self._began
        spare = self._spare
        spare.num_bytes -= min(spare.num_bytes, max(0, self._unpacked - self._own_bytes))
        spare.seconds -= min(spare.seconds, max(0.0, used - self._own_seconds))


class Sent(io.RawIOBase):
    """A packed file as it was sent; every read looks at the clock.

    A decompressor may read for long without giving anything.

    Args:
        content: The file.
        budget: Whose time it takes.
        most_bytes: Most bytes of one read: what a header asks for is not believed.
    """

    def __init__(self, content: IO[bytes], budget: Budget, most_bytes: int = READ_BYTES) -> None:
        super().__init__()
        self._content = content
        self._budget = budget
        self._most_bytes = most_bytes

    def readable(self) -> bool:
        """Return that this is for reading."""
        return True

    def seekable(self) -> bool:
        """Return that any place can be read."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place and return it."""
        return self._content.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._content.tell()

    def read(self, num_bytes: int = -1, /) -> bytes:
        """Return at most ``num_bytes`` bytes."""
        self._budget.check_time()
        if num_bytes > self._most_bytes:
            raise RefusedError(
                f"A packed file may ask for at most {size(self._most_bytes)} at once, and the list "
                f"of files in this one has {size(num_bytes)}. Split it."
            )
        return self._content.read(num_bytes)


class Counted:
    """Reads what a packed file gives, and spends its budget.

    Args:
        content: Gives unpacked bytes.
        budget: What they are counted against.
    """

    def __init__(self, content: Readable, budget: Budget) -> None:
        self._content = content
        self._budget = budget

    def read(self, num_bytes: int = READ_BYTES, /) -> bytes:
        """Return at most ``num_bytes`` bytes, none at the end.

        Raises:
            RefusedError: The budget is spent.
            UnreadableError: The packed file is damaged.
        """
        try:
            data = self._content.read(num_bytes)
        except UNREADABLE as error:
            raise UnreadableError(str(error) or type(error).__name__) from error
        self._budget.spend(len(data))
        return data


class Gunzip:
    """Gives what a gzip file holds, one member after the other.

    The standard library reads names in headers, and zeros after the end, byte by byte.

    Args:
        content: Gives packed bytes.
    """

    def __init__(self, content: Readable) -> None:
        self._content = content
        self._packed = b""
        self._member = zlib.decompressobj(GZIP_FORMAT)

    def read(self, num_bytes: int = READ_BYTES, /) -> bytes:
        """Return at most ``num_bytes`` bytes, none at the end.

        Raises:
            EOFError: It ends inside of a member.
            zlib.error: It is damaged.
        """
        data = bytearray()
        while len(data) < num_bytes:
            if not self._packed:
                self._packed = self._content.read(GZIP_READ_BYTES)
                if not self._packed and not self._member.eof:
                    raise EOFError("It ends too early")
                if not self._packed:
                    break
            if self._member.eof:
                self._packed = self._packed.lstrip(b"\0")
                if not self._packed:
                    continue
                self._member = zlib.decompressobj(GZIP_FORMAT)
            data += self._member.decompress(self._packed, num_bytes - len(data))
            ended = self._member.eof
            self._packed = self._member.unused_data if ended else self._member.unconsumed_tail
        return bytes(data)


def read_at_most(content: Readable, limit: int) -> bytes | None:
    """Return the whole content, or None if it is longer than the limit."""
    data = bytearray()
    while piece := content.read(READ_BYTES):
        data += piece
        if len(data) > limit:
            return None
    return bytes(data)


def num_bytes(content: BinaryIO) -> int:
    """Return the size of a file that was sent."""
    end = content.seek(0, io.SEEK_END)
    content.seek(0)
    return end
