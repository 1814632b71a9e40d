"""JSON Lines: a document on each line, under the name that the line gives it."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from app.services.unpacking import Counted
from retro.data.documents import TextDocument, check_relative_path, check_size, check_text
from retro.errors import InputError

SUFFIXES = (".jsonl", ".ndjson")
NAME_FIELDS = ("id", "title")
LONGEST_FIELD = 200
NAME_BYTES = 120
SHOWN = 60
UNSAFE = re.compile(r"[\\/:\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]+")


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
    content: BinaryIO | Counted, path: str, text_field: str, limit: int
) -> Iterator[Line]:
    """Yield what becomes of each line that is not empty.

    Args:
        content: The file.
        path: Its relative path, which becomes the folder of its documents.
        text_field: Field that holds the text.
        limit: Most bytes of a line.
    """
    names: Counter[str] = Counter()
    number = 0
    while data := content.readline(limit + 1):
        number += 1
        data = _to_the_end(content, data, limit)
        if len(data) > limit:
            yield Line(number, f"A line may have at most {limit:,} bytes. Split it.")
        elif data.strip():
            try:
                yield Line(number, _document(data, path, text_field, number, names))
            except InputError as error:
                yield Line(number, str(error))


def _to_the_end(content: BinaryIO | Counted, data: bytes, limit: int) -> bytes:
    """Return the whole line, or its beginning where it is too long; the rest is passed over."""
    pieces, length = [data], len(data)
    while not pieces[-1].endswith(b"\n"):
        piece = content.readline(limit + 1)
        if not piece:
            break
        length += len(piece)
        if length <= limit:
            pieces.append(piece)
        else:
            pieces[1:] = [piece]
    return b"".join(pieces) if length <= limit else b"x" * (limit + 1)


def _document(
    data: bytes, path: str, text_field: str, number: int, names: Counter[str]
) -> TextDocument:
    values = _object(data)
    text = values.get(text_field)
    if not isinstance(text, str):
        found = ", ".join(sorted(ascii(str(key)[:SHOWN]) for key in values)[:8]) or "none"
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
    name = check_relative_path(_name(values, number, names))
    return TextDocument(path=check_relative_path(f"{path}/{name}"), text=text, encoding="utf-8")


def _object(data: bytes) -> dict[str, Any]:
    try:
        values = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
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


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _name(values: dict[str, Any], number: int, names: Counter[str]) -> str:
    """Return a name for a document that no other line of the file has."""
    name = values.get("path")
    if not isinstance(name, str) or not name.strip():
        given = next(filter(None, (_text_of(values.get(field)) for field in NAME_FIELDS)), "")
        name = _cut(UNSAFE.sub("_", given).strip(" .")) or f"line-{number:06d}"
    if not re.search(r"\.[A-Za-z]{1,5}$", name):
        name += ".txt"
    names[name] += 1
    if names[name] > 1:
        stem, dot, ending = name.rpartition(".")
        name = f"{stem} ({names[name]}){dot}{ending}"
    return name


def _text_of(value: object) -> str:
    is_plain = isinstance(value, str | int) and not isinstance(value, bool)
    return str(value)[: 4 * NAME_BYTES] if is_plain else ""


def _cut(name: str) -> str:
    return name.encode("utf-8", "replace")[:NAME_BYTES].decode("utf-8", "ignore").rstrip(" .")
