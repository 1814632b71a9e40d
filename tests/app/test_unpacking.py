"""Gzip files and budgets: what is given is counted, and so is the time that it takes."""

import gzip
import io
import random
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.services.unpacking import Budget, Gunzip, RefusedError, Sent, Spare
from app.services.upload_limits import UploadLimits
from app.services.upload_reading import UploadReader
from retro.data.documents import TextDocument
from tests.app.hostile.archives import Entry, forge
from tests.app.real_app import LIMITS

MEMBER = gzip.compress(b"some words\n" * 400_000, mtime=0)
NAMED = b"\x1f\x8b\x08\x08\0\0\0\0\0\3"
"""The beginning of a member; its name follows, up to a zero."""


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def unpack(packed: bytes, num_bytes: int = 1 << 20) -> bytes:
    unpacked = Gunzip(io.BytesIO(packed))
    return b"".join(iter(lambda: unpacked.read(num_bytes), b""))


def test_gzip_files_are_read_as_the_standard_library_reads_them() -> None:
    rng = random.Random(2)
    for _ in range(60):
        parts = [
            rng.choice([b"", b"ab" * rng.randrange(400_000), rng.randbytes(rng.randrange(70_000))])
            for _ in range(rng.randrange(1, 5))
        ]
        packed = b"".join(map(gzip.compress, parts)) + b"\0" * rng.choice([0, 5, 40_000])

        assert unpack(packed, rng.choice([10_000, 1 << 20])) == gzip.decompress(packed)


def test_no_read_gives_more_than_was_asked_for() -> None:
    unpacked = Gunzip(io.BytesIO(MEMBER * 2))

    sizes = [len(piece) for piece in iter(lambda: unpacked.read(1_000_000), b"")]

    assert sizes == [1_000_000] * 8 + [800_000]


@pytest.mark.parametrize(
    "packed",
    [
        MEMBER + b"\0" * 8_000_000 + MEMBER,
        NAMED + b"n" * 8_000_000 + b"\0" + MEMBER[10:],
        gzip.compress(b"") * 50_000 + MEMBER,
    ],
    ids=["zeros between members", "a long name", "empty members"],
)
def test_what_gives_nothing_costs_next_to_nothing(packed: bytes) -> None:
    began = time.thread_time()

    assert unpack(packed).startswith(b"some words")

    assert time.thread_time() - began < 0.5


def test_time_is_counted_while_nothing_comes_out() -> None:
    clock = Clock()
    limits = replace(LIMITS, seconds_per_mb=2.0, free_seconds=3.0)
    budget = Budget(limits, 500_000, Spare(limits), clock)
    sent = Sent(io.BytesIO(b"x" * 100), budget)

    clock.now = 4.0
    assert sent.read(10) == b"x" * 10
    clock.now = 4.1

    for read_or_count in (sent.read, budget.spend):
        with pytest.raises(RefusedError, match="500 KB may take at most 4 seconds to read"):
            read_or_count(10)


def test_what_others_do_takes_no_time_from_a_file() -> None:
    clock = Clock()
    limits = replace(LIMITS, seconds_per_mb=0.0, free_seconds=1.0)
    budget = Budget(limits, 1, Spare(limits), clock)

    with budget.paused():
        clock.now = 50.0
    clock.now += 0.9
    budget.check_time()

    clock.now += 0.2
    with pytest.raises(RefusedError):
        budget.check_time()


def test_storing_a_document_takes_no_time_from_its_file() -> None:
    limits = replace(LIMITS, seconds_per_mb=0.0, free_seconds=0.3)
    found = []
    for outcome in outcomes(limits, "a.jsonl", b'{"text": "one"}\n{"text": "two"}'):
        found.append(outcome)
        began = time.thread_time()
        while time.thread_time() - began < 0.4:
            pass

    assert found == ["a.jsonl/line-000001.txt", "a.jsonl/line-000002.txt"]


def test_what_is_spare_is_shared_by_the_files_of_a_request() -> None:
    clock = Clock()
    limits = replace(LIMITS, seconds_per_mb=1.0, free_seconds=5.0, zip_free_bytes=100)
    spare = Spare(limits)
    for used, left in ((3.0, 3.0), (0.5, 3.0), (9.0, 0.0)):
        budget = Budget(limits, 1_000_000, spare, clock)
        clock.now += used
        budget.settle()
        assert spare.seconds == left

    budget = Budget(limits, 5, spare, clock)
    budget.spend(5 * LIMITS.zip_ratio + 40)
    budget.settle()
    assert spare.num_bytes == 60


def outcomes(limits: UploadLimits, path: str, data: bytes) -> Iterator[str]:
    for outcome in UploadReader(limits, "text").read(path, io.BytesIO(data)):
        yield outcome.path if isinstance(outcome, TextDocument) else outcome.reason


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("a.txt.gz", MEMBER),
        ("a.jsonl", b'{"text": 1}\n' * 200_000),
        ("a.zip", forge(*[Entry(name=f"{n}.txt", text=b"x" * 90_000) for n in range(9)])),
    ],
    ids=["gzip", "lines", "zip"],
)
def test_a_file_that_takes_too_long_is_left(path: str, data: bytes) -> None:
    limits = replace(LIMITS, zip_ratio=1000, seconds_per_mb=0.0, free_seconds=0.0)
    began = time.thread_time()

    *_, last = outcomes(limits, path, data)

    assert "may take at most 0 seconds to read, and this one takes longer" in last
    assert time.thread_time() - began < 1
