"""Lines are read in pieces; empty ones, long ones and full ones cost next to nothing."""

import gzip
import io
import json
import random
import time
import tracemalloc
from dataclasses import replace

import pytest

from app.services.json_lines import read_json_lines
from app.services.unpacking import READ_BYTES
from app.services.upload_limits import UploadLimits
from app.services.upload_reading import UploadReader
from retro.data.documents import TextDocument
from retro.errors import InputError

LIMITS = UploadLimits()
MEGABYTE = 1 << 20


def read(data: bytes, limits: UploadLimits = LIMITS) -> list[tuple[int, str]]:
    """Return number and text of each line, or the reason why it has none."""
    return [
        (line.number, getattr(line.outcome, "text", None) or str(line.outcome))
        for line in read_json_lines(io.BytesIO(data), "x.jsonl", "text", limits)
    ]


def row(text: str) -> bytes:
    return json.dumps({"text": text}).encode()


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_lines_are_counted_over_blank_ones_and_over_pieces(newline: bytes) -> None:
    rng = random.Random(4)
    rows: list[bytes] = []
    expected = []
    while sum(map(len, rows)) < 3 * READ_BYTES:
        text = rng.choice(["a", "word " * 5_000, "x" * rng.randrange(1, 700_000)])
        rows += [rng.choice([b"", b"  ", b"\t"])] * rng.choice([0, 0, 1, 40])
        rows.append(rng.choice([b"", b" "]) + row(text))
        expected.append((len(rows), text))
    for end in (b"", newline, newline * 3 + b"  "):
        assert read(newline.join(rows) + end) == expected


def test_a_line_at_the_border_of_a_piece_is_whole() -> None:
    for before in range(READ_BYTES - 20, READ_BYTES + 3):
        first = row("x" * (before - len(row(""))))
        assert [number for number, _ in read(first + b"\n" + row("second"))] == [1, 2]


def test_a_line_that_is_too_long_is_passed_over() -> None:
    limits = replace(LIMITS, line_bytes=1_500_000)
    long = row("x" * 5_000_000)
    fits = row("y" * (1_500_000 - len(row(""))))

    found = read(b"\n".join([row("a"), long, row("b"), fits, fits + b" ", row("c"), long]), limits)

    reason = "A line may have at most 1,500,000 bytes. Split it."
    assert [number for number, _ in found] == [1, 2, 3, 4, 5, 6, 7]
    assert [text for _, text in found if text[0] != "y"] == ["a", reason, "b", reason, "c", reason]


class OneLine:
    """A line of 60 MB, made while it is read."""

    def __init__(self) -> None:
        self._pieces = (b"x" * MEGABYTE for _ in range(60))

    def read(self, _num_bytes: int = READ_BYTES, /) -> bytes:
        return next(self._pieces, b"")


def test_of_a_line_that_is_too_long_nothing_is_kept() -> None:
    limits = replace(LIMITS, line_bytes=4 * MEGABYTE)
    tracemalloc.start()

    (line,) = read_json_lines(OneLine(), "x.jsonl", "text", limits)

    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "at most 4,194,304 bytes" in str(line.outcome)
    assert most < 12 * MEGABYTE


def test_a_line_that_is_too_long_may_be_short() -> None:
    limits = replace(LIMITS, file_bytes=40)

    found = read(b"\n".join([row("a"), row("x" * 30), row("b")]), limits)

    assert found == [(1, "a"), (2, "A line may have at most 40 bytes. Split it."), (3, "b")]


def test_there_are_not_too_many_lines() -> None:
    limits = replace(LIMITS, file_lines=4)
    fits = b"\n\n" + row("third") + b"\n" + row("fourth")

    assert [number for number, _ in read(fits, limits)] == [3, 4]
    assert [number for number, _ in read(fits + b"\n", limits)] == [3, 4]
    for more in (b"\n\n", b"\n" + row("fifth")):
        with pytest.raises(InputError, match="at most 4 lines, got more; the rest was not read"):
            read(fits + more, limits)


def test_documents_before_the_last_line_are_kept() -> None:
    data = gzip.compress(row("first") + b"\n" * 5)
    reader = UploadReader(replace(LIMITS, file_lines=4), "text")

    first, second = reader.read("x.jsonl.gz", io.BytesIO(data))

    assert isinstance(first, TextDocument)
    assert not isinstance(second, TextDocument)
    assert (
        second.reason
        == "A file may have at most 4 lines, got more; the rest was not read. Split it."
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gzip.compress(b"\n" * 40_000_000), "at most 1,000,000 lines"),
        (gzip.compress(b" \r\n" * 15_000_000), "at most 1,000,000 lines"),
        (gzip.compress(b" " * 15_000_000), "holds no lines"),
        (gzip.compress(b'{"text": "' + b"x" * 40_000_000), "at most 100 times its size"),
    ],
    ids=["newlines", "blank lines", "one blank line", "one line"],
)
def test_what_holds_nothing_costs_next_to_nothing(data: bytes, reason: str) -> None:
    assert len(data) < 50_000
    # Not all of it may be read for free.
    limits = replace(LIMITS, zip_free_bytes=15 * MEGABYTE)
    began = time.thread_time()

    (refusal,) = UploadReader(limits, "text").read("x.jsonl.gz", io.BytesIO(data))

    assert not isinstance(refusal, TextDocument)
    assert reason in refusal.reason
    assert time.thread_time() - began < 1


TOO_MANY = "A line may hold at most 100,000 names and values, got more."


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "x", "n": [' + b"[]," * (2 * MEGABYTE) + b"0]}", TOO_MANY),
        (b"{" + b",".join(b'"%x":0' % number for number in range(500_000)) + b"}", TOO_MANY),
        (b'"",' * (2 * MEGABYTE), TOO_MANY),
        (b'{"text": "' + b'\\"' * (4 * MEGABYTE) + b"," * 200_000, "It is not JSON (Unterminated"),
        (b'{"text": "x", "path": "' + b"p" * (8 * MEGABYTE) + b'"}', "at most 1024 characters"),
    ],
    ids=["lists", "names", "strings", "no end", "path"],
)
def test_a_full_line_is_not_parsed_for_long(line: bytes, reason: str) -> None:
    began = time.thread_time()

    ((number, found),) = read(line)

    assert number == 1
    assert reason in found
    assert time.thread_time() - began < 1


def test_text_may_hold_any_number_of_marks() -> None:
    text = '[{"a", "b"}],\\' * 60_000

    assert read(row(text)) == [(1, text)]
