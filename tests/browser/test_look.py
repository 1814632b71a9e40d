"""Every page as it looks: light, dark, on a phone, by keyboard, with hostile text."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Server, opened, serving
from tests.browser.homes import HOSTILE, OVERRIDE, make_trained_home
from tests.browser.looks import PHONE, picture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(400)]

TEXT_S = 120
SERIOUS = ("serious", "critical")
PAGES = {
    "start": ("/", ".steps"),
    "corpora": ("/corpora", "#page table"),
    "corpus": ("/corpora?corpus={corpus}", "#page h1"),
    "runs": ("/runs", "#page table"),
    "run": ("/runs?run={run}", "#page h1"),
    "generate": ("/generate?gen={generation}", "#result article"),
    "jobs": ("/jobs", "#jobs table"),
    "job": ("/jobs?job={job}", "#job .log"),
    "settings": ("/settings", "#set-up h2"),
}


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """A page that waits for a large part of Gradio for the first time takes its time."""
    expect.set_options(timeout=30_000)
    yield
    expect.set_options(timeout=5_000)


@pytest.fixture(scope="module")
def ids() -> dict[str, str]:
    """Ids of what is shown; filled by the server."""
    return {}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, ids: dict[str, str]) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("look") / "home"
    ids.update(make_trained_home(home))
    with serving(home) as made:
        ids["generation"] = write(made, ids["run"])
        yield made


def write(server: Server, run_id: str) -> str:
    body = {"run_id": run_id, "prompt": f"{HOSTILE} the cat sat on a mat"}
    answer = httpx.post(
        f"{server.address}/api/v1/generations", json={**body, "max_new_tokens": 40}, timeout=TEXT_S
    )
    assert answer.status_code in (200, 201, 202), answer.text
    generation_id = str(answer.json()["id"])
    deadline = time.monotonic() + TEXT_S
    while server.get(f"/generations/{generation_id}")["state"] != "succeeded":
        assert time.monotonic() < deadline, "the text was not written"
        time.sleep(0.5)
    return generation_id


def open_page(page: Page, server: Server, ids: dict[str, str], name: str) -> None:
    address, selector = PAGES[name]
    page.goto(server.address + address.format(**ids))
    expect(page.locator(selector).first).to_be_visible()


def findings(page: Page, name: str) -> list[str]:
    """Return what axe finds to be serious or critical."""
    found: dict[str, Any] = Axe().run(page).response
    return [
        f"{name}: {violation['id']}: {node['html'][:160]} {json.dumps(node['any'])[:300]}"
        for violation in found["violations"]
        if violation["impact"] in SERIOUS
        for node in violation["nodes"]
    ]


def test_every_page_in_light_and_dark_and_on_a_phone(
    page: Page, server: Server, ids: dict[str, str], problems: list[str]
) -> None:
    found: list[str] = []
    for name in PAGES:
        open_page(page, server, ids, name)
        page.wait_for_timeout(300)
        found += findings(page, name)
        picture(page, name)
        page.emulate_media(color_scheme="dark")
        page.wait_for_timeout(600)
        found += findings(page, f"{name} in dark")
        page.emulate_media(color_scheme="light")
        assert page.evaluate("window.hacked") is None, f"{name} ran a script from a name or a text"

    assert found == []
    assert problems == []


def test_hostile_names_are_shown_as_text(page: Page, server: Server, ids: dict[str, str]) -> None:
    for name in ("start", "corpora", "corpus", "runs", "run", "jobs", "job"):
        open_page(page, server, ids, name)
        assert HOSTILE in page.locator("#page").inner_text(), f"{name} does not show the name"
        assert OVERRIDE not in page.content(), f"{name} lets a text turn its direction"
    assert page.evaluate("window.hacked") is None


def test_the_theme_is_kept_and_there_before_the_first_paint(
    page: Page, server: Server, ids: dict[str, str]
) -> None:
    page.emulate_media(color_scheme="light")
    open_page(page, server, ids, "settings")
    page.get_by_role("radio", name="Dark").check(force=True)
    assert is_dark(page)

    for address in ("/jobs", "/api/v1/docs", "/settings"):
        page.add_init_script(FIRST_BODY)
        page.goto(server.address + address)
        assert page.evaluate("window.firstBody") is True, f"{address} flashes"
        page.wait_for_timeout(1500)
        assert is_dark(page), f"{address} lost the choice"
    expect(page.get_by_role("radio", name="Dark")).to_be_checked()
    page.emulate_media(color_scheme="dark")
    page.get_by_role("radio", name="Light").check(force=True)
    assert not is_dark(page)
    page.get_by_role("radio", name="As the system").check(force=True)
    assert is_dark(page)


FIRST_BODY = """
window.firstBody = undefined;
new MutationObserver((_, observer) => {
  if (!document.body) return;
  observer.disconnect();
  window.firstBody = document.documentElement.classList.contains('dark');
}).observe(document, {childList: true, subtree: true});
"""


def is_dark(page: Page) -> bool:
    red = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
    return int(red) < 60


def test_everything_can_be_done_by_keyboard(
    page: Page, server: Server, ids: dict[str, str]
) -> None:
    open_page(page, server, ids, "run")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#page') !== null")

    outlines = set()
    for _ in range(25):
        page.keyboard.press("Tab")
        outlines.add(page.evaluate(OUTLINE))
    assert outlines.isdisjoint({"none", "0px"}), "something with focus does not show it"

    delete = page.get_by_role("button", name="Delete", exact=True).first
    delete.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog.ask")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(delete).to_be_focused()
    assert server.get(f"/runs/{ids['run']}")["id"] == ids["run"]


OUTLINE = """() => {
  const found = document.activeElement;
  const label = found.closest('label') || found;
  const box = found.closest('.wrap') || found;
  return [found, label, box].map((one) => getComputedStyle(one))
    .map((style) => style.outlineStyle !== 'none' ? style.outlineWidth : 'none')
    .find((width) => width !== 'none') || (found === document.body ? 'body' : 'none');
}"""


def test_the_strip_fits_a_phone(browser: Browser, server: Server, problems: list[str]) -> None:
    with opened(browser, server, problems) as page:
        page.set_viewport_size(PHONE)  # type: ignore[arg-type]  # playwright's own TypedDict
        page.goto(server.address)
        strip = page.locator("#strip")
        expect(strip).to_contain_text("free")
        box = strip.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
