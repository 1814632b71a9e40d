"""The Runs pages in a browser: curves with options that last, comparing, editing, the form."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from jobs.home import Home
from jobs.store.store import Store
from tests.browser.conftest import Server
from tests.browser.looks import picture
from tests.browser.run_rows import add_corpus, add_points, add_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HOSTILE = "<img src=x onerror=\"document.title='taken'\">"
SHORT_NOTE = "First line\nsecond <b>line</b>"


@dataclass(frozen=True)
class Rows:
    """What is in the database of the server."""

    store: Store
    first: str
    second: str
    corpus: str


@pytest.fixture(autouse=True)
def _patient() -> Iterator[None]:
    expect.set_options(timeout=20_000)
    yield
    expect.set_options(timeout=5_000)


@pytest.fixture(autouse=True)
def rows(tmp_path: Path) -> Iterator[Rows]:
    home = Home(tmp_path / "home")
    home.create()
    store = Store(home.database_url())
    store.check()
    corpus = add_corpus(store)
    first = add_run(store, corpus, "first", step=300)
    add_points(store, first, range(5, 305, 5))
    second = add_run(store, corpus, HOSTILE, step=300, seed=5)
    add_points(store, second, range(5, 305, 5), speed=200.0)
    add_run(store, corpus, "nothing yet", step=0)
    yield Rows(store, first, second, corpus)
    store.close()


def legend(page: Page, name: str) -> Locator:
    return page.locator(f"#plot-loss-{name}")


def test_curves_keep_their_options_focus_and_place(
    page: Page, server: Server, rows: Rows, problems: list[str]
) -> None:
    page.goto(f"{server.address}/runs?run={rows.first}")
    expect(legend(page, "val_loss_on")).to_contain_text(re.compile(r"\d\.\d"))
    expect(page.locator(".plot:visible")).to_have_count(5)
    page.locator("#plot-smoothing").fill("0.8")
    page.locator("#plot-loss-log").click()
    legend(page, "train_loss").click()
    box = page.locator("#plot-loss-box")
    box.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    expect(box).to_have_attribute("aria-valuenow", "100")
    read_at_100 = box.get_attribute("aria-valuetext") or ""
    assert "step 100: validation, retrieval on" in read_at_100
    assert "training" not in read_at_100

    add_points(rows.store, rows.first, range(305, 605, 5))

    expect(box).to_have_attribute("aria-valuemax", "600")
    expect(box).to_be_focused()
    expect(box).to_have_attribute("aria-valuenow", "100")
    expect(box).to_have_attribute("aria-valuetext", read_at_100)
    expect(page.locator("#runs")).to_contain_text("step 600")
    page.locator("#plot-loss-values summary").click()
    assert page.locator("#plot-loss-values tbody tr").count() <= 41
    expect(page.locator("#plot-loss-values tbody tr").last).to_contain_text("600")

    page.reload()
    options_are_kept(page)
    page.goto(f"{server.address}/runs?compare={rows.first},{rows.second}")
    expect(page.locator("#plot-smoothing")).to_have_value("0.8")
    page.goto(f"{server.address}/runs?run={rows.second}")
    options_are_kept(page)
    expect(page.locator("#run-heading")).to_have_text(HOSTILE)
    legend(page, "train_loss").click()
    picture(page, "run")
    values_are_read_at_the_pointer_and_steps_are_chosen(page)
    assert problems == []


def options_are_kept(page: Page) -> None:
    expect(page.locator("#plot-smoothing")).to_have_value("0.8")
    expect(page.locator("#plot-loss-log")).to_have_attribute("aria-pressed", "true")
    expect(legend(page, "train_loss")).to_have_attribute("aria-pressed", "false")
    expect(legend(page, "val_loss_on")).to_have_attribute("aria-pressed", "true")
    # Smoothed curves lie over their raw ones, and the hidden one is not drawn.
    assert page.locator("#plot-loss svg.curves path.raw").count() == 2


def values_are_read_at_the_pointer_and_steps_are_chosen(page: Page) -> None:
    box = page.locator("#plot-loss-box").bounding_box()
    assert box is not None
    middle, height = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle, height)
    expect(page.locator("#plot-loss .plot-step")).to_contain_text("step 1")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 20, height, steps=4)
    page.mouse.up()
    expect(page.locator("#plot-loss-box")).not_to_have_attribute("aria-valuemin", "0")
    page.locator("#plot-whole").click()
    expect(page.locator("#plot-loss-box")).to_have_attribute("aria-valuemin", "0")


def test_runs_are_chosen_compared_described_and_estimated(
    page: Page, server: Server, rows: Rows, problems: list[str]
) -> None:
    page.goto(f"{server.address}/runs")
    the_form_estimates_what_is_typed(page)
    picture(page, "runs-list")
    two_runs_are_compared(page, server, rows)
    a_run_is_described(page, server, rows)
    page.goto(f"{server.address}/runs?run={rows.second}")
    page.get_by_role("link", name="Duplicate").click()
    expect(page.locator("#page h1")).to_have_text(f"Duplicate {HOSTILE}")
    page.locator("#run-advanced button").first.click()
    expect(page.locator("#run-seed input")).to_have_value("5")
    picture(page, "run-duplicate")
    page.locator("#run-name input, #run-name textarea").first.fill("again")
    page.locator("#start-run").click()
    page.wait_for_url(lambda url: "run=" in url and rows.second not in url)
    expect(page.locator("#run-heading")).to_have_text("again")
    made = server.get("/runs")["runs"][0]
    assert (made["name"], made["parent_id"]) == ("again", rows.second)
    assert made["settings"]["training"] == {"seed": 5}
    assert page.title() != "taken"
    assert problems == []


def the_form_estimates_what_is_typed(page: Page) -> None:
    memory = page.locator("#estimate-memory")
    expect(memory).to_contain_text("GB")
    before = memory.inner_text()
    size = page.locator("#run-batch_size input")
    size.fill("64")
    expect(memory).not_to_have_text(before)
    size.fill("0")
    expect(page.locator("#run-estimate")).to_contain_text("batch_size must be a whole number")
    page.locator("#start-run").click()
    expect(page.get_by_text("batch_size must be a whole number").last).to_be_visible()
    expect(size).to_have_value("0")
    size.fill("4")
    expect(memory).to_have_text(before)
    expect(page.locator("#run-estimate")).to_contain_text("rough figure")
    page.locator("#preset-table summary").click()
    expect(page.locator("#preset-table tbody tr")).to_have_count(7)


def two_runs_are_compared(page: Page, server: Server, rows: Rows) -> None:
    compare = page.locator("#compare")
    expect(compare).to_be_disabled()
    page.locator(f"[data-compare='{rows.second}']").check()
    page.locator(f"[data-compare='{rows.first}']").check()
    # The list is shown again when something changes; what is ticked stays ticked.
    rows.store.describe_run(rows.first, tags=["kept"])
    expect(page.locator("#runs tbody")).to_contain_text("kept")
    expect(compare).to_have_text("Compare 2 runs")
    assert page.locator("[data-compare]:checked").count() == 2
    compare.click()
    page.wait_for_url(lambda url: "compare=" in url)
    expect(page.locator(".legend-item:visible")).to_have_count(2)
    expect(page.locator(".legend")).to_contain_text(HOSTILE)
    expect(page.locator("#run-details")).to_contain_text("seed")
    page.locator("#compare-metric").select_option("train_loss")
    expect(page.locator("#plot-compare-train_loss h2")).to_have_text("Training loss")
    assert "metric=train_loss" in page.url
    page.reload()
    expect(page.locator("#compare-metric")).to_have_value("train_loss")
    expect(page.locator("#plot-compare-train_loss path.line.c1").last).to_be_visible()
    picture(page, "runs-compare")
    page.goto(f"{server.address}/runs?compare={rows.first},nothing,{rows.second}")
    expect(page.locator("#runs")).to_contain_text("There is no run nothing")


def a_run_is_described(page: Page, server: Server, rows: Rows) -> None:
    page.goto(f"{server.address}/runs?run={rows.first}")
    page.locator("#rename").click()
    page.locator("#new-name").fill("renamed")
    page.keyboard.press("Enter")
    expect(page.locator("#run-heading")).to_have_text("renamed")
    page.locator("#add-tag").fill("<i>tag</i>")
    page.keyboard.press("Enter")
    expect(page.locator("[data-tag]")).to_have_count(2)
    page.get_by_role("button", name="Remove tag kept").click()
    expect(page.locator("[data-tag]")).to_have_count(1)
    page.locator("#run-notes-text").fill(SHORT_NOTE)
    page.reload()
    expect(page.locator("#run-notes-text")).to_have_value(SHORT_NOTE)
    page.locator("#save-notes").click()
    expect(page.locator("#notes-state")).to_have_text("Saved.")
    kept = server.get(f"/runs/{rows.first}")
    assert (kept["name"], kept["tags"], kept["notes"]) == ("renamed", ["<i>tag</i>"], SHORT_NOTE)
    page.locator("[data-tag] a").click()
    expect(page.locator("#runs tbody tr")).to_have_count(1)
    page.goto(f"{server.address}/runs?run={rows.first}")
    page.locator("#run-command-fold summary").click()
    expect(page.locator("#run-command")).to_contain_text("python -m retro train")
