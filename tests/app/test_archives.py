"""What a zip file says about itself is checked against where its data lies on the disk."""

import gzip
import io
import json
import random
import zipfile
from collections.abc import Iterable
from dataclasses import replace

import pytest

from app.services.upload_limits import UploadLimits
from app.services.upload_reading import Outcome, Refusal, UploadReader
from retro.data.documents import TextDocument
from tests.app.hostile.archives import DEFLATED, SIZES_FOLLOW, STORED, Entry, forge, zip64
from tests.app.real_app import LIMITS

WORDS = random.Random(1).randbytes(3_000).hex().encode()
GOOD = Entry(name="good.txt", text=b"good words")
FULL = 0xFFFFFFFF
DAMAGED = "It is damaged inside the zip file. Pack it again."


def read(
    data: bytes, limits: UploadLimits = LIMITS, path: str = "x.zip"
) -> tuple[list[str], dict[str, str]]:
    """Return the paths of the documents, and the reasons by path."""
    return sort(UploadReader(limits, "text").read(path, io.BytesIO(data)))


def sort(outcomes: Iterable[Outcome]) -> tuple[list[str], dict[str, str]]:
    taken, refused = [], {}
    for outcome in outcomes:
        if isinstance(outcome, TextDocument):
            taken.append(outcome.path)
        else:
            refused[outcome.path] = outcome.reason
    return taken, refused


def packed(members: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return made.getvalue()


def test_what_is_forged_without_a_lie_is_read() -> None:
    entries = (GOOD, Entry(name="b.txt", text=WORDS, method=STORED), Entry(name="folder/"))

    assert read(forge(*entries)) == (["good.txt", "b.txt"], {})
    # A program that unpacks itself begins with something else.
    assert read(forge(*entries, before=b"#!/bin/sh\n" * 9)) == (["good.txt", "b.txt"], {})


def test_one_member_that_is_listed_many_times_is_not_unpacked() -> None:
    taken, refused = read(forge(Entry(text=WORDS), repeat=9))

    assert taken == []
    assert refused == {
        "x.zip": "The files of a zip file must lie apart from each other, and 'a.txt' lies over "
        "'a.txt'. Pack it again."
    }


def test_a_member_inside_another_one_is_not_unpacked() -> None:
    inner = forge(Entry(name="inner.txt", text=WORDS))
    outer = Entry(name="outer.txt", text=inner, method=STORED)
    at = forge(outer).index(b"inner.txt") - 30

    taken, refused = read(forge(outer, Entry(name="inner.txt", text=WORDS, at=at)))

    assert taken == []
    assert "'inner.txt' lies over 'outer.txt'" in refused["x.zip"]


@pytest.mark.parametrize(
    "entry",
    [
        Entry(at=FULL),
        Entry(packed=50_000),
        Entry(packed=FULL, extra=zip64(2**62)),
        Entry(at=FULL, extra=zip64(2**64 - 1)),
        Entry(at=FULL, extra=zip64(2**63)),
    ],
    ids=["begins", "ends", "ends beyond 64 bits", "begins nowhere", "begins beyond 63 bits"],
)
def test_a_member_outside_of_its_archive_is_refused(entry: Entry) -> None:
    taken, refused = read(forge(GOOD, entry))

    assert taken == []
    assert refused["x.zip"].startswith("The files of a zip file must lie inside of it, and 'a.txt'")


def test_damage_is_told_apart() -> None:
    data = forge(GOOD)
    broken = {
        "(Bad magic number for central directory)": data.replace(b"PK\1\2", b"PK\1\3"),
        "(File is not a zip file)": data[:-1],
        "damaged inside the zip file": data.replace(b"PK\3\4", b"PK\3\3"),
        # The record at the end says that the list of files is larger than all.
        "(Bad offset for central directory)": data[:-10] + b"\xff" * 4 + data[-6:],
        # It says that the list begins elsewhere, and everything with it.
        "must lie inside of it": data[:-6] + b"\xff" * 4 + data[-2:],
    }

    for words, archive in broken.items():
        taken, refused = read(archive)
        assert taken == []
        assert [words in reason for reason in refused.values()] == [True]


def test_a_list_that_is_too_long_is_not_read() -> None:
    entries = [Entry(name=f"{number}.txt", comment=b"x" * 64_000) for number in range(18)]

    _, refused = read(forge(*entries))

    assert "the list of files in this one has 1.15 MB" in refused["x.zip"]


def test_sizes_are_believed_only_where_they_are_too_large() -> None:
    honest = read(packed((f"{number}.txt", WORDS) for number in range(9)))
    assert len(honest[0]) == 9

    claimed = read(forge(GOOD, Entry(unpacked=FULL, extra=zip64(2**60), flags=SIZES_FOLLOW)))
    assert claimed[0] == []
    assert "may unpack to at most 10 times its size, and this one of" in claimed[1]["x.zip"]
    assert "holds at least 1.15e+06 TB" in claimed[1]["x.zip"]

    # What is listed as small gives no more than that, and its sum is wrong.
    denied = read(forge(GOOD, Entry(text=WORDS * 9, unpacked=90)))
    assert denied == (["good.txt"], {"x.zip: a.txt": DAMAGED})


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (Entry(header_method=STORED), "Its method must be the same in its header and in the zip "
         "file's list, got 0 and 8. Pack it again."),
        (Entry(header_unpacked=7), "Its size must be the same in its header and in the zip file's "
         "list, got 7 and 9. Pack it again."),
        (Entry(crc=1), DAMAGED),
        (Entry(flags=1), "It is encrypted. Pack it without a password."),
        (Entry(method=12), "It must be stored (method 0) or deflated (8), got the method 12. Pack "
         "it as an ordinary zip file."),
        (Entry(method=9), "It must be stored (method 0) or deflated (8), got the method 9. Pack "
         "it as an ordinary zip file."),
        (Entry(name="a.txt\0.exe"), "A file name must not hold control characters, got "
         "'a.txt\\x00.exe'. Rename it."),
    ],
    ids=["method", "size", "sum", "encrypted", "bzip2", "deflate64", "name"],
)  # fmt: skip
def test_a_member_that_is_left_out_has_its_reason(entry: Entry, reason: str) -> None:
    assert read(forge(entry, GOOD)) == (["good.txt"], {f"x.zip: {entry.name}": reason})


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_without_a_bound_on_memory_are_not_used(method: int) -> None:
    taken, refused = read(packed([("a.txt", WORDS)], method))

    assert taken == []
    assert f"got the method {method}" in refused["x.zip: a.txt"]


@pytest.mark.parametrize(
    ("first", "second", "path"),
    [
        (("a.txt", b"one"), ("a.txt", b"two"), "a.txt"),
        (("a/b.txt", b"one"), ("a//./b.txt", b"two"), "a/b.txt"),
        (("a.txt", b"one"), ("a.txt.gz", gzip.compress(b"two")), "a.txt"),
        (("a.jsonl", b'{"text": "one", "id": "b"}'), ("a.jsonl/b.txt", b"two"), "a.jsonl/b.txt"),
    ],
    ids=["names", "spellings", "packed", "lines"],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_members_with_one_path_the_first_is_taken(
    first: tuple[str, bytes], second: tuple[str, bytes], path: str
) -> None:
    outcomes = list(UploadReader(LIMITS, "text").read("x.zip", io.BytesIO(packed([first, second]))))

    assert [getattr(outcome, "text", None) for outcome in outcomes] == ["one", None]
    assert isinstance(outcomes[1], Refusal)
    assert outcomes[1].path == path
    assert "has this path, and was taken. Rename one." in outcomes[1].reason


def test_of_two_lines_with_one_path_the_first_is_taken() -> None:
    rows = [{"id": 17}, {"id": 17}, {"path": "17 (2).txt"}, {"path": "a//b.md"}, {"path": "a/b.md"}]
    data = "\n".join(json.dumps({"text": "x", **row}) for row in rows).encode()

    taken, refused = read(data, path="x.jsonl")

    assert taken == ["x.jsonl/17.txt", "x.jsonl/17 (2).txt", "x.jsonl/a/b.md", "x.jsonl/a/b (2).md"]
    assert list(refused) == ["x.jsonl/17 (2).txt"]


def test_a_document_does_not_lie_too_deep() -> None:
    deep = "/".join("d" * 33) + "/a.txt"

    taken, refused = read(packed([(deep, b"deep"), (deep[2:], b"just so")]))

    assert taken == [deep[2:]]
    assert refused[deep] == "A document may lie in at most 32 folders, got 33. Move it up."


def test_what_came_before_the_limit_is_kept() -> None:
    bomb = gzip.compress(b" " * 3_000_000)
    data = packed([("a.txt", b"before"), ("bomb.gz", bomb), ("b.txt", b"after")])

    taken, refused = read(data)

    assert taken == ["a.txt"]
    assert "at most 10 times its size" in refused["x.zip"]


def test_what_is_free_is_free_once_in_a_request() -> None:
    reader = UploadReader(replace(LIMITS, zip_free_bytes=150_000), "text")
    bomb = gzip.compress(b" x" * 50_000)

    outcomes = [sort(reader.read(f"{number}.txt.gz", io.BytesIO(bomb))) for number in range(3)]

    assert [taken for taken, _ in outcomes] == [["0.txt"], [], []]
    assert "at most 10 times its size" in outcomes[1][1]["1.txt.gz"]
    assert sort(reader.read("last.gz", io.BytesIO(gzip.compress(b"small"))))[0] == ["last"]


@pytest.mark.parametrize("seed", range(4))
def test_damage_at_any_place_has_a_reason(seed: int) -> None:
    rng = random.Random(seed)
    whole = forge(GOOD, Entry(text=WORDS[:200], method=STORED), Entry(name="c.jsonl", text=b"{}"),
                  Entry(name="d.txt.gz", text=gzip.compress(b"d", mtime=0), method=DEFLATED,
                        extra=zip64(1)))  # fmt: skip
    num_refused = 0
    for _ in range(250):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.choice([0, 1, 8, 0x7F, 0xFF, rng.randrange(256)])
        if rng.random() < 0.1:
            data = data[: rng.randrange(len(data))]
        _, refused = read(bytes(data))
        num_refused += bool(refused)
        assert all(reason.endswith(".") and len(reason) < 1_000 for reason in refused.values())
    assert num_refused > 100
