"""Uploads of strangers: each ends with one sentence, or with the connection, and leaves nothing."""

import gzip
import json
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.app.edge.conftest import PATIENCE_S, Server
from tests.app.hostile.archives import Entry, forge
from tests.app.serving import until

pytestmark = pytest.mark.slow

MEGABYTE = 1 << 20
FORM = "multipart/form-data; boundary=x"
END = b"--x--\r\n"
FILE = 'name="files"; filename="a.txt"'


def part(options: str | bytes, content: bytes = b"hello", more: bytes = b"") -> bytes:
    given = options if isinstance(options, bytes) else options.encode()
    head = b"Content-Disposition: form-data; " + given
    return b"--x\r\n" + more + head + b"\r\n\r\n" + content + b"\r\n"


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as made:
        yield made


@pytest.fixture(scope="module")
def path(client: httpx.Client) -> str:
    corpus = client.post("/api/v1/corpora", json={"name": "strangers"}).json()
    return f"/api/v1/corpora/{corpus['id']}/files"


def begin(server: Server, path: str, body: bytes, length: str, kind: str = FORM) -> socket.socket:
    """Send a request whose length may be a lie."""
    cookie = "; ".join(f"{name}={value}" for name, value in server.cookies.items())
    connection = server.connect()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nCookie: {cookie}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def answer(connection: socket.socket) -> tuple[int, str]:
    """Return status and detail of one answer."""
    with connection, connection.makefile("rb") as file:
        status = int(file.readline().split()[1])
        lines = list(iter(lambda: file.readline().strip().lower(), b""))
        lengths = [int(line.split()[1]) for line in lines if line.startswith(b"content-length")]
        content = file.read(lengths[0]) if lengths else file.read()
    is_json = content.startswith(b"{")
    return status, json.loads(content).get("detail", "") if is_json else content.decode()


def removed_files(server: Server) -> list[str]:
    """Return the temporary files that the server has open; they have no names."""
    links = []
    for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
        try:
            links.append(str(link.readlink()))
        except FileNotFoundError:
            continue
    return [link for link in links if link.endswith("(deleted)")]


def log_of(server: Server) -> list[str]:
    """Return the lines of the web app; its worker writes to the same log."""
    return [line for line in server.log.read_text().splitlines() if " jobs." not in line]


CASES: dict[str, tuple[bytes, str, int, str]] = {
    "no end": (part(FILE), FORM, 422, "Its last boundary is missing"),
    "nothing": (b"", FORM, 422, "Its last boundary is missing"),
    "no boundary": (part(FILE) + END, FORM[:19], 422, "1 to 70 plain characters, got 0"),
    "long boundary": (END, f"{FORM[:-1]}{'y' * 10_000}", 422, "got 10,000 characters, 'yyy"),
    "open quote": (END, FORM.replace("=x", '="x'), 422, "plain characters, got 2 characters"),
    "no name": (part("") + END, FORM, 422, 'field "name" must be provided'),
    "no header": (b"--x\r\n\r\nabc\r\n" + END, FORM, 422, 'field "name" must be provided'),
    "long header": (part(FILE, more=b"A: " + b"y" * 90_000 + b"\r\n") + END, FORM, 422, "Invalid"),
    "many headers": (part(FILE, more=b"A: b\r\n" * 5_000) + END, FORM, 422, "Invalid multipart"),
    "name in latin-1": (
        part(b'name="files"; filename="caf\xe9.txt"') + END, FORM, 422,
        "Names and texts of the part 'files' must be UTF-8, got 'caf\\xe9.txt'. Rename the file",
    ),
    "path in latin-1": (
        part(FILE) + part('name="paths"', b"caf\xe9.txt") + END, FORM, 422,
        "of the part 'paths' must be UTF-8, got 'caf\\xe9.txt'",
    ),
    "long path": (part(FILE) + part('name="paths"', b"p" * 20_000) + END, FORM, 422, "16KB"),
    "many files": (part(FILE) * 5_001 + END, FORM, 413, "at most 5,000 files"),
    "many texts": (part('name="paths"') * 5_100 + END, FORM, 413, "at most 5,000 files"),
    "file as a flag": (
        part(FILE) + part('name="keep_duplicates"; filename="a.txt"') + END, FORM, 422,
        "The part 'keep_duplicates' must be text, got the file 'a.txt'. Send it without a file",
    ),
    "file as a field": (
        part(FILE) + part('name="text_field"; filename="a.txt"') + END, FORM, 422,
        "The part 'text_field' must be text, got the file 'a.txt'. Send it without a file name.",
    ),
    "file as a path": (
        part(FILE) + part('name="paths"; filename="a.txt"') + END, FORM, 422,
        "The part 'paths' must be text, got the file 'a.txt'. Send it without a file name.",
    ),
    "text as a file": (
        part(FILE) + part('name="files"', b"<script>") + END, FORM, 422,
        "The part 'files' must be a file, got the text '<script>'. Send it with a file name.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_form_that_is_none_has_its_sentence(server: Server, path: str, name: str) -> None:
    body, kind, status, words = CASES[name]
    before = len(log_of(server))

    found, detail = answer(begin(server, path, body, str(len(body)), kind))

    assert (found, words in detail) == (status, True), detail
    assert detail.endswith(".")
    assert len(detail) < 300
    assert log_of(server)[before:] == []
    assert removed_files(server) == []


def test_other_charsets_are_not_asked_of_the_parser(client: httpx.Client, path: str) -> None:
    body = part('name="files"; filename="caf\u00e9.txt"') + END

    taken = client.post(
        path, content=body, headers={"content-type": f"{FORM}; charset=undefined"}
    ).json()

    assert [item["path"] for item in taken["accepted"]] == ["caf\u00e9.txt"]


@pytest.mark.parametrize("length", ["-5", "many", "9" * 30, "9" * 5_000, "1, 2"])
def test_a_length_that_is_none_closes_the_connection(
    server: Server, path: str, length: str
) -> None:
    before = len(log_of(server))

    status, _ = answer(begin(server, path, b"", length))

    assert status == 400
    assert len(log_of(server)[before:]) <= 1


def test_a_length_that_is_too_small_is_no_whole_upload(server: Server, path: str) -> None:
    before = len(log_of(server))
    body = part(FILE, b"z" * 2 * MEGABYTE)

    status, detail = answer(begin(server, path, body + END, str(len(body) - 1000)))

    assert (status, "Its last boundary is missing" in detail) == (422, True)
    assert len(log_of(server)[before:]) <= 1
    assert removed_files(server) == []


def test_an_upload_that_is_broken_off_leaves_nothing(
    server: Server, client: httpx.Client, path: str
) -> None:
    before = len(log_of(server))
    body = part(FILE, b"z" * 3 * MEGABYTE) + part(FILE, b"z" * 3 * MEGABYTE)

    connection = begin(server, path, body, "100000000")
    until(lambda: len(removed_files(server)) == 2)
    connection.close()
    until(lambda: not removed_files(server))
    begin(server, path, b"--x\r\nConte", "5000").close()
    until(lambda: len(log_of(server)) == before + 2)

    lines = log_of(server)[before:]
    assert [line.rpartition(" INFO ")[2] for line in lines] == [
        "app.multipart an upload was broken off"
    ] * 2
    assert client.get("/healthz").status_code == 200


def words(num_bytes: int) -> bytes:
    return random.Random(5).randbytes(num_bytes // 2).hex().encode()


def bombs() -> Iterator[tuple[str, bytes, str]]:
    """Yield name, content and reason of files that are small and want much."""
    member = Entry(text=words(300_000) + b" " * 9_500_000)
    yield "same.zip", forge(member, repeat=60), "must lie apart from each other"
    yield "newlines.jsonl.gz", gzip.compress(b"\n" * 10**7) * 10, "at most 1,000,000 lines"
    full = b'{"text": "x", "n": [' + b"[]," * (5 * MEGABYTE) + b"0]}"
    yield "full.jsonl", full, "at most 100,000 names and values"
    yield "long.jsonl.gz", gzip.compress(b"x" * 10**7) * 10, "at most 100 times its size"
    many = [Entry(name=f"{number}.txt.gz", text=gzip.compress(b"")) for number in range(9_999)]
    yield "many.zip", forge(*many), "is empty. Leave it out."
    controls = Entry(text=b"\x01" * (16 * MEGABYTE))
    yield (
        "controls.zip",
        forge(controls, Entry(name="b", text=words(MEGABYTE))),
        "holds only white space",
    )


@pytest.mark.timeout(180)
def test_no_file_keeps_others_waiting(server: Server, client: httpx.Client, path: str) -> None:
    found: dict[str, Any] = {}
    before = len(log_of(server))

    with server.probed() as probe:
        for name, content, words_of_reason in bombs():
            began = time.monotonic()
            done = client.post(path, files=[("files", (name, content))]).json()
            reasons = [item["reason"] for item in done["skipped"]]
            found[name] = (round(time.monotonic() - began, 2), words_of_reason, reasons[:1])

    assert [name for name, (_, wanted, got) in found.items() if wanted not in str(got)] == []
    assert probe.slowest < PATIENCE_S
    assert log_of(server)[before:] == []
