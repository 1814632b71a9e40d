"""Pages of large corpora and long runs, and the upload of a folder of many files, in Chromium.

What counts is the answer of the server to a page's questions: its document, and the events by
which Gradio fills it and keeps it up to date.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, Request, sync_playwright

from bench.pages import get, wait_for
from bench.soak.building import TokenSums
from bench.timing import is_quick, print_table
from jobs.home import Home
from jobs.store.rows import DocumentEntry, MetricPoint
from jobs.store.states import JobState
from jobs.store.store import Store
from retro.config.corpus import CorpusConfig
from retro.corpus.build import build_corpus
from retro.data.documents import TextDocument, store_document

CHUNKS, DOCUMENTS, POINTS, FILES = 100_000, 10_000, 50_000, 1_500
CHUNK_SIZE = 16
GOAL_S, UPLOAD_GOAL_S = 0.3, 8.0
LOOK_S = 6.0
CURVES = ("train_loss", "learning_rate", "tokens_per_second", "gradient_norm")
CHROMIUM = "/usr/bin/chromium"


def main() -> None:
    share = 100 if is_quick() else 1
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        home.create()
        store = Store(home.database_url())
        corpus_id = make_corpus(home, store, DOCUMENTS // share)
        run_id = make_run(store, corpus_id, POINTS // share)
        store.close()
        files = make_files(Path(folder) / "notes", FILES // share)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {
            **os.environ,
            "RETRO_HOME": str(home.path),
            "RETRO_PORT": str(port),
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_OFFLINE": "1",
        }
        server = subprocess.Popen([sys.executable, "app.py"], env=environment)
        try:
            base = f"http://127.0.0.1:{port}"
            wait_for(lambda: get(f"{base}/healthz"), 120)
            measure(base, corpus_id, run_id, files)
        finally:
            server.terminate()
            server.wait()


def measure(base: str, corpus_id: str, run_id: str, files: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(60_000)
        rows = []
        for name, address in (
            (f"corpus of {CHUNKS:,} chunks", f"/corpora?corpus={corpus_id}"),
            (f"run of {POINTS:,} points", f"/runs?run={run_id}"),
            ("list of runs", "/runs"),
            ("settings", "/settings"),
        ):
            seconds = answers(page, base + address)
            met = "yes" if seconds[-1] < GOAL_S else "no"
            row = (name, len(seconds), statistics.median(seconds), seconds[-1])
            rows.append([row[0], row[1], f"{row[2] * 1e3:.0f}", f"{row[3] * 1e3:.0f}", met])
        header = ["page", "answers", "median, ms", "slowest, ms", f"all below {GOAL_S:g} s"]
        print_table(header, rows)
        upload_s = upload(page, base, files)
        met = "yes" if upload_s < UPLOAD_GOAL_S else "no"
        print(f"\n{FILES:,} files: {upload_s:.1f} s, goal {UPLOAD_GOAL_S:g} s, met: {met}")
        browser.close()


def answers(page: Page, address: str) -> list[float]:
    """Return how long the server took for each answer, in seconds, in order of length."""
    page.goto(address)  # once, so that what is opened only once is open
    page.wait_for_timeout(LOOK_S * 1e3)
    seconds: list[float] = []

    def note(request: Request) -> None:
        timing = request.timing
        if "/assets" not in request.url and timing["responseEnd"] > 0:
            seconds.append((timing["responseEnd"] - timing["requestStart"]) / 1e3)

    page.on("requestfinished", note)
    page.goto(address)
    page.wait_for_timeout(LOOK_S * 1e3)
    page.remove_listener("requestfinished", note)
    return sorted(seconds)


def upload(page: Page, base: str, files: Path) -> float:
    """Return the seconds from the choice of a folder to the page of its corpus."""
    page.goto(f"{base}/corpora")
    field = page.locator("#new-folder")
    field.wait_for(state="attached")
    begun = time.perf_counter()
    field.set_input_files(files)
    page.wait_for_url("**/corpora?corpus=*")
    return time.perf_counter() - begun


def make_corpus(home: Home, store: Store, documents: int) -> str:
    """Make a corpus that is built, of documents of the same size."""
    corpus = store.create_corpus("large", asdict(CorpusConfig(chunk_size=CHUNK_SIZE)))
    folder = home.corpus_dir(corpus.id)
    chance = np.random.default_rng(0)
    words = ["".join(chance.choice(list("abcdefgh"), 3)) for _ in range(400)]
    per_document = CHUNKS // DOCUMENTS * CHUNK_SIZE
    texts = [
        TextDocument(
            path=f"{row // 100:03d}/{row:05d}.txt",
            text=" ".join(chance.choice(words, per_document)),
            encoding="utf-8",
        )
        for row in range(documents)
    ]
    for start in range(0, len(texts), 500):
        entries = [
            DocumentEntry(
                path=text.path,
                bytes=store_document(folder, text),
                sha256=text.path,
                encoding="utf-8",
            )
            for text in texts[start : start + 500]
        ]
        store.add_documents(corpus.id, entries)
    config = CorpusConfig(chunk_size=CHUNK_SIZE, vocab_size=1000)
    summary = build_corpus(folder, config, embedder=TokenSums)
    print(f"{summary.num_documents:,} documents, {summary.num_chunks:,} chunks\n")
    store.set_corpus_summary(corpus.id, summary.to_dict())
    return corpus.id


def make_run(store: Store, corpus_id: str, points: int) -> str:
    """Make a run that was paused after it measured many values."""
    settings = {"preset": "tiny", "model": {}, "training": {"max_steps": points}}
    run = store.create_run("long", corpus_id, settings, points)
    store.submit("train", run_id=run.id, settings=settings)
    job = store.claim("bench")
    assert job is not None
    assert job.lease_token is not None
    store.transition(job.id, job.lease_token, JobState.STARTING, JobState.RUNNING, pid=1)
    steps = range(1, points // len(CURVES) + 1)
    values = [
        MetricPoint(name=name, step=step, value=3 + 1 / step) for step in steps for name in CURVES
    ]
    store.add_points(run.id, values, job.lease_token, step=steps[-1])
    store.request_cancel(job.id, "pause")
    store.transition(job.id, job.lease_token, JobState.RUNNING, JobState.CANCELED)
    return run.id


def make_files(folder: Path, count: int) -> Path:
    """Make a folder of small texts, in sub-folders."""
    for row in range(count):
        path = folder / f"{row // 100:02d}" / f"{row:04d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"This is the text of note {row}. " * 20)
    return folder


if __name__ == "__main__":
    main()
