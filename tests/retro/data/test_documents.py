"""Reading, refusing and keeping documents."""

import os
import sys
from pathlib import Path

import pytest

from retro.data.documents import (
    LARGEST_DOCUMENT_BYTES,
    SkippedFile,
    TextDocument,
    check_relative_path,
    check_size,
    decode_text,
    read_folder,
    read_stored,
    store_document,
    stored_documents,
)
from retro.data.samples import sample_documents
from retro.errors import ArtifactMismatchError, ArtifactMissingError, InputError

TEXT = "Caf\u00e9 \u4e2d\u6587 \U0001f600\r\nline\rend\n"


@pytest.mark.parametrize(
    ("data", "encoding", "noted"),
    [
        (TEXT.encode(), "utf-8", False),
        (b"\xef\xbb\xbf" + TEXT.encode(), "utf-8", False),
        (b"\xff\xfe" + TEXT.encode("utf-16-le"), "utf-16", True),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "utf-16", True),
        (b"\xff\xfe\0\0" + TEXT.encode("utf-32-le"), "utf-32", True),
    ],
)
def test_unicode_is_recognised(data: bytes, encoding: str, noted: bool) -> None:
    document = decode_text(data, "a.txt")

    assert (document.text, document.encoding) == (TEXT, encoding)
    assert (document.note is not None) == noted


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_recognised_without_a_mark(encoding: str) -> None:
    text = "Only Western letters, caf\u00e9.\r\n" * 3

    document = decode_text(text.encode(encoding), "a.txt")

    assert document.text == text
    assert document.note == "read as UTF-16 without a byte-order mark"


def test_latin1_is_accepted_with_a_note() -> None:
    document = decode_text("d\u00e9j\u00e0 vu".encode("latin-1"), "a.txt")

    assert document.text == "d\u00e9j\u00e0 vu"
    assert document.note == "read as Latin-1"


def test_curly_quotes_of_windows_are_read_as_quotes() -> None:
    document = decode_text(b"he said \x93yes\x94", "a.txt")

    assert document.text == "he said \u201cyes\u201d"
    assert document.note == "read as Windows-1252"


def test_one_damaged_byte_does_not_turn_utf8_into_latin1() -> None:
    document = decode_text("\u00e9\u00e8\u4e2d\u6587".encode() * 10 + b"\xff.", "a.txt")

    assert document.text == "\u00e9\u00e8\u4e2d\u6587" * 10 + "\ufffd."
    assert document.note == "1 places that are not UTF-8 were replaced"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "a.txt is empty"),
        (b" \n\t \r\n", "only white space"),
        (b"\xef\xbb\xbf", "only white space"),
        (b"text\0more", "byte 0 at position 4"),
        (bytes(range(1, 9)) * 20 + b"text", r"not text \(160 control characters in 164\)"),
        (b"\x89PNG\r\n", "a PNG image"),
        (b"%PDF-1.4 words", "a PDF file"),
        (b"\xff\xfea", "starts like UTF-16-LE text but is not"),
        (b"\xff\xfe\x00\xd8a\x00", "starts like UTF-16-LE text but is not"),
    ],
)
def test_what_is_not_text_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        decode_text(data, "a.txt")


def test_a_file_that_is_too_large_is_refused() -> None:
    with pytest.raises(InputError, match=f"at most {LARGEST_DOCUMENT_BYTES} bytes"):
        check_size(LARGEST_DOCUMENT_BYTES + 1, "a.txt")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.txt", "a.txt"),
        ("./a//b/./c.md", "a/b/c.md"),
        ("folder\\file", "folder/file"),
        ("\u00e9t\u00e9/\u4e2d.txt", "\u00e9t\u00e9/\u4e2d.txt"),
        ("a...b/~c", "a...b/~c"),
    ],
)
def test_paths_are_normalised(path: str, expected: str) -> None:
    assert check_relative_path(path) == expected


@pytest.mark.parametrize(
    "path",
    [
        "", ".", "//", " ", "/etc/passwd", "C:\\x.txt", "\\\\host\\share", "..", "a/../b",
        "../../x",
        "a/.. /b", ".git/config", "a/.hidden", "__MACOSX/a", "a\0b", "a\nb", "\u202etxt.exe",
        "\ud800",
        "x" * 4096, "x" * 241, "CON", "a/nul.txt", "com1.md",
    ],
)  # fmt: skip
def test_paths_that_are_no_place_in_a_folder_are_refused(path: str) -> None:
    with pytest.raises(InputError) as caught:
        check_relative_path(path)

    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()


def test_documents_come_back_character_for_character(tmp_path: Path) -> None:
    document = TextDocument(path="a/b.txt", text=TEXT, encoding="utf-8")

    assert store_document(tmp_path, document) == len(TEXT.encode())

    assert read_stored(tmp_path, "a/b.txt") == TEXT
    assert stored_documents(tmp_path) == ["a/b.txt"]


def test_a_document_cannot_leave_the_corpus(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="stay inside"):
        store_document(tmp_path, TextDocument(path="../x", text="t", encoding="utf-8"))

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a")])
def test_a_file_and_a_folder_cannot_share_a_name(tmp_path: Path, first: str, second: str) -> None:
    store_document(tmp_path, TextDocument(path=first, text="kept", encoding="utf-8"))

    with pytest.raises(InputError, match="would have the same name"):
        store_document(tmp_path, TextDocument(path=second, text="t", encoding="utf-8"))

    assert stored_documents(tmp_path) == [first]
    assert read_stored(tmp_path, first) == "kept"


def test_missing_and_damaged_documents_are_named(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "bad.txt").write_bytes(b"\xff")

    with pytest.raises(ArtifactMissingError, match=r"no document 'gone\.txt'"):
        read_stored(tmp_path, "gone.txt")
    with pytest.raises(ArtifactMismatchError, match=r"bad\.txt is damaged \(not UTF-8 at byte 0"):
        read_stored(tmp_path, "bad.txt")


def test_a_folder_gives_its_texts_and_the_reasons_for_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "b" / ".hidden").mkdir(parents=True)
    (folder / "b" / ".hidden" / "x.txt").write_text("x")
    (folder / "b" / "deep.md").write_text("deep")
    (folder / "a.txt").write_bytes(b"one\r\ntwo")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "picture.txt").write_bytes(b"\x89PNG\0")
    (folder / ".profile").write_text("x")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "inside.txt").symlink_to(folder / "a.txt")
    (folder / "broken.txt").symlink_to(folder / "gone.txt")
    (folder / "up").symlink_to(tmp_path)
    skipped: list[SkippedFile] = []

    documents = list(read_folder(folder, skipped.append))

    assert [(document.path, document.text) for document in documents] == [
        ("a.txt", "one\r\ntwo"),
        ("b/deep.md", "deep"),
        ("inside.txt", "one\r\ntwo"),
    ]
    reasons = {file.path: file.reason for file in skipped}
    assert set(reasons) == {
        ".profile", "b/.hidden", "broken.txt", "empty.txt", "link.txt", "picture.txt", "up",
    }  # fmt: skip
    assert "link out of its folder" in reasons["link.txt"]
    assert "Hidden" in reasons["b/.hidden"]
    assert "No such file" in reasons["broken.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_a_pipe_does_not_hang_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    skipped: list[SkippedFile] = []

    assert list(read_folder(tmp_path, skipped.append)) == []

    assert "not a regular file" in skipped[0].reason


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'nowhere' must be a folder"):
        list(read_folder(tmp_path / "nowhere", lambda _: None))


def test_the_sample_has_one_document_per_topic() -> None:
    documents = list(sample_documents("python-docs"))

    assert len(documents) > 50
    assert all(check_relative_path(document.path) == document.path for document in documents)
    with pytest.raises(InputError, match="'python-docs', got 'nothing'"):
        list(sample_documents("nothing"))
