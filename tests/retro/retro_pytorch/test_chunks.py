"""Raw chunk files: right rows, no half-written files, clear reasons."""

import errno
import logging
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from numpy.typing import NDArray

from retro.errors import ArtifactMissingError, ConfigError, DiskFullError, InputError
from retro.retrieval import text_folder_to_chunks_, tokenize
from retro.retro_pytorch import chunks as memmap_chunks
from tests.small_bert import CLS, SEP, write_prose

pytestmark = pytest.mark.usefixtures("small_bert")
M = 8


def process(folder: Path, out: Path, **changes: Any) -> dict[str, int]:
    return text_folder_to_chunks_(
        **{
            "folder": folder,
            "chunks_memmap_path": str(out / "chunks.dat"),
            "seqs_memmap_path": str(out / "seq.dat"),
            "doc_ids_memmap_path": str(out / "doc_ids.dat"),
            "chunk_size": M,
            "seq_len": 4 * M,
            **changes,
        }
    )


def read(out: Path) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    chunks, seqs, documents = (
        np.fromfile(out / name, np.int32) for name in ("chunks.dat", "seq.dat", "doc_ids.dat")
    )
    return chunks.reshape(-1, M + 1), seqs, documents


def text_of(num_tokens: int) -> str:
    """Return a text that is so many tokens long without special ones."""
    return " ".join((["a", "(", ")"] * num_tokens)[:num_tokens])


def literal_rows(tokens: list[int]) -> list[list[int]]:
    """Cut a document token by token: every row is followed by the next row's first token."""
    rows = []
    for start in range(0, len(tokens) - 1, M):
        row = tokens[start : start + M + 1]
        rows.append(row + [0] * (M + 1 - len(row)))
    return rows


@pytest.mark.parametrize("num_tokens", [1, M - 2, M - 1, M, 2 * M - 1, 2 * M, 5 * M + 3])
def test_rows_are_the_document_between_cls_and_sep(tmp_path: Path, num_tokens: int) -> None:
    (tmp_path / "a.txt").write_text(text_of(num_tokens))
    tokens = tokenize(text_of(num_tokens))[0].tolist()
    assert len(tokens) == num_tokens + 2

    stats = process(tmp_path, tmp_path)

    chunks, seqs, documents = read(tmp_path)
    assert chunks.tolist() == literal_rows(tokens)
    assert stats == {"chunks": len(chunks), "docs": 1, "seqs": len(seqs)}
    assert (tokens[0], tokens[-1]) == (CLS, SEP)
    assert seqs.tolist() == list(range(0, len(chunks), 4))
    assert documents.tolist() == [0] * len(chunks)
    # No chunk holds the end token alone.
    assert not (np.isin(chunks[:, :M], (0, SEP)).all(axis=1)).any()


def test_several_documents_follow_in_the_order_of_their_paths(tmp_path: Path) -> None:
    folder = write_prose(tmp_path / "text", 12, 700)

    stats = process(folder, tmp_path)

    chunks, seqs, documents = read(tmp_path)
    paths = sorted(folder.rglob("*.txt"))
    assert stats["docs"] == len(paths) == 12
    assert len(documents) == len(chunks) == stats["chunks"]
    expected_seqs = []
    for number, path in enumerate(paths):
        own = np.flatnonzero(documents == number)
        assert chunks[own].tolist() == literal_rows(tokenize(path.read_text())[0].tolist())
        expected_seqs += own[::4].tolist()
    assert seqs.tolist() == expected_seqs
    # The token after a chunk is the first of the next one in its document.
    same = documents[1:] == documents[:-1]
    assert np.array_equal(chunks[:-1, -1][same], chunks[1:, 0][same])


def test_long_documents_in_pieces_give_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_prose(tmp_path / "text", 6)
    process(folder, tmp_path)
    whole = (tmp_path / "chunks.dat").read_bytes()
    monkeypatch.setattr("retro.retro_pytorch.encoder.PIECE_CHARACTERS", 100)
    monkeypatch.setattr(memmap_chunks, "CHARACTERS_AT_ONCE", 500)

    process(folder, tmp_path)

    assert (tmp_path / "chunks.dat").read_bytes() == whole


def test_text_that_spells_a_special_token_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the [SEP] and [PAD] tokens")

    process(tmp_path, tmp_path)

    chunks = read(tmp_path)[0]
    tokens = [token for row in chunks for token in row[:-1].tolist()]
    assert tokens.count(SEP) + (chunks[-1, -1] == SEP) == 1
    assert 0 not in tokens[: tokens.index(SEP) if SEP in tokens else None]


def test_encodings_are_recognised_and_others_skipped_with_a_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "a café in the sequence"
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "a.txt").write_text(text)
    (folder / "b.txt").write_bytes(text.encode("utf-16"))
    (folder / "c.txt").write_bytes(text.encode("latin-1"))
    (folder / "d.txt").write_bytes(b"\x7fELF\0\0\0")
    (folder / "e.txt").write_text("")
    (folder / ".f.txt").write_text("hidden")
    (folder / "g.txt").write_text("\u200b")
    (folder / "h.txt").mkdir()
    (folder / "i.txt").symlink_to("/etc/hostname")

    with caplog.at_level(logging.WARNING):
        stats = process(folder, tmp_path)

    chunks, _, documents = read(tmp_path)
    assert stats["docs"] == 3
    assert np.array_equal(chunks[documents == 0], chunks[documents == 1])
    assert np.array_equal(chunks[documents == 0], chunks[documents == 2])
    assert "c.txt: read as Latin-1" in caplog.text
    for name in ("d.txt", "e.txt", ".f.txt", "i.txt"):
        assert f"skipped {name}" in caplog.text


def test_only_matching_files_are_read(tmp_path: Path) -> None:
    for name in ("a.txt", "b.md", "sub/c.md"):
        (tmp_path / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / name).write_text("some text")

    assert process(tmp_path / "t", tmp_path)["docs"] == 1
    assert process(tmp_path / "t", tmp_path, glob="**/*.md")["docs"] == 2
    assert process(tmp_path / "t", tmp_path, glob="*.md")["docs"] == 1


@pytest.mark.parametrize("cap", ["max_chunks", "max_seqs"])
def test_a_cap_names_the_number_needed_and_changes_nothing(tmp_path: Path, cap: str) -> None:
    folder = write_prose(tmp_path / "text", 6, 500)
    stats = process(folder, tmp_path)
    needed = stats[{"max_chunks": "chunks", "max_seqs": "seqs"}[cap]]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    (folder / "0.txt").write_text("now the text is another " * 30)

    with pytest.raises(ConfigError, match=rf"{cap} must be at least (\d+) for .*, got 3") as error:
        process(folder, tmp_path, **{cap: 3})

    assert int(str(error.value).split("at least ")[1].split()[0]) > needed
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert after == before
    (folder / "0.txt").unlink()
    assert process(folder, tmp_path, **{cap: needed}) == stats


def test_a_full_disk_leaves_older_files_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_prose(tmp_path / "text", 3, 500)
    process(folder, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    written = memmap_chunks._write
    calls = []

    def fill(file: BinaryIO, rows: NDArray[np.int32]) -> None:
        calls.append(rows)
        if len(calls) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        written(file, rows)

    monkeypatch.setattr(memmap_chunks, "_write", fill)
    with pytest.raises(DiskFullError, match="no space left"):
        process(folder, tmp_path, chunk_size=2 * M)

    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert after == before


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    folder = write_prose(tmp_path / "text", 1, 300)
    (tmp_path / ".tmp-chunks.dat-0123abcd").write_bytes(b"half")
    (tmp_path / ".tmp-other.dat-0123abcd").write_bytes(b"of something else")

    process(folder, tmp_path)

    assert [path.name for path in tmp_path.glob(".tmp-*")] == [".tmp-other.dat-0123abcd"]


def test_wrong_arguments_are_refused_before_any_work(tmp_path: Path) -> None:
    folder = write_prose(tmp_path / "text", 2, 300)

    with pytest.raises(ConfigError, match="seq_len must be a multiple of chunk_size, got 20 and 8"):
        process(folder, tmp_path, seq_len=20)
    with pytest.raises(InputError, match=r"must be a folder, but there is none at .*nowhere"):
        process(tmp_path / "nowhere", tmp_path)
    with pytest.raises(InputError, match=r"files that match '\*\.rst', got none"):
        process(folder, tmp_path, glob="*.rst")
    for glob in ("/*.txt", ""):
        with pytest.raises(ConfigError, match="glob must be a pattern"):
            process(folder, tmp_path, glob=glob)
    with pytest.raises(ConfigError, match="must have its own path"):
        process(folder, tmp_path, seqs_memmap_path=tmp_path / "chunks.dat")
    with pytest.raises(ConfigError, match=r"seqs_memmap_path must be a path, got None"):
        process(folder, tmp_path, seqs_memmap_path=None)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"must be a folder that can be written to for x\.dat"):
        process(folder, tmp_path, chunks_memmap_path=tmp_path / "file" / "x.dat")
    with pytest.raises(ArtifactMissingError, match="RETRO_ENCODER=all-MiniLM-L6-v2"):
        process(folder, tmp_path, encoder=str(tmp_path / "no-encoder"))
    assert not (tmp_path / "chunks.dat").exists()


def test_a_folder_without_any_text_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "text"
    folder.mkdir()
    with pytest.raises(InputError, match="got none"):
        process(folder, tmp_path)
    (folder / "a.txt").write_bytes(b"\0\0\0")
    with pytest.raises(InputError, match=r"got none that can be read \(1 skipped"):
        process(folder, tmp_path)


def test_another_tokenizer_is_the_encoders(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Hello World")

    process(tmp_path, tmp_path, encoder="all-MiniLM-L6-v2")

    assert read(tmp_path)[0][0, :4].tolist() == [101, 7592, 2088, 102]
