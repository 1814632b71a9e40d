"""JSON Lines: a document on each line, under the name that the line gives it."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn

from app.services.unpacking import READ_BYTES, Readable
from app.services.upload_limits import UploadLimits
from retro.data.decoding import check_text
from retro.data.documents import TextDocument, check_relative_path, check_size
from retro.errors import InputError

SUFFIXES = (".jsonl", ".ndjson")
NAME_FIELDS = ("id", "title")
LONGEST_FIELD = 200
NAME_BYTES = 120
SHOWN = 60
UNSAFE = re.compile(r"[\\/:\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]+")

BLANK = re.compile(rb"\s*")
STRING_OR_MARK = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{,]', re.DOTALL)
"""The end of a string is optional: a search for it would begin again at every place."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one line."""

    number: int
    """Counted from 1."""

    outcome: TextDocument | str
    """The document, or why there is none."""


def check_text_field(name: str) -> str:
    """Return the name of the field that holds the text.

    Raises:
        InputError: It is empty, too long or not printable.
    """
    if not 1 <= len(name) <= LONGEST_FIELD or not name.isprintable():
        raise InputError(
            f"text_field must have 1 to {LONGEST_FIELD} printable characters, got "
            f"{name[:SHOWN]!a}. Name the field of the JSON lines that holds the text."
        )
    return name


def read_json_lines(
    content: Readable, path: str, text_field: str, limits: UploadLimits
) -> Iterator[Line]:
    """Yield what becomes of each line that is not blank.

    Args:
        content: The file.
        path: Its relative path, which becomes the folder of its documents.
        text_field: Field that holds the text.
        limits: How many lines there may be, and what one may hold.

    Raises:
        InputError: There are too many lines; what was yielded before is good.
    """
    # Hashes instead of names: a million long names would take gigabytes.
    names: Counter[int] = Counter()
    most_bytes = min(limits.line_bytes, limits.file_bytes)
    for number, data in _lines(content, most_bytes):
        if number > limits.file_lines:
            raise InputError(
                f"A file may have at most {limits.file_lines:,} lines, got more; the rest was not "
                f"read. Split it."
            )
        try:
            if data is None:
                raise InputError(f"A line may have at most {most_bytes:,} bytes. Split it.")
            if data:
                _check_values(data, limits.line_values)
                yield Line(number, _document(data, path, text_field, number, names))
        except InputError as error:
            yield Line(number, str(error))


def _lines(content: Readable, most_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """Yield number and content of each line, None where it is too long.

    Blank lines are passed over many at once: of those that follow each other, the last one is
    yielded, as empty.
    """
    number, opened = 0, _OpenLine(most_bytes)
    while piece := content.read(READ_BYTES):
        place = piece.find(b"\n") + 1
        opened.add(piece[: place - 1] if place else piece)
        if not place:
            continue
        number += 1
        yield number, opened.close()
        while True:
            beyond = BLANK.match(piece, place).end()  # type: ignore[union-attr]  # always matches
            if num_blank := piece.count(b"\n", place, beyond):
                number += num_blank
                yield number, b""
                place = piece.rfind(b"\n", place, beyond) + 1
            end = piece.find(b"\n", beyond)
            if end < 0:
                break
            number += 1
            yield number, piece[place:end] if end - place <= most_bytes else None
            place = end + 1
        opened.add(piece[place:])
    if (rest := opened.close()) != b"":
        yield number + 1, rest


class _OpenLine:
    """A line as far as it was read; of one that is too long, nothing is kept."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._num_bytes = 0
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        self._num_bytes += len(piece)
        if self._num_bytes <= self._most_bytes:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def close(self) -> bytes | None:
        """Return the line, empty where it is blank, None where it is too long; begin another."""
        line = b"".join(self._pieces) if self._num_bytes <= self._most_bytes else None
        self._num_bytes = 0
        self._pieces.clear()
        return b"" if line is not None and line.isspace() else line


def _check_values(data: bytes, most_values: int) -> None:
    """Refuse what takes long, and much memory, to parse.

    Raises:
        InputError: The line holds too many values.
    """
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) <= most_values:
        return
    # Text may hold any number of these characters.
    tokens = sum(1 for _ in islice(STRING_OR_MARK.finditer(data), most_values + 1))
    if tokens > most_values:
        raise InputError(
            f"A line may hold at most {most_values:,} names and values, got more. "
            f"Write one document per line."
        )


def _document(
    data: bytes, path: str, text_field: str, number: int, names: Counter[int]
) -> TextDocument:
    values = _object(data)
    text = values.get(text_field)
    if not isinstance(text, str):
        found = ", ".join(ascii(key[:SHOWN]) for key in islice(values, 8)) or "none"
        raise InputError(
            f"It must have a text in the field {text_field!r}, got the fields {found}. "
            f"Name the right field beside the upload."
        )
    try:
        num_bytes = len(text.encode())
    except UnicodeEncodeError:
        raise InputError(
            "Its text holds half of a surrogate pair, which is no character. Write the file again."
        ) from None
    check_size(num_bytes, "Its text")
    check_text(text, "Its text")
    name = _name(values, number, names)
    return TextDocument(path=check_relative_path(f"{path}/{name}"), text=text, encoding="utf-8")


def _object(data: bytes) -> dict[str, Any]:
    try:
        values = DECODER.decode(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(
            f"It is not UTF-8 ({error.reason} at byte {error.start}). Save the file as UTF-8."
        ) from None
    except RecursionError:
        raise InputError("It is nested too deep. Write one flat object per line.") from None
    except ValueError as error:
        raise InputError(
            f"It is not JSON ({str(error)[:200]}). Write one object per line."
        ) from None
    if not isinstance(values, dict):
        raise InputError(
            f"It must be an object with a text, got {type(values).__name__}. Write "
            f'{{"text": "..."}}.'
        )
    return values


def _name(values: dict[str, Any], number: int, names: Counter[int]) -> str:
    """Return a name for a document that no other line of the file has."""
    path = values.get("path")
    if isinstance(path, str) and path.strip():
        name = check_relative_path(path)
    else:
        given = next(filter(None, (_text_of(values.get(field)) for field in NAME_FIELDS)), "")
        name = _cut(UNSAFE.sub("_", given).strip(" .")) or f"line-{number:06d}"
    if not re.search(r"\.[A-Za-z]{1,5}$", name):
        name += ".txt"
    names[hash(name)] += 1
    if (count := names[hash(name)]) > 1:
        stem, dot, ending = name.rpartition(".")
        name = f"{stem} ({count}){dot}{ending}"
    return name


def _text_of(value: object) -> str:
    is_plain = isinstance(value, str | int) and not isinstance(value, bool)
    return str(value)[: 4 * NAME_BYTES] if is_plain else ""


def _cut(name: str) -> str:
    return name.encode("utf-8", "replace")[:NAME_BYTES].decode("utf-8", "ignore").rstrip(" .")
