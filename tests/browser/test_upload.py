"""A folder, as people have them, through the file dialog."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server
from tests.browser.looks import picture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

HOSTILE = "<img src=x onerror=window.hacked=1>${window.hacked=1}{{x}}"
MANY = 450


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
    expect(page.locator("#corpus")).to_contain_text("No corpus yet")
    assert not folder.exists()
    assert problems == []
