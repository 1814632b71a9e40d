"""Pictures of pages for people, and what can be checked of a page's look."""

from playwright.sync_api import Page

from tests.browser.conftest import ARTIFACTS

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1360, "height": 900}

UNLABELLED = """() => [...document.querySelectorAll('input, textarea, select')]
  .filter((field) => field.offsetParent !== null && !field.labels?.length
    && !field.getAttribute('aria-label') && !field.getAttribute('aria-labelledby'))
  .map((field) => field.outerHTML.slice(0, 120))"""

CUT_OFF = """() => [...document.querySelectorAll('.btn, button, a, input, textarea')]
  .filter((item) => item.offsetParent !== null && item.closest('.gradio-container')
    && item.getBoundingClientRect().right > innerWidth + 1)
  .map((item) => item.outerHTML.slice(0, 120))"""


def picture(page: Page, name: str) -> None:
    """Save a page in light, in dark, and as a phone shows it; it must fit the phone."""
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}-light.png", full_page=True)
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]  # playwright's own TypedDict
    page.wait_for_timeout(300)
    width = page.evaluate("document.documentElement.scrollWidth")
    cut_off = page.evaluate(CUT_OFF)
    page.screenshot(path=ARTIFACTS / f"{name}-phone.png", full_page=True)
    page.set_viewport_size(DESK)  # type: ignore[arg-type]  # playwright's own TypedDict
    page.emulate_media(color_scheme="dark")
    # Colors change over a moment.
    page.wait_for_timeout(600)
    page.screenshot(path=ARTIFACTS / f"{name}-dark.png", full_page=True)
    page.emulate_media(color_scheme="light")
    assert width <= PHONE["width"], f"{name} is {width} pixels wide on a phone"
    assert cut_off == [], f"{name} cuts off what could be pressed on a phone"
    assert page.evaluate(UNLABELLED) == [], f"{name} has fields without a label"
