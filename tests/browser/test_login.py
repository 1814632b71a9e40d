"""A server with an access token, as a browser meets it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.app.real_app import TOKEN
from tests.browser.conftest import Server, serving
from tests.browser.looks import picture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(200)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "home", RETRO_TOKEN=TOKEN) as made:
        yield made


def test_nothing_is_shown_without_the_token_and_all_with_it(page: Page, server: Server) -> None:
    for path in ("/", "/api/v1/system", "/config", "/assets-retro/app.js", "/gradio_api/info"):
        assert httpx.get(server.address + path).status_code == 401

    page.emulate_media(color_scheme="dark")
    page.goto(f"{server.address}/settings")
    expect(page).to_have_url(f"{server.address}/login?next=/settings")
    red = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
    assert int(red) < 60
    page.emulate_media(color_scheme="light")
    picture(page, "login")
    page.get_by_label("Access token").fill("not-the-token-of-this-one")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("not the access token")
    page.get_by_label("Access token").fill(TOKEN)
    page.keyboard.press("Enter")

    expect(page).to_have_url(f"{server.address}/settings")
    expect(page.locator("#set-up")).to_contain_text("An access token is needed.")
    assert TOKEN not in page.content()
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{server.address}/login")
    page.goto(f"{server.address}/jobs")
    expect(page).to_have_url(f"{server.address}/login?next=/jobs")
