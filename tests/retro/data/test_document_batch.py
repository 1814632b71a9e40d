"""Texts are written beside the documents first, and take their places later, once."""

import errno
from pathlib import Path

import pytest

from retro.data.document_batch import (
    INCOMING_NAME,
    IncomingDocument,
    publish_documents,
    stage_documents,
)
from retro.data.documents import DOCUMENTS_NAME, stored_documents
from retro.data.splits import read_sources
from retro.errors import ArtifactMissingError, DiskFullError, InputError

LONG = "/".join(["\U0001d538" * 60] * 17)
"""Of 1,036 characters, each of four bytes."""


def new(path: str, text: str = "text", name: str = "") -> IncomingDocument:
    return IncomingDocument(
        path=path, name=name or path.replace("/", "-")[:99], content=text.encode()
    )


def store(folder: Path, *documents: IncomingDocument) -> list[InputError | None]:
    problems = stage_documents(folder, documents)
    chosen = [
        (one.path, one.name)
        for one, problem in zip(documents, problems, strict=True)
        if problem is None
    ]
    assert publish_documents(folder, chosen) == [path for path, _ in chosen]
    return problems


def waiting(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / INCOMING_NAME).iterdir())


def text_of(folder: Path, path: str) -> str:
    return (folder / DOCUMENTS_NAME / path).read_text()


def test_nothing_takes_its_place_before_it_is_told_to(tmp_path: Path) -> None:
    store(tmp_path, new("a.txt", "old"))

    stage_documents(tmp_path, [new("a.txt", "new", "1"), new("b/c.txt", "more", "2")])
    assert (waiting(tmp_path), stored_documents(tmp_path)) == (["1", "2"], ["a.txt"])
    assert text_of(tmp_path, "a.txt") == "old"

    assert publish_documents(tmp_path, [("a.txt", "1"), ("b/c.txt", "2")]) == ["a.txt", "b/c.txt"]
    assert (text_of(tmp_path, "a.txt"), text_of(tmp_path, "b/c.txt")) == ("new", "more")
    assert waiting(tmp_path) == []


def test_moving_a_second_time_moves_nothing_that_came_later(tmp_path: Path) -> None:
    store(tmp_path, new("a.txt", "ours", "1"))
    store(tmp_path, new("a.txt", "theirs", "2"))

    assert publish_documents(tmp_path, [("a.txt", "1")]) == ["a.txt"]

    assert text_of(tmp_path, "a.txt") == "theirs"


def test_a_corpus_that_was_deleted_does_not_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    stage_documents(folder, [new("a/b.txt", name="1")])
    folder.rename(tmp_path / "trash")

    assert publish_documents(folder, [("a/b.txt", "1")]) == ["a/b.txt"]

    assert not folder.exists()


@pytest.mark.parametrize(
    ("paths", "taken"),
    [
        (["a", "a/b"], ["a"]),
        (["a/b", "a"], ["a"]),
        (["old/x"], ["old/x"]),
        (["folder"], ["folder"]),
        (["empty"], []),
        (["a", "b/c", "b/d/e"], []),
    ],
)
def test_a_file_and_a_folder_cannot_have_one_name(
    tmp_path: Path, paths: list[str], taken: list[str]
) -> None:
    store(tmp_path, new("old"), new("folder/file"))
    (tmp_path / DOCUMENTS_NAME / "empty" / "deeper").mkdir(parents=True)

    problems = store(tmp_path, *(new(path) for path in paths))

    found = [path for path, problem in zip(paths, problems, strict=True) if problem is not None]
    assert found == taken
    assert all("the same name" in str(problem) for problem in problems if problem)
    expected = {"old", "folder/file", *paths} - set(taken)
    assert stored_documents(tmp_path) == sorted(expected)


def test_bad_paths_do_not_stop_the_others(tmp_path: Path) -> None:
    problems = store(tmp_path, new("../x"), new("good"), new(LONG, name="1"))

    assert stored_documents(tmp_path) == ["good"]
    assert "must stay inside" in str(problems[0])
    assert "at most 1024 characters" in str(problems[2])
    within = store(tmp_path, new(LONG[:1024], name="2"), new("fine"))
    assert "short enough for the system of the server" in str(within[0])
    assert stored_documents(tmp_path) == ["fine", "good"]


def test_what_is_in_the_way_later_keeps_a_text_waiting(tmp_path: Path) -> None:
    stage_documents(tmp_path, [new("a", name="1"), new("b/c", name="2"), new("d", name="3")])
    (tmp_path / DOCUMENTS_NAME / "a" / "x").mkdir(parents=True)
    (tmp_path / DOCUMENTS_NAME / "b").rmdir()
    (tmp_path / DOCUMENTS_NAME / "b").write_text("a file now")

    assert publish_documents(tmp_path, [("a", "1"), ("b/c", "2"), ("d", "3")]) == ["d"]

    assert waiting(tmp_path) == ["1", "2"]


def test_a_full_disk_leaves_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    write = Path.write_bytes

    def fill_up(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "no space")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fill_up)

    with pytest.raises(DiskFullError):
        stage_documents(tmp_path, [new(f"{number}.txt") for number in range(5)])

    assert waiting(tmp_path) == []


@pytest.mark.parametrize("can_link", [True, False])
def test_a_document_of_another_corpus_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_link: bool
) -> None:
    source = tmp_path / "source.txt"
    source.write_text("shared")
    if not can_link:

        def refuse(*_: object) -> None:
            raise OSError(errno.EXDEV, "another device")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
    store(tmp_path, IncomingDocument(path="a.txt", name="1", content=source))

    assert text_of(tmp_path, "a.txt") == "shared"
    assert (tmp_path / DOCUMENTS_NAME / "a.txt").samefile(source) is can_link
    gone = IncomingDocument(path="b.txt", name="2", content=tmp_path / "gone.txt")
    with pytest.raises(ArtifactMissingError, match=r"no document 'b.txt' on the disk"):
        stage_documents(tmp_path, [new("c.txt"), gone])
    assert waiting(tmp_path) == []


def test_the_documents_of_a_build_can_be_named(tmp_path: Path) -> None:
    store(tmp_path, *(new(path) for path in ("b", "a", "stray")))

    assert [source.path for source in read_sources(tmp_path)] == ["a", "b", "stray"]
    named = read_sources(tmp_path, documents={"b": 1, "a": 2}.keys())
    assert [source.path for source in named] == ["a", "b"]
    with pytest.raises(ArtifactMissingError, match=r"that of 'x' is not\. Upload"):
        read_sources(tmp_path, documents=["a", "x"])
    with pytest.raises(ArtifactMissingError, match=r"that of 'x' is not, and those of 2 others"):
        read_sources(tmp_path, documents=["z", "x", "y", "a"])
    with pytest.raises(InputError, match="at least one document"):
        read_sources(tmp_path, documents=[])
