"""Every uploaded file is accepted or gets a reason, and none leaves the corpus folder."""

import io
import resource
import stat
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from app.errors import RequestTooLargeError
from app.services.services import Services
from app.services.uploads import UploadedFile, UploadLimits, UploadService
from app.web import guard, make_rest_app
from jobs.corpus_files import hold_corpus
from jobs.errors import InvalidChangeError
from jobs.store.corpus_locks import CorpusUse
from retro.errors import DiskFullError
from tests.app.serving import serve

HOSTILE_NAMES = [
    "../../evil.txt",
    "a/../../evil.txt",
    "/etc/passwd",
    "\\\\server\\share.txt",
    "C:\\evil.txt",
    "a\0b.txt",
    "x" * 4096,
    "CON",
    "a\u202etxt.exe",
    "",
    ".",
    "a//../..//b",
]

MANY = httpx.Limits(max_connections=100)


@pytest.fixture
def corpus_id(services: Services) -> str:
    return str(services.corpora.create("notes").id)


def file(path: str, content: bytes | str = "some text") -> UploadedFile:
    data = content.encode() if isinstance(content, str) else content
    return UploadedFile(path=path, content=io.BytesIO(data))


def make_zip(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def paths(answer: dict[str, Any]) -> list[str]:
    return sorted(item["path"] for item in answer["accepted"])


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def test_relative_paths_are_kept_and_recorded(services: Services, corpus_id: str) -> None:
    answer = services.uploads.add(
        corpus_id, [file("a/same.txt", "one"), file("b/same.txt", "two and more")]
    )

    assert answer["skipped"] == []
    assert answer["accepted"] == [
        {"path": "a/same.txt", "bytes": 3, "encoding": "utf-8", "change": "added"},
        {"path": "b/same.txt", "bytes": 12, "encoding": "utf-8", "change": "added"},
    ]
    listed = services.corpora.documents(corpus_id)
    assert [item.path for item in listed.documents] == ["a/same.txt", "b/same.txt"]
    folder = services.home.corpus_dir(corpus_id) / "documents"
    assert (folder / "b" / "same.txt").read_text() == "two and more"


def test_each_refused_file_has_its_reason(services: Services, corpus_id: str) -> None:
    answer = services.uploads.add(
        corpus_id,
        [
            file("good.txt"),
            file("empty.txt", b""),
            file("image.png", b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
            file(".hidden/x.txt"),
            file("large.txt", b"x" * 200_001),
            file("latin.txt", "caf\xe9 au lait".encode("latin-1")),
        ],
    )

    assert paths(answer) == ["good.txt", "latin.txt"]
    reasons = {item["path"]: item["reason"] for item in answer["skipped"]}
    assert "empty" in reasons["empty.txt"]
    assert "image.png" in reasons["image.png"]
    assert ".hidden" in reasons[".hidden/x.txt"]
    assert "200 KB" in reasons["large.txt"]
    notes = [item["note"] for item in answer["accepted"] if "note" in item]
    assert len(notes) == 1
    assert "Latin-1" in notes[0]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_writes_nothing(services: Services, corpus_id: str, name: str) -> None:
    before = files_below(services.home.path)

    answer = services.uploads.add(corpus_id, [file(name)])

    assert answer["accepted"] == []
    assert len(answer["skipped"]) == 1
    assert {
        name for name in files_below(services.home.path) - before if "retro.db" not in name
    } == set()


def test_a_zip_is_unpacked_with_its_folders(services: Services, corpus_id: str) -> None:
    data = make_zip({"a/x.txt": b"one", "b/x.txt": b"two", "b/__MACOSX/._x": b"junk", "b/.x": b"?"})

    answer = services.uploads.add(corpus_id, [file("docs.zip", data)])

    assert paths(answer) == ["a/x.txt", "b/x.txt"]
    assert len(answer["skipped"]) == 2


def test_zip_members_cannot_leave_the_folder(services: Services, corpus_id: str) -> None:
    link = zipfile.ZipInfo("link.txt")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../outside.txt", "x")
        archive.writestr("/absolute.txt", "x")
        archive.writestr(link, "/etc/passwd")
        archive.writestr("inner.zip", make_zip({"x.txt": b"x"}))
        archive.writestr("good.txt", "fine")

    answer = services.uploads.add(corpus_id, [file("docs.zip", buffer.getvalue())])

    assert paths(answer) == ["good.txt"]
    assert len(answer["skipped"]) == 4
    assert not (services.home.corpora_dir / "outside.txt").exists()
    stored = services.home.corpus_dir(corpus_id) / "documents"
    assert files_below(stored) == {"good.txt"}
    assert not any(path.is_symlink() for path in stored.rglob("*"))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(services: Services, corpus_id: str) -> None:
    data = make_zip({"bomb.txt": b"0" * 150_000})

    answer = services.uploads.add(corpus_id, [file("bomb.zip", data)])

    assert answer["accepted"] == []
    assert "10 times its size" in answer["skipped"][0]["reason"]


def test_a_zip_that_lies_about_its_sizes_is_noticed(services: Services, corpus_id: str) -> None:
    data = bytearray(make_zip({"lie.txt": b"0" * 150_000}))
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        place = data.index(signature) + offset
        data[place : place + 4] = (100).to_bytes(4, "little")

    answer = services.uploads.add(corpus_id, [file("lie.zip", bytes(data))])

    assert answer["accepted"] == []
    assert "damaged" in answer["skipped"][0]["reason"]


@pytest.mark.parametrize("data", [b"not a zip", b"PK\x03\x04 broken", make_zip({})])
def test_a_broken_zip_is_skipped_with_a_reason(
    services: Services, corpus_id: str, data: bytes
) -> None:
    answer = services.uploads.add(corpus_id, [file("docs.zip", data), file("good.txt")])

    assert paths(answer) == ["good.txt"]
    assert "zip" in answer["skipped"][0]["reason"]


def test_a_zip_with_too_many_files_is_refused(services: Services, corpus_id: str) -> None:
    data = make_zip({f"{number}.txt": b"x" for number in range(11)})

    answer = services.uploads.add(corpus_id, [file("many.zip", data)])

    assert answer["accepted"] == []
    assert "at most 10 files, got 11" in answer["skipped"][0]["reason"]


def test_a_corpus_holds_no_more_than_its_limit(services: Services, corpus_id: str) -> None:
    for batch in range(2):
        services.uploads.add(
            corpus_id, [file(f"{batch}-{i}.txt", f"text {batch} {i}") for i in range(20)]
        )

    assert services.store.count_documents(corpus_id) == 30


def test_a_full_disk_keeps_what_was_accepted(services: Services, corpus_id: str) -> None:
    limits = UploadLimits(free_disk=10**18)
    uploads = UploadService(services.home, services.store, limits)
    services.uploads.add(corpus_id, [file("before.txt")])

    with pytest.raises(DiskFullError, match="must stay free"):
        uploads.add(corpus_id, [file("after.txt")])

    assert services.store.count_documents(corpus_id) == 1


def test_files_are_refused_while_the_corpus_is_built(services: Services, corpus_id: str) -> None:
    services.uploads.add(corpus_id, [file("a.txt")])
    services.corpora.build(corpus_id)

    with pytest.raises(InvalidChangeError, match="'notes'"):
        services.uploads.add(corpus_id, [file("b.txt")])


def test_a_request_with_too_many_files_is_refused(services: Services, corpus_id: str) -> None:
    with pytest.raises(RequestTooLargeError, match="at most 20 files, got 21"):
        services.uploads.add(corpus_id, [file(f"{i}.txt") for i in range(21)])


def post(client: TestClient, corpus_id: str, files: list[Any], data: Any = None) -> Any:
    return client.post(f"/api/v1/corpora/{corpus_id}/files", files=files, data=data)


def test_the_route_takes_files_with_their_paths(client: TestClient, corpus_id: str) -> None:
    answer = post(
        client,
        corpus_id,
        [("files", ("file", b"one")), ("files", ("file", b"two"))],
        {"paths": ["a/x.txt", "b/x.txt"]},
    )

    assert answer.status_code == 200
    assert [(item["path"], item["bytes"]) for item in answer.json()["accepted"]] == [
        ("a/x.txt", 3),
        ("b/x.txt", 3),
    ]


def test_the_route_says_what_is_wrong_with_a_request(client: TestClient, corpus_id: str) -> None:
    url = f"/api/v1/corpora/{corpus_id}/files"
    one = [("files", ("a.txt", b"x"))]
    many = [("files", (f"{i}.txt", b"x")) for i in range(25)]
    answers = {
        "multipart/form-data": client.post(url, json={}),
        "got none": post(client, corpus_id, [("paths", (None, "a.txt"))]),
        "each of the 1 files, got 2": post(client, corpus_id, one, {"paths": ["a", "b"]}),
        "'extra'": post(client, corpus_id, one, {"extra": "x"}),
        "at most 20 files": post(client, corpus_id, many),
        "at most 2 MB": post(client, corpus_id, [("files", ("a.txt", b"x" * 2_000_001))]),
        "could not be read": client.post(
            url, content=b"junk", headers={"content-type": "multipart/form-data; boundary=x"}
        ),
        "There is no corpus nothing": post(client, "nothing", one),
    }

    for words, answer in answers.items():
        assert words in answer.json()["detail"]
    statuses = [answer.status_code for answer in answers.values()]
    assert statuses == [422, 422, 422, 422, 413, 413, 422, 404]


def test_a_body_without_a_declared_length_is_counted(client: TestClient, corpus_id: str) -> None:
    def pieces() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
        for _ in range(30):
            yield b"y" * 100_000
        yield b"\r\n--x--\r\n"

    answer = client.post(
        f"/api/v1/corpora/{corpus_id}/files",
        content=pieces(),
        headers={"content-type": "multipart/form-data; boundary=x"},
    )

    assert answer.status_code == 413


def test_a_disk_without_space_for_a_request_is_told(client: TestClient, corpus_id: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_200_000, before[1]))
    try:
        answer = post(client, corpus_id, [("files", ("a.txt", b"x" * 1_500_000))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert answer.status_code == 507
    assert "allows no file as large as 'the upload' must be" in answer.json()["detail"]


def test_uploads_that_wait_leave_threads_for_others(services: Services, corpus_id: str) -> None:
    url = f"/api/v1/corpora/{corpus_id}/files"
    answers: list[int] = []

    def upload(browser: httpx.Client, number: int) -> None:
        files = [("files", (f"{number}.txt", f"text {number}".encode()))]
        answers.append(browser.post(url, files=files).status_code)

    app = guard(make_rest_app(services), None)
    with serve(app) as address, httpx.Client(base_url=address, timeout=60, limits=MANY) as browser:
        with hold_corpus(services.home, services.store, corpus_id, CorpusUse.ADD):
            waiting = [
                threading.Thread(target=upload, args=(browser, number)) for number in range(45)
            ]
            for thread in waiting:
                thread.start()
            for _ in range(20):
                time.sleep(0.1)
                assert browser.get("/api/v1/system", timeout=5).status_code == 200
            assert answers == []
        for thread in waiting:
            thread.join()

    assert answers == [200] * len(waiting)
