"""Work goes on: through reloads, pauses, a killed worker, a new web server, and other people."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.app.real_app import MODEL, WORDS
from tests.browser.conftest import Server, opened, serving, start_app, stop

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(500)]

LONG = 1_000_000
WAIT_S = 150
TRAINING = {
    "max_steps": LONG,
    "batch_size": 2,
    "sequence_length": 64,
    "warmup_steps": 1,
    "eval_every": 500,
    "eval_sequences": 2,
    "checkpoint_every": 50,
    "log_every": 25,
    "precision": "float32",
}


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """The device is at work all the time."""
    expect.set_options(timeout=30_000)
    yield
    expect.set_options(timeout=5_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("survival") / "home") as made:
        yield made


def call(server: Server, method: str, path: str, **options: Any) -> httpx.Response:
    return httpx.request(method, f"{server.address}/api/v1{path}", timeout=60, **options)


def make_corpus(server: Server, name: str) -> str:
    # Its runs train RETRO from scratch, on this corpus and not on a copy of it.
    body = {"name": name, "settings": {"tokenizer": None}}
    corpus_id = str(call(server, "POST", "/corpora", json=body).json()["id"])
    vocabulary = WORDS.split()
    texts = [
        " ".join(vocabulary[(number * 7 + i * i) % len(vocabulary)] for i in range(400))
        for number in range(12)
    ]
    files = [("files", (f"{number}.txt", text.encode())) for number, text in enumerate(texts)]
    paths = {"paths": [f"{number}.txt" for number in range(len(texts))]}
    answer = call(server, "POST", f"/corpora/{corpus_id}/files", files=files, data=paths)
    assert len(answer.json()["accepted"]) == len(texts), answer.text
    return corpus_id


def start_run(server: Server, name: str, corpus_id: str) -> str:
    body = {"name": name, "corpus_id": corpus_id, "model": MODEL, "training": TRAINING}
    answer = call(server, "POST", "/runs", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def wait_until(what: str, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, f"not seen: {what}"
        time.sleep(0.25)


def run_of(server: Server, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = server.get(f"/runs/{run_id}")
    return found


def wait_for_steps(server: Server, run_id: str, above: int) -> int:
    wait_until(f"steps above {above}", lambda: int(run_of(server, run_id)["step"]) > above)
    return int(run_of(server, run_id)["step"])


def steps_of_curve(server: Server, run_id: str) -> list[int]:
    points = server.get(f"/runs/{run_id}/metrics?name=train_loss&max_points=1500")["points"]
    return [point["step"] for point in points]


def assert_continuous(server: Server, run_id: str) -> None:
    """The curve has each of its steps once, and none is missing."""
    steps = steps_of_curve(server, run_id)
    assert len(steps) > 3
    gaps = {later - earlier for earlier, later in pairwise(steps)}
    assert gaps == {TRAINING["log_every"]}, steps


def test_work_goes_on_whatever_happens(
    page: Page, browser: Browser, server: Server, problems: list[str]
) -> None:
    corpus_id = make_corpus(server, "letters")
    reloaded_while_building(page, server, corpus_id)
    run_id = start_run(server, "long run", corpus_id)
    reloaded_while_training(page, server, run_id)
    paused_and_resumed(page, server, run_id)
    seen_by_another_person(browser, server, corpus_id, run_id, problems)
    worker_and_job_are_killed(page, server, run_id)
    assert problems == []
    a_needed_corpus_stays_and_a_deleted_one_frees_the_disk(page, server, corpus_id, run_id)
    # Browsers report a refusal by themselves.
    assert [problem for problem in problems if "409 (Conflict)" not in problem] == []


def reloaded_while_building(page: Page, server: Server, corpus_id: str) -> None:
    job_id = call(server, "POST", f"/corpora/{corpus_id}/build", json={}).json()["id"]
    page.goto(f"{server.address}/jobs?job={job_id}")
    expect(page.locator("#job .state").first).to_be_visible()
    page.reload()
    expect(page.locator("#job h2")).to_contain_text("build")
    jobs = server.get("/jobs")["jobs"]
    assert [job["id"] for job in jobs] == [job_id]
    expect(page.locator("#job .state.succeeded").first).to_be_visible(timeout=WAIT_S * 1000)
    assert server.get(f"/corpora/{corpus_id}")["state"] == "ready"


def reloaded_while_training(page: Page, server: Server, run_id: str) -> None:
    job_id = run_of(server, run_id)["job_id"]
    wait_for_steps(server, run_id, 100)
    page.goto(f"{server.address}/runs?run={run_id}")
    expect(page.locator("#strip")).to_contain_text("training")
    before = len(steps_of_curve(server, run_id))
    page.reload()
    expect(page.locator("#page h1")).to_contain_text("long run")
    expect(page.locator(".state.running").first).to_be_visible()
    wait_for_steps(server, run_id, run_of(server, run_id)["step"] + 75)
    assert run_of(server, run_id)["job_id"] == job_id
    assert len(steps_of_curve(server, run_id)) > before
    assert_continuous(server, run_id)


def paused_and_resumed(page: Page, server: Server, run_id: str) -> None:
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator(".state.paused").first).to_be_visible(timeout=WAIT_S * 1000)
    wait_until("paused", lambda: run_of(server, run_id)["state"] == "paused")
    step = int(run_of(server, run_id)["step"])
    assert run_of(server, run_id)["checkpoints"][-1]["step"] == step
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(page.locator(".state.running").first).to_be_visible(timeout=WAIT_S * 1000)
    wait_for_steps(server, run_id, step + 75)
    assert_continuous(server, run_id)


def seen_by_another_person(
    browser: Browser, server: Server, corpus_id: str, run_id: str, problems: list[str]
) -> None:
    with opened(browser, server, problems) as other:
        other.goto(f"{server.address}/runs")
        expect(other.locator("#page")).to_contain_text("long run")
        expect(other.locator("#strip")).to_contain_text("training")
        second = start_run(server, "second run", corpus_id)
        expect(other.locator("#strip")).to_contain_text("1 job waiting")
        other.goto(f"{server.address}/jobs?state=queued")
        expect(other.locator("#jobs")).to_contain_text("second run")
        expect(other.locator("#jobs")).to_contain_text("waiting until job")
        assert run_of(server, second)["state"] == "queued"
        assert run_of(server, run_id)["state"] == "running"
        other.get_by_role("button", name="Cancel", exact=True).click()
        wait_until("canceled", lambda: run_of(server, second)["state"] != "queued")
    assert call(server, "DELETE", f"/runs/{second}").status_code in (200, 204)


def worker_and_job_are_killed(page: Page, server: Server, run_id: str) -> None:
    step = int(run_of(server, run_id)["step"])
    for process in processes_of(server):
        if "jobs" in process.cmdline() or "jobs.work.child" in " ".join(process.cmdline()):
            process.send_signal(signal.SIGKILL)
    page.goto(f"{server.address}/runs?run={run_id}")
    wait_until("a new attempt", lambda: newest_job(server, run_id)["attempt"] > 1)
    wait_for_steps(server, run_id, step + 100)
    expect(page.locator(".state.running").first).to_be_visible(timeout=WAIT_S * 1000)
    assert_continuous(server, run_id)


def newest_job(server: Server, run_id: str) -> dict[str, Any]:
    job_id = run_of(server, run_id)["job_id"]
    found: dict[str, Any] = server.get(f"/jobs/{job_id}")
    return found


def processes_of(server: Server) -> list[psutil.Process]:
    """Return the processes of this home but this one."""
    found = []
    for process in psutil.process_iter(["environ"]):
        environ = process.info["environ"] or {}
        if environ.get("RETRO_HOME") == str(server.home) and process.pid != os.getpid():
            found.append(process)
    return found


def a_needed_corpus_stays_and_a_deleted_one_frees_the_disk(
    page: Page, server: Server, corpus_id: str, run_id: str
) -> None:
    folder = server.home / "corpora" / corpus_id
    page.goto(f"{server.address}/corpora?corpus={corpus_id}")
    delete = page.get_by_role("button", name="Delete", exact=False).first
    delete.click()
    page.locator("dialog button.danger").click()
    expect(page.locator("#notices")).to_contain_text("long run")
    assert folder.is_dir()

    call(server, "POST", f"/runs/{run_id}/stop")
    wait_until("stopped", lambda: run_of(server, run_id)["state"] not in ("running", "starting"))
    call(server, "DELETE", f"/runs/{run_id}")
    assert not (server.home / "runs" / run_id).exists()
    delete.click()
    page.locator("dialog button.danger").click()
    wait_until("deleted", lambda: server.get("/corpora")["corpora"] == [])
    assert not folder.exists()
    # Files go after the row: first under another name, then for good.
    wait_until("disk freed", lambda: not any((server.home / "corpora").iterdir()))


def test_a_new_web_server_finds_the_run_at_work(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, problems: list[str]
) -> None:
    home = tmp_path_factory.mktemp("restart") / "home"
    with serving(home) as first:
        corpus_id = make_corpus(first, "letters")
        call(first, "POST", f"/corpora/{corpus_id}/build", json={})
        run_id = start_run(first, "long run", corpus_id)
        before = wait_for_steps(first, run_id, 100)
        job = newest_job(first, run_id)
        process = next(item for item in processes_of(first) if "app.py" in item.cmdline())
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        second = start_app(first)
        try:
            with opened(browser, first, problems) as page:
                page.goto(f"{first.address}/runs?run={run_id}")
                expect(page.locator(".state.running").first).to_be_visible()
                wait_for_steps(first, run_id, before + 75)
                same = newest_job(first, run_id)
                assert (same["id"], same["attempt"], same["pid"]) == (
                    job["id"],
                    job["attempt"],
                    job["pid"],
                )
                assert_continuous(first, run_id)
        finally:
            stop(second, home)
    assert problems == []
