"""A corpus as people work with it: lines and duplicates, chunks, search, the next version."""

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.app.real_app import MODEL, TRAINING, WORDS
from tests.browser.conftest import Server
from tests.browser.looks import picture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]

HOSTILE = "<img src=x onerror=window.hacked=1>${window.hacked=1}{{x}}"
PATIENCE_S = 240.0
PATIENCE_MS = 1000 * PATIENCE_S


@pytest.fixture(autouse=True)
def _patience() -> Iterator[None]:
    """Jobs work beside the page, so it answers late on a small machine."""
    expect.set_options(timeout=30_000)
    yield
    expect.set_options(timeout=5_000)


def words(seed: int, number: int = 150) -> str:
    return " ".join(random.Random(seed).choices(WORDS.split(), k=number))


@pytest.fixture
def server(shared_server: Server) -> Server:
    return shared_server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "letters"
    (root / "sub").mkdir(parents=True)
    for number in range(8):
        (root / "sub" / f"letter {number}.txt").write_text(words(number))
    (root / "same again.txt").write_text(words(3))
    (root / f"{HOSTILE}.txt").write_text(f"{HOSTILE} {words(9)}")
    rows = [{"body": words(20 + number), "id": number} for number in range(3)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (root / "data.jsonl").write_text(text + '{"text": "another field"}\n')
    return root


def wait(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.3)
    return found


def post(server: Server, path: str, body: Any = None) -> Any:
    answer = httpx.post(f"{server.address}/api/v1{path}", json=body, timeout=60)
    assert answer.status_code < 300, answer.text
    return answer.json()


def build(server: Server, corpus_id: str, **settings: Any) -> None:
    post(server, f"/corpora/{corpus_id}/build", {"settings": settings})
    wait_until_ready(server, corpus_id)


def wait_until_ready(server: Server, corpus_id: str) -> None:
    def is_ready() -> bool:
        corpus = server.get(f"/corpora/{corpus_id}")
        assert corpus["state"] in ("building", "ready"), corpus
        return bool(corpus["state"] == "ready")

    wait(is_ready)


def wait_for_run(server: Server, run_id: str) -> Any:
    def ended() -> Any:
        run = server.get(f"/runs/{run_id}")
        assert run["state"] not in ("failed", "dead"), run
        return run if run["state"] == "succeeded" else None

    return wait(ended)


def upload(page: Page, server: Server, folder: Path) -> str:
    page.goto(f"{server.address}/corpora")
    page.locator("#new-upload-options summary").click()
    page.locator("#new-text-field").fill("body")
    page.locator("#new-folder").set_input_files(folder)
    page.wait_for_url("**/corpora?corpus=*")
    return page.url.rpartition("=")[2]


def test_a_corpus_from_upload_to_its_second_version(
    page: Page, server: Server, folder: Path, problems: list[str]
) -> None:
    corpus_id = upload(page, server, folder)
    report = page.locator("#upload-report")
    expect(report).to_contain_text("12 accepted")
    expect(report).to_contain_text("2 skipped")
    expect(report).to_contain_text("the same text as letters/s")
    expect(report).to_contain_text("letters/data.jsonl: line 4")
    documents = server.get(f"/corpora/{corpus_id}/documents")["documents"]
    assert "letters/data.jsonl/1.txt" in [item["path"] for item in documents]

    build(server, corpus_id, chunk_size=16, tokenizer=None)
    run = post(
        server,
        "/runs",
        {"name": "first", "corpus_id": corpus_id, "model": MODEL, "training": TRAINING},
    )
    assert wait_for_run(server, run["id"])["corpus_version"] == 1

    look_at_documents(page, server, corpus_id)
    search_with_a_chunk(page, server, corpus_id)
    add_and_build(page, server, corpus_id, folder.parent)
    look_at_versions(page, server, corpus_id, run["id"])
    assert page.evaluate("window.hacked") is None
    assert problems == []


def look_at_documents(page: Page, server: Server, corpus_id: str) -> None:
    page.goto(f"{server.address}/corpora?corpus={corpus_id}")
    page.locator("#documents-filter").fill("LETTER 4")
    page.locator("#documents-filter").press("Enter")
    page.wait_for_url("**contains=*")
    listed = page.locator("#documents")
    expect(listed).to_contain_text("1 document, page 1 of 1")
    page.goto(f"{server.address}/corpora?corpus={corpus_id}")
    page.locator("#documents").get_by_role("link", name=HOSTILE).click()
    # The number of the second chunk stands in the middle of it.
    expect(page.locator("#corpus .document-text")).to_contain_text(HOSTILE[:35])

    number = page.locator(".chunk-number").nth(1)
    number.focus()
    tip = number.get_attribute("data-tip") or ""
    assert "Chunk id " in tip
    assert "16 tokens" in tip
    number.press("Enter")
    aside = page.locator("aside#chunk")
    expect(aside).to_contain_text("Neighbors of chunk 2 of")
    expect(aside).to_contain_text("lower is nearer")
    expect(aside.locator(".neighbor")).to_have_count(2)
    expect(page.locator(".chunk.chosen")).to_have_count(1)
    picture(page, "corpus-document")
    aside.locator(".neighbor a").first.click()
    expect(page.locator("#place")).to_be_visible()


def search_with_a_chunk(page: Page, server: Server, corpus_id: str) -> None:
    chunk = server.get(f"/corpora/{corpus_id}/chunks/3")
    page.goto(f"{server.address}/corpora?corpus={corpus_id}&like=3")
    expect(page.locator("#search-chunk input")).to_have_value("3")
    page.locator("#search-button").click()
    found = page.locator("#search-found")
    expect(found.locator("#search-took")).to_contain_text("4 neighbors in", timeout=PATIENCE_MS)
    first = found.locator(".neighbor").first
    expect(first).to_contain_text(chunk["document"])
    expect(first).to_have_attribute("data-chunk-id", "3")


def add_and_build(page: Page, server: Server, corpus_id: str, folder: Path) -> None:
    page.goto(f"{server.address}/corpora?corpus={corpus_id}")
    new = folder / "new.txt"
    new.write_text("completely new things that nobody wrote before " * 20)
    page.locator("#add-files").set_input_files(new)
    expect(page.locator("#upload-report")).to_contain_text("1 accepted")
    expect(page.locator("#corpus")).to_contain_text("changed since version 1: 1 added")
    expect(page.locator("#corpus")).not_to_contain_text("cannot be resumed")
    page.get_by_role("button", name="Build the next version").click()
    wait(lambda: server.get(f"/corpora/{corpus_id}")["version"] == 2)
    wait_until_ready(server, corpus_id)


def look_at_versions(page: Page, server: Server, corpus_id: str, run_id: str) -> None:
    versions = page.locator("#versions")
    expect(versions).to_contain_text("kept for its runs", timeout=PATIENCE_MS)
    expect(versions).to_contain_text("first")
    expect(versions).to_contain_text("reused")
    newest, oldest = server.get(f"/corpora/{corpus_id}/versions")["versions"]
    assert (newest["state"], oldest["state"]) == ("current", "kept")
    assert 0 < newest["num_embedded"] < newest["num_reused"]
    picture(page, "corpus-versions")

    post(server, f"/runs/{run_id}/extend", {"max_steps": 6})
    extended = wait_for_run(server, run_id)
    assert (extended["step"], extended["corpus_version"]) == (6, 1)
    kept = server.home / "corpora" / corpus_id / "versions" / "1"
    assert kept.exists()
    httpx.delete(f"{server.address}/api/v1/runs/{run_id}", timeout=60)
    assert not kept.exists()


def test_a_corpus_is_renamed_set_up_and_loses_a_document(
    page: Page, server: Server, folder: Path, problems: list[str]
) -> None:
    corpus_id = upload(page, server, folder)
    # Drawn by the script, which then remembers what is open when a part comes anew.
    expect(page.locator("#upload-report .report-head")).to_be_visible()
    page.locator("#corpus-settings summary").click()
    page.locator("#rename-form input").fill("  other   letters ")
    page.get_by_role("button", name="Rename").click()
    expect(page.locator("#corpus h1")).to_have_text("other letters")
    # The forms come anew with the name.
    expect(page.locator("#rename-form input")).to_have_value("other letters")

    settings = page.locator("#settings-form")
    settings.locator("[name=chunk_size]").fill("1")
    settings.get_by_role("button", name="Save").click()
    expect(page.locator("#notices")).to_contain_text("chunk_size must be a whole number between 2")
    settings.locator("[name=chunk_size]").fill("32")
    settings.locator("[name=exclusion]").select_option("window")
    settings.locator("[name=vocab_size]").fill("")
    settings.get_by_role("button", name="Save").click()
    expect(page.locator("#notices")).to_contain_text("The settings were saved.")
    saved = server.get(f"/corpora/{corpus_id}")["settings"]
    assert (saved["chunk_size"], saved["exclusion"], saved["vocab_size"]) == (32, "window", None)

    row = page.locator("#documents tr", has_text="letter 5.txt")
    row.get_by_role("button", name="Remove").click()
    page.locator("dialog").get_by_role("button", name="Remove").click()
    expect(page.locator("#documents")).to_contain_text("11 documents")
    expect(page.locator("#documents")).not_to_contain_text("letter 5.txt")
    stored = server.home / "corpora" / corpus_id / "documents/letters/sub/letter 5.txt"
    assert not stored.exists()
    assert page.evaluate("window.hacked") is None
    # The sentence about the wrong number is an answer of the server that the browser logs.
    assert [item for item in problems if "422" not in item] == []
