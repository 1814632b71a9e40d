"""Takes the pictures in ``docs/``: ``python -m bench.pictures FOLDER [--home HOME]``.

FOLDER holds text files. A corpus is built from them and two small models are trained, which
takes minutes; a home of an earlier call is used as it is. The pictures show the app in light, at
the width of a laptop.
"""

import argparse
import io
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import ARGUMENTS, CHROMIUM, ROOT, Server, serving

WIDTH = 1360
TALLEST = 1500
COLORS = 256
LARGEST_BYTES = 240_000
TRAINING = {"sequence_length": 128, "batch_size": 4, "eval_every": 40, "checkpoint_every": 80}
RUNS = {
    "tiny, as preset": {"learning_rate": 0.003},
    "tiny, slower": {"learning_rate": 0.0008},
}
PROMPT = "Geography\nTotal area: 83,850 km2; land area: 82,730 km2\n"
LONGEST_S = 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="text files to build a corpus from")
    parser.add_argument("--home", type=Path, help="home folder that is kept (default: a new one)")
    parser.add_argument("--documents", type=int, default=120, help="how many of the files")
    parser.add_argument("--steps", type=int, default=240, help="steps of each run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = arguments.home or Path(temporary) / "home"
        with serving(home) as server:
            if not get(server, "/runs")["runs"]:
                fill(server, arguments.folder, arguments.documents, arguments.steps)
            if not get(server, "/generations")["generations"]:
                write_texts(server)
            take_all(server)


def get(server: Server, path: str) -> Any:
    return httpx.get(f"{server.address}/api/v1{path}", timeout=120).raise_for_status().json()


def post(server: Server, path: str, **options: Any) -> Any:
    answer = httpx.post(f"{server.address}/api/v1{path}", timeout=600, **options)
    return answer.raise_for_status().json()


def fill(server: Server, folder: Path, num_documents: int, num_steps: int) -> None:
    """Build a corpus and train two models on it."""
    corpus = post(
        server, "/corpora", json={"name": "World Factbook 1990", "settings": {"tokenizer": None}}
    )["id"]
    paths = sorted(folder.glob("*.txt"))[:num_documents]
    files = [("files", (path.name, path.read_bytes())) for path in paths]
    names = {"paths": [f"factbook/{path.name}" for path in paths]}
    post(server, f"/corpora/{corpus}/files", files=files, data=names)
    post(server, f"/corpora/{corpus}/build", json={})
    runs = []
    for name, changed in RUNS.items():
        training = {**TRAINING, **changed, "max_steps": num_steps}
        body = {"name": name, "corpus_id": corpus, "preset": "tiny", "training": training}
        runs.append(post(server, "/runs", json=body)["id"])
    for run in runs:
        wait_until(server, f"/runs/{run}", {"succeeded", "canceled"})


def write_texts(server: Server) -> None:
    """Write a text with retrieval on and off, then the one that is shown."""
    run = get(server, "/runs")["runs"][-1]["id"]
    for retrieval in ("both", "on"):
        body = {"run_id": run, "prompt": PROMPT, "retrieval": retrieval}
        text = post(server, "/generations", json={**body, "max_new_tokens": 192, "top_p": 0.9})
        wait_until(server, f"/generations/{text['id']}", {"succeeded"})


def wait_until(server: Server, path: str, states: set[str]) -> None:
    deadline = time.monotonic() + LONGEST_S
    while (found := get(server, path))["state"] not in states:
        if time.monotonic() > deadline or found["state"] in ("failed", "dead"):
            raise SystemExit(f"{path} should be {states}, got {found['state']}.")
        time.sleep(1)


def take_all(server: Server) -> None:
    """Take one picture of each page."""
    runs = get(server, "/runs")["runs"]
    first, second = runs[-1], runs[0]
    corpus = first["corpus_id"]
    text = get(server, "/generations?limit=1")["generations"][0]["id"]
    pages = {
        "start": ("/", ".steps"),
        "corpora": (f"/corpora?corpus={corpus}", "#page table"),
        "runs": (f"/runs?run={first['id']}", "#page svg"),
        "compare": (f"/runs?compare={first['id']},{second['id']}", "#page svg"),
        "generate": (f"/generate?gen={text}", "#result article"),
        "jobs": (f"/jobs?job={first['job_id']}", "#jobs table"),
        "settings": ("/settings", "#storage table"),
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        page = browser.new_page(
            viewport={"width": WIDTH, "height": 900}, color_scheme="light", device_scale_factor=1
        )
        for name, (address, selector) in pages.items():
            page.goto(server.address + address)
            page.locator(selector).first.wait_for(timeout=120_000)
            if name == "generate":
                page.locator("#result article").nth(2).click(position={"x": 5, "y": 5})
            page.wait_for_timeout(2500)
            save(page, ROOT / "docs" / f"{name}.png")
        browser.close()


def save(page: Page, path: Path) -> None:
    """Save the upper part of a page, with fewer colors where it would be a large file."""
    height = min(TALLEST, page.evaluate("document.documentElement.scrollHeight"))
    taken = page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": height})
    picture = Image.open(io.BytesIO(taken)).convert("RGB")
    picture.save(path, optimize=True)
    if path.stat().st_size > LARGEST_BYTES:
        picture.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
