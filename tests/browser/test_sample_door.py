"""A new user's way: from the first page to text with its neighbors, then to training."""

import re
import time

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server
from tests.browser.looks import picture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]

INDEX_MS = 240_000
TEXT_MS = 180_000
TRAINING_MS = 240_000
LONGEST_ANSWER_S = 0.3


def test_two_clicks_to_text_with_neighbors(page: Page, server: Server, problems: list[str]) -> None:
    page.goto(server.address)
    expect(page.locator("#try-sample")).to_be_visible()
    picture(page, "start-empty")

    page.locator("#try-sample").click()

    expect(page.locator(".steps")).to_contain_text("Python documentation (sample)")
    page.reload()
    expect(page.locator(".steps")).to_contain_text("building")
    expect(page.locator("#try-sample")).to_be_hidden()
    write = page.locator("#write-pretrained")
    expect(write).to_be_visible(timeout=INDEX_MS)
    picture(page, "start-ready")

    write.click()

    page.wait_for_url(re.compile(r"/generate\?gen=\w+"))
    expect(page.locator("#result article[data-card='1']")).to_be_visible(timeout=TEXT_MS)
    page.reload()
    expect(page.locator("#result")).to_have_attribute("data-state", "succeeded", timeout=TEXT_MS)
    cards_show_what_conditioned_them(page, server)
    picture(page, "generate")
    begin_training(page, server)
    pages_answer_quickly_while_training(server)
    every_other_page_shows_the_work(page, server)
    assert problems == []


def begin_training(page: Page, server: Server) -> None:
    page.goto(f"{server.address}/")
    page.get_by_role("link", name="Train a model").click()
    expect(page.locator("#run-base input")).to_have_value(re.compile("smollm2-135m"))
    expect(page.locator("#estimate-parameters")).to_contain_text("135")
    picture(page, "new-run")
    page.locator("#start-run").click()
    page.wait_for_url(re.compile(r"/runs\?run=\w+"))
    expect(page.locator("#samples")).to_be_visible(timeout=TRAINING_MS)


def pages_answer_quickly_while_training(server: Server) -> None:
    assert server.get("/jobs?state=running")["jobs"], "nothing runs, so this proves nothing"
    for path in ("/", "/runs", "/api/v1/runs", "/api/v1/jobs"):
        times = []
        for _ in range(5):
            began = time.perf_counter()
            assert httpx.get(f"{server.address}{path}").status_code == 200
            times.append(time.perf_counter() - began)
        assert sorted(times)[2] < LONGEST_ANSWER_S, f"{path} took {times}"


def cards_show_what_conditioned_them(page: Page, server: Server) -> None:
    generation = server.get(f"/generations/{page.url.rpartition('=')[2]}")
    chunks = generation["chunks"]
    assert len(chunks) >= 2
    assert page.locator("#result article").count() == len(chunks)
    assert page.locator("[data-side='0']").is_hidden()

    page.locator("article[data-card='0']").click(position={"x": 5, "y": 5})
    expect(page.locator("[data-side='0']")).to_contain_text("The first chunk has no neighbors")
    page.locator("article[data-card='1']").focus()
    page.keyboard.press("Enter")

    side = page.locator("[data-side='1']")
    expect(side).to_be_visible()
    shown = side.locator("[data-chunk-id]").evaluate_all(
        "boxes => boxes.map((box) => Number(box.dataset.chunkId))"
    )
    assert shown == [neighbor["chunk_id"] for neighbor in chunks[1]["neighbors"]]
    assert shown
    first = chunks[1]["neighbors"][0]
    stored = server.get(f"/corpora/{generation['corpus_id']}/chunks/{first['chunk_id']}")
    assert stored["document"] == first["document"]
    assert stored["text"] == first["text"]
    expect(side).to_contain_text(first["document"])
    expect(side).to_contain_text("lower is nearer")


def every_other_page_shows_the_work(page: Page, server: Server) -> None:
    run = server.get("/runs")["runs"][0]
    for name, path, selector in (
        ("start", "/", ".steps"),
        ("corpora", "/corpora", "#corpus table"),
        ("corpus", f"/corpora?corpus={run['corpus_id']}", "#search-button"),
        ("runs", "/runs", "#new-run"),
        ("run", f"/runs?run={run['id']}", "#loss-chart"),
        ("jobs", f"/jobs?job={run['job_id']}", "#job .log"),
    ):
        page.goto(server.address + path)
        expect(page.locator(selector).first).to_be_visible()
        expect(page).to_have_title(re.compile(r"\w+ - RETRO"))
        picture(page, name)
