"""Zip files that no program writes: each field says what the test wants."""

import struct
import zlib
from dataclasses import dataclass

STORED, DEFLATED = 0, 8
SIZES_FOLLOW = 0x8
LOCAL = struct.Struct("<4s5H3L2H")
LISTED = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A member of a zip file; what is not given is as it should be."""

    name: str = "a.txt"
    text: bytes = b"some text"
    method: int = DEFLATED
    flags: int = 0
    crc: int | None = None
    packed: int | None = None
    """Packed size in the list; the header before the data tells the truth."""
    unpacked: int | None = None
    at: int | None = None
    """Where the list says that it begins."""
    header_method: int | None = None
    header_unpacked: int | None = None
    extra: bytes = b""
    """Extra field in the list."""
    comment: bytes = b""


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def forge(*entries: Entry, before: bytes = b"", repeat: int = 1) -> bytes:
    """Return a zip file.

    Args:
        entries: Its members.
        before: What stands before the first one.
        repeat: How often the list names each of them.
    """
    data, listed = bytearray(before), bytearray()
    for entry in entries:
        name = entry.name.encode()
        content = entry.text if entry.method == STORED else deflate(entry.text)
        crc = zlib.crc32(entry.text) if entry.crc is None else entry.crc
        packed = len(content) if entry.packed is None else entry.packed
        unpacked = len(entry.text) if entry.unpacked is None else entry.unpacked
        method = entry.method if entry.header_method is None else entry.header_method
        told = unpacked if entry.header_unpacked is None else entry.header_unpacked
        at = len(data) - len(before) if entry.at is None else entry.at
        data += LOCAL.pack(
            b"PK\3\4", 20, entry.flags, method, 0, 33, crc, min(packed, 0xFFFFFFFF),
            min(told, 0xFFFFFFFF), len(name), 0,
        ) + name + content  # fmt: skip
        row = LISTED.pack(
            b"PK\1\2", 20, 20, entry.flags, entry.method, 0, 33, crc, min(packed, 0xFFFFFFFF),
            min(unpacked, 0xFFFFFFFF), len(name), len(entry.extra), len(entry.comment), 0, 0, 0, at,
        )  # fmt: skip
        listed += (row + name + entry.extra + entry.comment) * repeat
    num = len(entries) * repeat
    end = END.pack(b"PK\5\6", 0, 0, num, num, len(listed), len(data) - len(before), 0)
    return bytes(data + listed + end)


def zip64(*sizes: int) -> bytes:
    """Return the extra field that holds sizes whose own fields are full."""
    return struct.pack(f"<HH{len(sizes)}Q", 1, 8 * len(sizes), *sizes)
