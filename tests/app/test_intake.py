"""Packed files, a document per line, duplicates: each is accepted or gets a reason."""

import gzip
import io
import json
import random
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.format import size
from app.services.services import Services
from app.services.upload_reading import MOST_LINE_REASONS
from app.services.uploads import UploadedFile, UploadService
from retro.errors import InputError

BIG = 200_000
HOSTILE_LINES: dict[bytes, str] = {
    b"not json": "not JSON",
    b"[1, 2]": "must be an object",
    b'"text"': "must be an object",
    b"null": "must be an object",
    b'{"other": "x"}': "the fields 'other'",
    b'{"text": 5}': "must have a text",
    b'{"text": null}': "must have a text",
    b'{"text": "   "}': "white space",
    b'{"text": ""}': "empty",
    b'{"text": "a\\u0000b"}': "not text",
    b'{"text": "a \\ud800 b"}': "half of a surrogate pair",
    b'{"text": "x", "n": NaN}': "NaN is no number",
    b'{"text": "x", "n": -Infinity}': "-Infinity is no number",
    b'{"text": "caf\xe9"}': "not UTF-8",
    b'{"text": "x", "path": "../../evil"}': "must stay inside its folder",
    b'{"text": "x", "path": "/etc/passwd"}': "must be relative",
    b'{"text": "x", "path": "a\\u0000b"}': "control characters",
    b'{"text": "x", "path": "a/\\u202etxt.exe"}': "control characters",
    b'{"text": "x", "path": "CON"}': "device name",
    b'{"text": "x", "path": "' + b"y" * 4096 + b'"}': "at most 1024 characters",
    b'{"text": "x", "path": ".hidden"}': "Hidden files",
    b"[" * 50_000: "nested too deep",
    b'{"text": "x", "n": ' + b"9" * 5_000 + b"}": "not JSON",
    b'{"text": "' + b"x" * BIG + b'"}': "at most 200,000 bytes",
}


@pytest.fixture
def corpus_id(services: Services) -> str:
    return str(services.corpora.create("notes").id)


def file(path: str, content: bytes | str) -> UploadedFile:
    data = content.encode() if isinstance(content, str) else content
    return UploadedFile(path=path, content=io.BytesIO(data))


def lines(*values: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def outcome(answer: dict[str, Any]) -> dict[str, str]:
    return {item["path"]: item["change"] for item in answer["accepted"]}


def reasons(answer: dict[str, Any]) -> dict[str, str]:
    return {item["path"]: item["reason"] for item in answer["skipped"]}


def stored(services: Services, corpus_id: str) -> dict[str, str]:
    root = services.home.corpus_dir(corpus_id) / "documents"
    return {
        path.relative_to(root).as_posix(): path.read_text()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_each_line_is_a_document_with_its_name(services: Services, corpus_id: str) -> None:
    data = lines(
        {"text": "by path", "path": "sub/one.md", "id": "ignored"},
        {"text": "by id", "id": 17},
        {"text": "by title", "title": "A/title: with\u2028marks"},
        {"text": "by number"},
        {"text": "same id", "id": 17},
    )
    answer = services.uploads.add(corpus_id, [file("a/data.jsonl", b"\xef\xbb\xbf" + data + b"\n")])

    assert answer["skipped"] == []
    assert stored(services, corpus_id) == {
        "a/data.jsonl/sub/one.md": "by path",
        "a/data.jsonl/17.txt": "by id",
        "a/data.jsonl/A_title_ with_marks.txt": "by title",
        "a/data.jsonl/line-000004.txt": "by number",
        "a/data.jsonl/17 (2).txt": "same id",
    }
    again = services.uploads.add(corpus_id, [file("a/data.jsonl", data)])
    assert set(outcome(again).values()) == {"unchanged"}
    assert services.store.count_documents(corpus_id) == 5


@pytest.mark.parametrize("line", list(HOSTILE_LINES), ids=range(len(HOSTILE_LINES)))
def test_a_bad_line_has_its_reason_and_harms_no_other(
    services: Services, corpus_id: str, line: bytes
) -> None:
    data = b'{"text": "before"}\n' + line + b'\n{"text": "after"}'
    answer = services.uploads.add(corpus_id, [file("data.jsonl", data)])

    assert sorted(stored(services, corpus_id).values()) == ["after", "before"]
    assert list(reasons(answer)) == ["data.jsonl: line 2"]
    assert HOSTILE_LINES[line] in answer["skipped"][0]["reason"]


def test_a_line_of_nearly_the_limit_is_taken(services: Services, corpus_id: str) -> None:
    text = "word " * ((BIG - 100) // 5)
    answer = services.uploads.add(corpus_id, [file("data.jsonl", lines({"text": text}))])

    assert answer["counts"]["added"] == 1
    assert list(stored(services, corpus_id).values()) == [text]


def test_many_bad_lines_are_counted(services: Services, corpus_id: str) -> None:
    bad = MOST_LINE_REASONS + 50
    answer = services.uploads.add(corpus_id, [file("data.jsonl", b"{}\n" * bad)])

    assert len(answer["skipped"]) == MOST_LINE_REASONS + 1
    assert answer["skipped"][-1]["reason"].startswith("50 more lines")
    assert answer["counts"]["skipped"] == bad


def test_a_file_without_lines_says_so(services: Services, corpus_id: str) -> None:
    answer = services.uploads.add(corpus_id, [file("data.jsonl", b"\n \n")])

    assert "holds no lines" in reasons(answer)["data.jsonl"]


def test_the_field_of_the_text_can_be_chosen(services: Services, corpus_id: str) -> None:
    data = lines({"body": "chosen", "text": "not this"})
    services.uploads.add(corpus_id, [file("data.jsonl", data)], text_field="body")

    assert list(stored(services, corpus_id).values()) == ["chosen"]
    for name in ("", "x" * 201, "a\0b"):
        with pytest.raises(InputError, match="text_field must have 1 to 200"):
            services.uploads.add(corpus_id, [file("data.jsonl", data)], text_field=name)


def test_gzip_and_zip_hold_the_same_kinds(services: Services, corpus_id: str) -> None:
    packed = gzip.compress(lines({"text": "in a packed line", "id": "x"}))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("d/more.jsonl", lines({"text": "a line in a zip", "id": "y"}))
        archive.writestr("d/deep.jsonl.gz", packed)
        archive.writestr("d/plain.md.gz", gzip.compress(b"plain in gzip in zip"))
    answer = services.uploads.add(
        corpus_id,
        [
            file("a.txt.gz", gzip.compress(b"plain in gzip")),
            file("all.zip", buffer.getvalue()),
        ],
    )

    assert answer["skipped"] == []
    assert stored(services, corpus_id) == {
        "a.txt": "plain in gzip",
        "d/more.jsonl/y.txt": "a line in a zip",
        "d/deep.jsonl/x.txt": "in a packed line",
        "d/plain.md": "plain in gzip in zip",
    }


@pytest.mark.parametrize("name", ["bomb.txt.gz", "bomb.jsonl.gz"])
def test_a_gzip_bomb_is_stopped(services: Services, corpus_id: str, name: str) -> None:
    bomb = gzip.compress(b" " * 3_000_000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, bomb)
    answer = services.uploads.add(
        corpus_id, [file(name, bomb), file("bombs.zip", buffer.getvalue()), file("good.txt", "ok")]
    )

    assert set(stored(services, corpus_id)) == {"good.txt"}
    found = reasons(answer)
    rule = "A packed file may unpack to at most 10 times its size, and this one of "
    assert found[name].startswith(f"{rule}{size(len(bomb))} holds at least 1")
    assert found["bombs.zip"].startswith(f"{rule}{size(len(buffer.getvalue()))} holds at least")


@pytest.mark.parametrize(
    "data",
    [b"junk", gzip.compress(b"text " * 50)[:-9], gzip.compress(b"x" * 99)[:12], b"\x1f\x8b"],
    # What gzip makes holds the time.
    ids=["junk", "no end", "no text", "two bytes"],
)
def test_a_broken_gzip_file_has_its_reason(services: Services, corpus_id: str, data: bytes) -> None:
    answer = services.uploads.add(corpus_id, [file("a.txt.gz", data), file("good.txt", "ok")])

    assert set(stored(services, corpus_id)) == {"good.txt"}
    assert "not a readable gzip file" in reasons(answer)["a.txt.gz"]


@pytest.mark.parametrize("inner", ["a.txt.gz", "a.zip", "a.tar"])
def test_packed_files_in_gzip_files_are_not_unpacked(
    services: Services, corpus_id: str, inner: str
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.txt", "text")
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as packed:
        info = tarfile.TarInfo("x.txt")
        info.size = 30_000
        packed.addfile(info, io.BytesIO(random.Random(7).randbytes(15_000).hex().encode()))
    data = {"a.txt.gz": gzip.compress(b"text"), "a.zip": buffer.getvalue(), "a.tar": tar.getvalue()}
    answer = services.uploads.add(corpus_id, [file(f"{inner}.gz", gzip.compress(data[inner]))])

    assert stored(services, corpus_id) == {}
    assert len(answer["skipped"]) == 1


def test_the_same_text_under_another_path_is_a_duplicate(
    services: Services, corpus_id: str
) -> None:
    first = services.uploads.add(
        corpus_id, [file("a/b.txt", "twice"), file("c.txt", "twice"), file("d.txt", "once")]
    )
    assert outcome(first) == {"a/b.txt": "added", "d.txt": "added"}
    assert "the same text as a/b.txt" in reasons(first)["c.txt"]

    second = services.uploads.add(corpus_id, [file("e.txt", "twice")])
    assert "the same text as a/b.txt" in reasons(second)["e.txt"]

    third = services.uploads.add(corpus_id, [file("e.txt", "twice")], keep_duplicates=True)
    assert outcome(third) == {"e.txt": "added"}


def test_a_path_is_replaced_or_unchanged(services: Services, corpus_id: str) -> None:
    services.uploads.add(corpus_id, [file("a.txt", "one"), file("b.txt", "two")])

    answer = services.uploads.add(corpus_id, [file("a.txt", "two"), file("b.txt", "two")])

    # A path that is there is replaced, also by a text that another one has.
    assert outcome(answer) == {"a.txt": "replaced", "b.txt": "unchanged"}
    assert stored(services, corpus_id) == {"a.txt": "two", "b.txt": "two"}
    assert answer["counts"] == {
        "added": 0,
        "replaced": 1,
        "unchanged": 1,
        "skipped": 0,
        "bytes": 6,
    }
    # What was replaced is no longer the same text as anything.
    assert outcome(services.uploads.add(corpus_id, [file("c.txt", "one")])) == {"c.txt": "added"}


def test_a_document_lost_on_the_disk_is_stored_again(services: Services, corpus_id: str) -> None:
    services.uploads.add(corpus_id, [file("a.txt", "one")])
    (services.home.corpus_dir(corpus_id) / "documents/a.txt").unlink()

    assert outcome(services.uploads.add(corpus_id, [file("a.txt", "one")])) == {"a.txt": "replaced"}
    assert stored(services, corpus_id) == {"a.txt": "one"}


def test_a_file_and_a_folder_of_one_name_do_not_stop_the_others(
    services: Services, corpus_id: str
) -> None:
    answer = services.uploads.add(
        corpus_id,
        [file("a", "a file"), file("a/b.txt", "in a folder"), file("c.txt", "fine")],
    )
    assert answer["counts"]["added"] == 2
    assert "the same name" in answer["skipped"][0]["reason"]
    answer = services.uploads.add(corpus_id, [file("c.txt/x.txt", "in a file"), file("d", "more")])
    assert outcome(answer) == {"d": "added"}
    assert not list(Path(services.home.corpus_dir(corpus_id)).rglob(".tmp-*"))


def test_the_route_takes_both_options(client: TestClient, corpus_id: str) -> None:
    url = f"/api/v1/corpora/{corpus_id}/files"
    files = [("files", ("x.jsonl", lines({"body": "one"}, {"body": "one", "id": "two"})))]

    answer = client.post(url, files=files, data={"text_field": "body", "keep_duplicates": "true"})
    assert answer.json()["counts"]["added"] == 2
    refused = client.post(url, files=files, data={"keep_duplicates": "perhaps"})
    assert refused.status_code == 422
    assert "keep_duplicates must be true or false, got 'perhaps'" in refused.json()["detail"]


def test_small_limits_hold_over_batches(services: Services, corpus_id: str) -> None:
    uploads = UploadService(services.home, services.store, services.uploads.limits)
    many = lines(*({"text": f"text {number}"} for number in range(1200)))

    answer = uploads.add(corpus_id, [file("data.jsonl", many)])

    assert services.store.count_documents(corpus_id) == 30
    assert answer["counts"]["added"] == 30
    assert "at most 30 documents" in answer["skipped"][0]["reason"]
