"""A folder, as people have them, through the file dialog."""

import contextlib
import re
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server
from tests.browser.looks import picture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

HOSTILE = "<img src=x onerror=window.hacked=1>${window.hacked=1}{{x}}"
MANY = 450


@pytest.fixture
def server(shared_server: Server) -> Server:
    return shared_server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "my notes"
    for name in ("a", "b/c"):
        (root / name).mkdir(parents=True)
        (root / name / "same.txt").write_text(f"This is the text in {name}.")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "secret.txt").write_text("not for upload")
    (root / ".dotfile").write_text("not for upload")
    (root / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)
    (root / "empty.txt").write_bytes(b"")
    (root / "latin.txt").write_bytes("Ein Caf\xe9 in K\xf6ln am Rhein".encode("latin-1"))
    (root / f"{HOSTILE}.txt").write_text(HOSTILE)
    (root / "many").mkdir()
    for number in range(MANY):
        (root / "many" / f"{number:04}.txt").write_text(f"number {number}")
    return root


def test_a_folder_keeps_its_paths_and_every_file_gets_an_answer(
    page: Page, server: Server, folder: Path, problems: list[str]
) -> None:
    page.goto(server.address)
    expect(page.locator("#try-sample")).to_be_visible()
    page.locator("#start-folder").set_input_files(folder)

    page.wait_for_url("**/corpora?corpus=*")
    report = page.locator("#upload-report")
    expect(report).to_contain_text(f"{MANY + 4} accepted")
    expect(report).to_contain_text("4 skipped")
    for name in ("empty.txt", "picture.png", ".dotfile", ".hidden/secret.txt"):
        expect(report).to_contain_text(name)
    page.reload()
    expect(report).to_contain_text("4 skipped")

    corpus = server.get("/corpora")["corpora"][0]
    assert corpus["name"] == "my notes"
    documents = server.get(f"/corpora/{corpus['id']}/documents?limit=1000")["documents"]
    paths = [item["path"] for item in documents]
    assert {"my notes/a/same.txt", "my notes/b/c/same.txt"} <= set(paths)
    assert len(paths) == MANY + 4
    latin = next(item for item in documents if item["path"].endswith("latin.txt"))
    assert "Latin-1" in latin["note"]
    stored = server.home / "corpora" / corpus["id"] / "documents" / "my notes"
    assert (stored / "b/c/same.txt").read_text() == "This is the text in b/c."
    assert "K\xf6ln" in (stored / "latin.txt").read_text(encoding="utf-8")

    page.goto(f"{server.address}/corpora?corpus={corpus['id']}")
    expect(page.locator("#documents")).to_contain_text(HOSTILE)
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.locator("#corpus .text")).to_contain_text(HOSTILE)
    assert page.evaluate("window.hacked") is None
    page.goto(f"{server.address}/corpora?corpus={corpus['id']}")
    expect(page.locator("#build-and-train")).to_be_visible()
    picture(page, "corpus-uploaded")
    assert problems == []


class LosingProxy:
    """Stands before the app, and loses the first answer to each request that creates something."""

    def __init__(self, address: str) -> None:
        self._target = urlsplit(address)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.keys: dict[str, list[str]] = {"corpora": [], "files": []}
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        loses = threading.Event()
        host = (self._target.hostname or "", self._target.port or 0)
        with client, socket.create_connection(host) as server:
            threading.Thread(target=self._send, args=(client, server, loses), daemon=True).start()
            with contextlib.suppress(OSError):
                while (data := server.recv(65536)) and not loses.is_set():
                    client.sendall(data)
                # Without any of it, Chromium would send the request again by itself.
                client.sendall(data[:-10])
                client.shutdown(socket.SHUT_RDWR)

    def _send(self, client: socket.socket, server: socket.socket, loses: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                request = re.match(rb"POST /api/v1/[^ ]*?(corpora|files) HTTP", data)
                if request:
                    keys = self.keys[request[1].decode()]
                    keys += re.findall("idempotency-key: (.*)\r", data.decode("latin-1"), re.I)
                    if len(keys) == 1:
                        loses.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)


def test_what_was_done_without_an_answer_is_not_done_twice(
    page: Page, server: Server, tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("one.txt", "two.txt")]
    for file in files:
        file.write_text(f"The text of {file.name}.")
    before = len(server.get("/corpora")["corpora"])
    proxy = LosingProxy(server.address)
    page.goto(f"{proxy.address}/corpora")
    page.locator("#new-files").set_input_files(files)
    # Which of them depends on how much of the answer came.
    expect(page.locator("#notices")).to_contain_text(re.compile("Failed to fetch|broke off"))
    assert proxy.keys["files"] == []
    page.locator("#new-files").set_input_files(files)

    page.wait_for_url("**/corpora?corpus=*")
    report = page.locator("#upload-report")
    expect(report).to_contain_text("2 accepted")
    expect(report).not_to_contain_text("unchanged")
    proxy.close()
    assert {name: len(keys) for name, keys in proxy.keys.items()} == {"corpora": 2, "files": 2}
    assert all(len(set(keys)) == 1 for keys in proxy.keys.values())
    assert len(server.get("/corpora")["corpora"]) == before + 1


def test_a_corpus_is_deleted_after_a_question(
    page: Page, server: Server, tmp_path: Path, problems: list[str]
) -> None:
    note = tmp_path / "note.txt"
    note.write_text("A short note.")
    page.goto(f"{server.address}/corpora")
    page.locator("#new-files").set_input_files(note)
    page.wait_for_url("**/corpora?corpus=*")
    corpus_id = page.url.rpartition("=")[2]
    folder = server.home / "corpora" / corpus_id
    assert folder.exists()

    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Keep it").click()
    assert folder.exists()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.locator("dialog").get_by_role("button", name="Delete").click()

    page.wait_for_url("**/corpora")
    expect(page.locator(f"#corpus a[href*='{corpus_id}']")).to_have_count(0)
    assert not folder.exists()
    assert problems == []


def test_a_button_that_became_another_one_is_pressed_at_once(page: Page, server: Server) -> None:
    """A page that changes may make Resume of the button that was Pause a moment ago."""
    calls: list[str] = []
    page.route("**/api/v1/none/*", lambda route: (calls.append(route.request.url[-1]),
                                                  route.fulfill(status=200, json={})))  # fmt: skip
    page.goto(f"{server.address}/jobs")
    expect(page.locator("#page h1").first).to_be_visible()
    page.evaluate(
        """() => document.querySelector("#page").insertAdjacentHTML("afterbegin",
        "<button type=button id=probe data-call='POST /api/v1/none/a'>Probe</button>")"""
    )
    button = page.locator("#probe")

    button.click()
    button.click()
    button.evaluate("element => { element.dataset.call = 'POST /api/v1/none/b'; }")
    button.click()

    page.wait_for_timeout(300)
    # The second press of the same action is a slip; that of the other one is not.
    assert calls == ["a", "b"]
