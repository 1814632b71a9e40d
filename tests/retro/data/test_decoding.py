"""Text that is longer than one piece is read as it would be in one go."""

import time

import pytest

from retro.data.decoding import PIECE, check_text, decode
from retro.errors import InputError

MEGABYTE = 1 << 20


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_character_may_lie_in_two_pieces(encoding: str, shift: int) -> None:
    text = "x" * (PIECE - 8 + shift) + "\u6f22\u5b57\U0001f600" * 9 + "y" * PIECE

    found, _, _ = decode(text.encode(encoding), "a.txt")

    assert found == text


@pytest.mark.parametrize(
    ("before", "bad"),
    [(PIECE, b"\0\xdcx\0"), (PIECE // 2 - 1, b"\x3d\xd8x\0")],
    ids=["in the third piece", "in two pieces"],
)
def test_the_place_of_an_error_is_that_in_the_file(before: int, bad: bytes) -> None:
    data = b"\xff\xfe" + b"x\0" * before + bad

    with pytest.raises(InputError, match=f"at byte {2 * before}[)]. Save it as UTF-8"):
        decode(data, "a.txt")


@pytest.mark.parametrize(
    ("data", "encoding", "text"),
    [
        (b"x" * PIECE + b"caf\xe9", "latin-1", "x" * PIECE + "caf\xe9"),
        (b"x" * PIECE + b"caf\xe9 \x80", "windows-1252", "x" * PIECE + "caf\xe9 \u20ac"),
        (b"x" * PIECE + b"caf\xe9 \x81", "latin-1", "x" * PIECE + "caf\xe9 \x81"),
        ("\u00e9".encode() * PIECE + b"\xe9", "utf-8", "\u00e9" * PIECE + "\ufffd"),
    ],
    ids=["latin-1", "windows", "neither", "damaged"],
)
def test_old_encodings_are_told_apart_in_all_pieces(data: bytes, encoding: str, text: str) -> None:
    found, told, note = decode(data, "a.txt")

    assert (found, told) == (text, encoding)
    assert note is not None


def test_all_pieces_are_looked_at() -> None:
    check_text(" " * PIECE + "a", "a.txt")
    with pytest.raises(InputError, match="only white space"):
        check_text(" \x01" * PIECE, "a.txt")
    with pytest.raises(InputError, match=f"{PIECE + 3} control characters in {3 * PIECE + 3}"):
        check_text("a" * 2 * PIECE + "\x01" * (PIECE + 3), "a.txt")
    with pytest.raises(InputError, match="1 control characters"):
        check_text("a" * 2 * PIECE + "\0", "a.txt")


def test_what_is_no_text_costs_little() -> None:
    began = time.thread_time()

    decode(b"\xff" * (16 * MEGABYTE), "a.txt")
    with pytest.raises(InputError):
        check_text("\x01" * (16 * MEGABYTE), "a.txt")

    assert time.thread_time() - began < 1.2
