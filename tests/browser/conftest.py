"""The real app in a process of its own, and Chromium to use it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # has no types
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[2]
ARTIFACTS = ROOT / "test-artifacts"
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
]
START_S = 120.0
NOISE = ("AbortError", "Connection errored out", "BodyStreamBuffer was aborted")
"""What Gradio's client logs when a page is left."""


@dataclass(frozen=True)
class Server:
    """A running app with a home folder of its own."""

    address: str
    home: Path

    def get(self, path: str) -> Any:
        """Return the JSON answer of a REST route."""
        answer = httpx.get(f"{self.address}/api/v1{path}", timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "home") as made:
        yield made


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One app for the tests of a file that leave each other's corpora alone."""
    with serving(tmp_path_factory.mktemp("shared") / "home") as made:
        yield made


@contextmanager
def serving(home: Path, **environ: str) -> Iterator[Server]:
    """Run the app with a home folder until the block ends."""
    made = Server(f"http://127.0.0.1:{free_port()}", home)
    process = start_app(made, **environ)
    try:
        yield made
    finally:
        stop(process, home)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start_app(server: Server, **environ: str) -> subprocess.Popen[bytes]:
    """Start the app where ``server`` says, and return when it answers."""
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={
            **os.environ,
            "RETRO_HOME": str(server.home),
            "RETRO_PORT": server.address.rpartition(":")[2],
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_OFFLINE": "1",
            **environ,
        },
        start_new_session=True,
    )
    try:
        wait_for_server(server, process)
    except BaseException:
        stop(process, server.home)
        raise
    return process


def wait_for_server(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the app ended"
        try:
            if httpx.get(f"{server.address}/healthz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the app did not start")


def stop(process: subprocess.Popen[bytes], home: Path) -> None:
    """End the app, and the jobs of this home, which would go on without it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for left in psutil.process_iter(["environ"]):
        if (left.info["environ"] or {}).get("RETRO_HOME") == str(home):
            left.kill()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = CHROMIUM if CHROMIUM.exists() else shutil.which("chromium")
    if found is None:
        message = "Chromium is needed for these tests, and /usr/bin/chromium is not there."
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(found), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def problems() -> list[str]:
    """Page errors, console errors and requests to other hosts, as they happen."""
    return []


@pytest.fixture
def page(browser: Browser, server: Server, problems: list[str]) -> Iterator[Page]:
    with opened(browser, server, problems) as page:
        yield page


@contextmanager
def opened(browser: Browser, server: Server, problems: list[str]) -> Iterator[Page]:
    """Open a browser of its own, as another person has one, and note what goes wrong in it."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    page = context.new_page()
    page.set_default_timeout(30_000)

    def note(text: str) -> None:
        if not any(noise in text for noise in NOISE):
            problems.append(text)

    page.on("pageerror", lambda error: note(f"page error: {error}"))
    page.on(
        "console",
        lambda message: note(f"console: {message.text}") if message.type == "error" else None,
    )
    page.on(
        "request",
        lambda request: (
            note(f"foreign request: {request.url}")
            if not request.url.startswith((server.address, "data:", "blob:"))
            else None
        ),
    )
    try:
        yield page
    finally:
        context.close()
