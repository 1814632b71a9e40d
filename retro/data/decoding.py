"""Bytes that people bring become text.

Everything here goes through its input in pieces: Python lets other threads run between two
calls into the interpreter's own loops, never during one.
"""

import codecs
import re

from retro.errors import InputError

PIECE = 1 << 20
"""Bytes or characters that are looked at in one go."""
BINARY_FORMATS = {
    b"%PDF-": "a PDF file",
    b"PK\x03\x04": "a zip archive or an office document",
    b"\x1f\x8b": "a gzip archive",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"\x7fELF": "a program",
    b"\xd0\xcf\x11\xe0": "an office document",
}
BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "utf-8",
    # UTF-32 before UTF-16: the little-endian mark of one begins with that of the other.
    b"\xff\xfe\x00\x00": "utf-32-le",
    b"\x00\x00\xfe\xff": "utf-32-be",
    b"\xff\xfe": "utf-16-le",
    b"\xfe\xff": "utf-16-be",
}
MOST_CONTROL_CHARACTERS = 0.02
"""Share of a text's characters; above it, the file is taken for binary."""
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f]")
"""Without tab, newlines, form feed, escape (terminal colors) and NEL."""
VISIBLE_CHARACTER = re.compile(r"[^\s\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f]")
"""Neither white space nor one of these."""
C1_BYTE = re.compile(rb"[\x80-\x9f]")
"""Letters and quotes in Windows-1252, control characters in Latin-1."""


def check_text(text: str, path: str) -> None:
    """Refuse what is not text for people to read.

    Raises:
        InputError: It is white space alone, or has more control characters than text has.
    """
    starts = range(0, len(text), PIECE)
    if not any(VISIBLE_CHARACTER.search(text, start, start + PIECE) for start in starts):
        raise InputError(f"{path} holds only white space. Leave it out.")
    controls = sum(len(CONTROL_CHARACTER.findall(text, start, start + PIECE)) for start in starts)
    if "\0" in text or controls > MOST_CONTROL_CHARACTERS * len(text):
        raise InputError(
            f"{path} is not text ({controls} control characters in {len(text)}). "
            f"Convert it to plain text first."
        )


def decode(data: bytes, path: str) -> tuple[str, str, str | None]:
    """Read bytes as text.

    Args:
        data: What is read.
        path: Its name, for messages.

    Returns:
        The text, how it was read, and what a person should know about that, or None.

    Raises:
        InputError: It is a known format that is not text, or not in the encoding it begins with.
    """
    for start, format_name in BINARY_FORMATS.items():
        if data.startswith(start):
            raise InputError(f"{path} is {format_name}, not text. Convert it to plain text first.")
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return _decode_marked(data[len(mark) :], encoding, path)
    wide = _unmarked_utf16(data)
    if wide is not None:
        return wide, "utf-16", "read as UTF-16 without a byte-order mark"
    if b"\0" in data:
        raise InputError(
            f"{path} is not text (byte 0 at position {data.index(0)}). "
            f"Convert it to plain text first."
        )
    try:
        return _decoded(data, "utf-8"), "utf-8", None
    except UnicodeDecodeError:
        return _decode_legacy(data)


def _decode_marked(data: bytes, encoding: str, path: str) -> tuple[str, str, str | None]:
    try:
        text = _decoded(data, encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} starts like {encoding.upper()} text but is not "
            f"({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from None
    family = encoding.removesuffix("-le").removesuffix("-be")
    return text, family, None if family == "utf-8" else f"read as {family.upper()}"


def _unmarked_utf16(data: bytes) -> str | None:
    """Return the text if the zero bytes lie as they do in Western text in UTF-16."""
    sample = data[:4096]
    if len(data) % 2 != 0 or b"\0" not in sample:
        return None
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if min(even, odd) > 0 or max(even, odd) < 0.3 * len(sample) / 2:
        return None
    try:
        text = _decoded(data, "utf-16-le" if odd else "utf-16-be")
    except UnicodeDecodeError:
        return None
    starts = range(0, len(text), PIECE)
    has_controls = any(CONTROL_CHARACTER.search(text, start, start + PIECE) for start in starts)
    return None if has_controls else text


def _decode_legacy(data: bytes) -> tuple[str, str, str | None]:
    text = _decoded(data, "utf-8", "replace")
    starts = range(0, len(text), PIECE)
    damaged = sum(text.count("\ufffd", start, start + PIECE) for start in starts)
    num_ascii = sum(len(text[start : start + PIECE].encode("ascii", "ignore")) for start in starts)
    if len(text) - num_ascii - damaged > 10 * damaged:
        return text, "utf-8", f"{damaged} places that are not UTF-8 were replaced"
    if any(C1_BYTE.search(data, start, start + PIECE) for start in range(0, len(data), PIECE)):
        try:
            return _decoded(data, "cp1252"), "windows-1252", "read as Windows-1252"
        except UnicodeDecodeError:
            pass
    return _decoded(data, "latin-1"), "latin-1", "read as Latin-1"


def _decoded(data: bytes, encoding: str, errors: str = "strict") -> str:
    """Do what ``data.decode`` does."""
    if len(data) <= PIECE:
        return data.decode(encoding, errors)
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    pieces = []
    for start in range(0, len(data), PIECE):
        pending = len(decoder.getstate()[0])
        try:
            pieces.append(decoder.decode(data[start : start + PIECE], start + PIECE >= len(data)))
        except UnicodeDecodeError as error:
            error.start += start - pending
            raise
    return "".join(pieces)
