"""Writing, looking at what was read, and steering, as people do it in a browser."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from playwright.sync_api import APIResponse, Locator, Page, Route, expect

from app.services.uploads import UploadedFile
from tests.app.real_app import MODEL, TRAINING, WORDS, make_services, run_waiting_jobs
from tests.browser.conftest import Server
from tests.browser.looks import PHONE, picture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

HOSTILE = "<img src=x onerror=window.hacked=1>${window.hacked=1}{{x}}"
PROMPT = f"the cat sat on a mat and saw dogs run far over green hills {HOSTILE}"
LONG = 100_000
LEARNED = {
    **TRAINING,
    "max_steps": 60,
    "eval_every": 60,
    "checkpoint_every": 60,
    "learning_rate": 0.003,
}
"""Enough to know that a text hardly ever ends: by itself it goes on for ever."""


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """The first text waits for torch and the encoder."""
    expect.set_options(timeout=30_000)
    yield
    expect.set_options(timeout=5_000)


@pytest.fixture(autouse=True)
def trained_home(tmp_path: Path) -> None:
    """A model that was trained for a moment, in the home of the server."""
    torch.set_num_threads(1)
    services = make_services(tmp_path / "home")
    corpus = services.corpora.create("letters", settings={"chunk_size": 16, "tokenizer": None})
    vocabulary = WORDS.split()
    files = []
    for number in range(6):
        words = [vocabulary[(number * 7 + i * i) % len(vocabulary)] for i in range(300)]
        text = f"{HOSTILE} {number} " + " ".join(words)
        name = f"folder/{HOSTILE if number else 'plain'} {number}.txt"
        files.append(UploadedFile(path=name, content=io.BytesIO(text.encode())))
    services.uploads.add(corpus.id, files)
    services.corpora.build(corpus.id)
    services.runs.create("first", corpus.id, model=MODEL, training=LEARNED)
    run_waiting_jobs(services)
    services.store.close()


def write(page: Page, **settings: str) -> str:
    """Fill the form, press Generate, and return the id of the text."""
    for name, value in settings.items():
        page.locator(f"#gen-{name.replace('_', '-')} input").fill(value)
    before = page.url
    page.locator("#gen-prompt textarea").fill(PROMPT)
    page.locator("#gen-prompt textarea").press("Control+Enter")
    page.wait_for_url(lambda url: url != before and "gen=" in url)
    return gen_of(page)


def gen_of(page: Page) -> str:
    found = re.search(r"gen=(\w+)", page.url)
    assert found is not None
    return found[1]


def ended(page: Page, state: str = "succeeded") -> None:
    result = page.locator(f"#result[data-generation='{gen_of(page)}']")
    expect(result).to_have_attribute("data-state", state)


def cards(page: Page) -> Locator:
    return page.locator("#result article")


def start(page: Page, server: Server) -> None:
    page.goto(f"{server.address}/generate")
    expect(page.locator("#gen-model input")).not_to_have_value("")
    expect(page.locator("#stop")).to_be_disabled()
    expect(page.locator("#continue")).to_be_disabled()


def newest_branch(page: Page, server: Server, before: str) -> dict[str, Any]:
    page.wait_for_url(lambda url: f"gen={before}" not in url)
    ended(page)
    generation: dict[str, Any] = server.get(f"/generations/{gen_of(page)}")
    assert generation["parent_id"] == before
    return generation


def test_a_text_is_written_looked_at_and_steered(
    page: Page, server: Server, problems: list[str]
) -> None:
    start(page, server)
    stopped = written_live_and_stopped(page)
    continued(page, server, stopped)
    page.get_by_role("radio", name="Balanced").check()
    expect(page.locator("#gen-temperature input")).to_have_value("0.8")
    first = write(page, max_new_tokens="48", seed="5")
    ended(page)
    shown_as_stored(page, server)
    keys_reach_everything(page)
    a_run_is_marked_on_both_sides(page)
    picture(page, "generate-text")

    retrieval_switched_off(page, server, first)
    regenerated = regenerate(page, server, first)
    excluded = exclude(page, server, regenerated)
    edited = edit(page, server, excluded)
    files_can_be_had(server, edited)
    picture(page, "generate-branch")
    side_by_side(page)
    several_texts(page)
    a_text_is_deleted_from_the_history(page, server, stopped)
    a_phone_shows_neighbors_under_the_card(page)
    assert page.evaluate("window.hacked") is None
    assert problems == []


def written_live_and_stopped(page: Page) -> str:
    page.get_by_role("radio", name="Precise").check()
    expect(page.locator("#gen-temperature input")).to_have_value("0.2")
    # The likeliest token is never the end.
    generation_id = write(page, max_new_tokens=str(LONG), temperature="0")
    expect(page.get_by_role("radio", name="Precise")).not_to_be_checked()

    expect(page.locator("article.unfinished .cursor")).to_be_visible()
    expect(page.locator("#stop")).to_be_enabled()
    expect(page.locator("#continue")).to_be_disabled()
    expect(cards(page).nth(6)).to_be_visible()
    nothing_is_lost_while_it_grows(page)
    page.reload()
    expect(cards(page).nth(6)).to_be_visible()
    expect(page.locator("#stop")).to_be_enabled()
    page.locator("#stop").click()
    ended(page, "canceled")
    # A button that is pressed must not come back by itself.
    page.wait_for_timeout(800)
    expect(page.locator("#stop")).to_be_disabled()
    return generation_id


def continued(page: Page, server: Server, stopped: str) -> None:
    num_chunks = len(server.get(f"/generations/{stopped}")["chunks"])
    page.locator("#gen-max-new-tokens input").fill("24")
    page.locator("#continue").click()

    longer = newest_branch(page, server, stopped)
    assert len(longer["chunks"]) in (num_chunks + 1, num_chunks + 2)
    expect(page.locator(".origin")).to_contain_text("Continues")
    page.go_back()
    expect(page.locator(f"#result[data-generation='{stopped}']")).to_be_visible()


def nothing_is_lost_while_it_grows(page: Page) -> None:
    page.locator("#card-on-1").focus()
    page.keyboard.press("Enter")
    page.evaluate("""() => {
      const range = document.createRange();
      range.selectNodeContents(document.querySelector("#card-on-1 .text"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      window.scrollTo(0, 120);
      window.before = String(getSelection());
    }""")
    position = page.evaluate("scrollY")
    num_cards = cards(page).count()

    expect(cards(page).nth(num_cards + 1)).to_be_visible()

    kept = "[document.activeElement.id, scrollY, String(getSelection()) === before]"
    assert page.evaluate(kept) == ["card-on-1", position, True]
    expect(page.locator("[data-side='1']")).to_be_visible()


def shown_as_stored(page: Page, server: Server) -> None:
    generation = server.get(f"/generations/{gen_of(page)}")
    for chunk in generation["chunks"]:
        card = page.locator(f"#card-on-{chunk['index']}")
        assert card.locator(":scope > .text").text_content() == chunk["text"]
        runs = card.locator(":scope > .text [data-run]").count()
        assert (runs > 0) == any(text.strip() for text, run in chunk["segments"] if run)
    last = generation["chunks"][-1]
    page.locator(f"#card-on-{last['index']}").click(position={"x": 4, "y": 4})
    side = page.locator(f"[data-side='{last['index']}']")
    expect(side).to_be_visible()
    expect(side).to_contain_text("of attention")
    expect(side).to_contain_text("lower is nearer")


def keys_reach_everything(page: Page) -> None:
    page.locator("#card-on-1").focus()
    page.keyboard.press("j")
    expect(page.locator("#card-on-2")).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#card-on-1")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("[data-side='1']")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#readout")).to_contain_text("log-prob -")
    page.keyboard.press("Escape")
    expect(page.locator("#card-on-1")).to_be_focused()
    expect(page.locator("#readout")).to_have_count(0)
    page.locator("#gen-model input").focus()
    for key in ("Tab", "Tab", "Shift+Tab", "Shift+Tab", "Shift+Tab"):
        page.keyboard.press(key)
    expect(page.locator("#gen-model input")).not_to_be_focused()
    # Gradio opens a list some time after the key.
    page.wait_for_timeout(400)
    assert page.get_by_role("listbox").count() == 0


def a_run_is_marked_on_both_sides(page: Page) -> None:
    card = page.locator("#result article:has(> .text [data-run]):not(.prompt)").first
    index = card.get_attribute("data-card")
    card.click(position={"x": 4, "y": 4})
    token = card.locator(":scope > .text [data-run]").first
    run = (token.get_attribute("data-run") or "").split()[0]

    token.hover()

    side = page.locator(f"[data-side='{index}']")
    for place in (card.locator(":scope > .text"), side):
        wanted = place.locator(f"[data-run~='{run}']").count()
        assert wanted > 0
        assert place.locator(".marked").count() == wanted
    side.locator(".marked").first.hover()
    expect(token).to_have_class(re.compile("marked"))
    page.mouse.move(0, 0)
    expect(page.locator(".marked")).to_have_count(0)
    card.focus()
    page.keyboard.press("Shift+ArrowRight")
    assert side.locator(".marked").count() > 0


def regenerate(page: Page, server: Server, first: str) -> str:
    card = page.locator("#result article:not(.prompt)").nth(1)
    index = int(card.get_attribute("data-card") or 0)
    card.get_by_role("button", name="Regenerate from here").click()

    child = newest_branch(page, server, first)
    assert child["branch_index"] == index
    parent = server.get(f"/generations/{first}")
    assert child["chunks"][:index] == parent["chunks"][:index]
    assert child["seed"] != parent["seed"]
    expect(page.locator(".origin")).to_contain_text(f"from chunk {index + 1}")
    expect(page.locator("article.inherited")).to_have_count(index)
    return gen_of(page)


def exclude(page: Page, server: Server, before: str) -> str:
    chunk = server.get(f"/generations/{before}")["chunks"][-1]
    card = page.locator(f"#card-on-{chunk['index']}")
    card.get_by_role("button", name="Exclude and branch").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Branch", exact=True).click()
    expect(dialog).to_contain_text("Nothing was ticked")
    page.keyboard.press("Escape")
    expect(card).to_be_focused()

    card.get_by_role("button", name="Exclude and branch").click()
    dialog.get_by_role("checkbox", name="Neighbor 1").check()
    dialog.get_by_role("button", name="Branch", exact=True).click()

    child = newest_branch(page, server, before)
    left_out = chunk["neighbors"][0]["chunk_id"]
    read = [one["chunk_id"] for one in child["chunks"][chunk["index"]]["neighbors"]]
    assert left_out not in read
    assert child["seed"] == server.get(f"/generations/{before}")["seed"]
    place = f"chunk {chunk['neighbors'][0]['chunk_index'] + 1}"
    expect(page.locator(".origin")).to_contain_text(
        f"without neighbor {chunk['neighbors'][0]['document']} {place}"
    )
    return gen_of(page)


def retrieval_switched_off(page: Page, server: Server, before: str) -> None:
    card = page.locator("#result article:not(.prompt)").nth(1)
    index = int(card.get_attribute("data-card") or 0)
    card.get_by_role("button", name="Exclude and branch").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("checkbox", name="retrieval off from here on").check()
    dialog.get_by_role("button", name="Branch", exact=True).click()

    child = newest_branch(page, server, before)
    assert child["settings"]["retrieval"] == "off"
    assert child["seed"] == server.get(f"/generations/{before}")["seed"]
    assert child["chunks"][index]["neighbors"] == []
    a_late_answer_is_put_right(page)


def a_late_answer_is_put_right(page: Page) -> None:
    held: list[tuple[Route, APIResponse]] = []

    def hold(route: Route) -> None:
        if held or "stamps" not in (route.request.post_data or ""):
            route.continue_()
        else:
            held.append((route, route.fetch()))

    late = gen_of(page)
    page.evaluate("document.querySelector('#output template').dataset.seen = ''")
    page.route("**/gradio_api/**", hold)
    while not held:
        page.wait_for_timeout(100)
    page.go_back()
    ended(page)
    route, answer = held[0]
    assert late in answer.text()
    route.fulfill(response=answer)
    page.unroute("**/gradio_api/**")
    page.wait_for_timeout(1500)
    ended(page)


def edit(page: Page, server: Server, before: str) -> str:
    chunk = server.get(f"/generations/{before}")["chunks"][-1]
    card = page.locator(f"#card-on-{chunk['index']}")
    card.get_by_role("button", name="Edit neighbors").click()
    dialog = page.get_by_role("dialog")
    texts = dialog.get_by_label("Text", exact=True)
    dialog.get_by_role("button", name="Branch", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("Nothing was changed")
    expect(dialog.get_by_role("alert")).to_be_in_viewport(ratio=1)
    texts.first.fill("the cat saw a dog")
    dialog.get_by_role("button", name="Add one by hand").click()
    texts.last.fill(HOSTILE)
    dialog.get_by_text("Choose a chunk of the corpus").click()
    dialog.get_by_label("Text to search for").fill("green hills")
    dialog.get_by_role("button", name="Find").click()
    found = dialog.get_by_role("button", name="Add", exact=True)
    expect(found.last).to_be_in_viewport(ratio=1)
    found.first.click()
    expect(found.first).to_be_focused()
    dialog.get_by_role("button", name="Branch", exact=True).click()

    child = newest_branch(page, server, before)
    neighbors = child["chunks"][chunk["index"]]["neighbors"]
    sources = [one["source"] for one in neighbors]
    assert sources == ["edited", *["chosen"] * (len(chunk["neighbors"]) - 1), "written", "chosen"]
    assert neighbors[0]["text"] == "the cat saw a dog"
    # One chunk of it is read.
    assert HOSTILE.startswith(neighbors[-2]["text"])
    expect(page.locator(".origin")).to_contain_text("with neighbors set by hand")
    side = page.locator(f"[data-side='{chunk['index']}']")
    expect(side).to_contain_text("written by hand")
    expect(side).to_contain_text(neighbors[-2]["text"])
    return gen_of(page)


def files_can_be_had(server: Server, generation_id: str) -> None:
    for name, media_type in (("json", "json"), ("markdown", "markdown"), ("html", "html")):
        answer = httpx.get(
            f"{server.address}/api/v1/generations/{generation_id}/export?format={name}"
        )
        assert answer.status_code == 200
        assert media_type in answer.headers["content-type"]
        assert "attachment" in answer.headers["content-disposition"]


def side_by_side(page: Page) -> None:
    page.get_by_role("radio", name="Side by side").check()
    write(page, max_new_tokens="32")
    ended(page)
    for index in (1, 2):
        on = page.locator(f"#card-on-{index}").bounding_box()
        off = page.locator(f"#card-off-{index}").bounding_box()
        assert on is not None
        assert off is not None
        assert on["y"] == off["y"]
        assert on["x"] < off["x"]
    heads = page.locator(".side-head")
    for place in (0, 1):
        expect(heads.nth(place)).to_contain_text(re.compile(r"on -\d+\.\d+ off -\d+\.\d+"))
        expect(heads.nth(place)).to_contain_text("s per chunk")
    page.locator("#card-on-1 summary").click()
    expect(page.locator("#card-on-1 .neighbor").first).to_be_visible()
    picture(page, "generate-both")


def several_texts(page: Page) -> None:
    page.get_by_role("radio", name="On", exact=True).check()
    page.get_by_role("button", name="More settings").click()
    write(page, max_new_tokens="20", num_samples="2")
    ended(page)
    first = page.locator("#result").text_content()
    page.get_by_role("link", name="Text 2").click()
    page.wait_for_url("**text=2*")
    expect(page.locator("#card-on-1-1")).to_be_visible()
    assert page.locator("#result").text_content() != first


def a_text_is_deleted_from_the_history(page: Page, server: Server, oldest: str) -> None:
    history = page.locator("#history li")
    before = history.count()
    row = page.locator(f"#history li:has(a[href='/generate?gen={oldest}'])")
    assert page.locator("#history .tag", has_text="branch").count() == 5
    row.get_by_role("button", name="Delete").click()
    page.locator("dialog").get_by_role("button", name="Keep it").click()
    row.get_by_role("button", name="Delete").click()
    page.locator("dialog").get_by_role("button", name="Delete").click()
    expect(history).to_have_count(before - 1)
    expect(row).to_have_count(0)
    answer = httpx.get(f"{server.address}/api/v1/generations/{oldest}")
    assert answer.status_code == 404


def a_phone_shows_neighbors_under_the_card(page: Page) -> None:
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]  # playwright's own TypedDict
    card = page.locator("#result article:not(.prompt)").first
    expect(card.locator(".neighbor").first).to_be_hidden()
    card.locator("summary").click()
    expect(card.locator(".neighbor").first).to_be_visible()
    expect(page.locator(".side")).to_be_hidden()
