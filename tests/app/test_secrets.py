"""The access token stays with the web server: no other process, no log and no answer has it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).parents[2]
TOKEN = "the-token-of-this-test-0123456789"
HUB_TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWx"
PATIENCE_S = 240.0

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    client: httpx.Client
    home: Path
    log: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("secrets")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {
        **os.environ,
        "RETRO_HOME": str(folder / "home"),
        "RETRO_PORT": str(port),
        "RETRO_TOKEN": TOKEN,
        "RETRO_MCP": "read",
        "HF_HUB_OFFLINE": "1",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environ, stdout=log, stderr=log
        )
        headers = {"authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
            made = Server(process, client, folder / "home", folder / "log")
            try:
                wait_until(lambda: has_worker(client))
                yield made
            finally:
                process.terminate()
                process.wait(30)


def has_worker(client: httpx.Client) -> bool:
    try:
        return bool(client.get("/api/v1/system").json()["worker"]["alive"])
    except httpx.TransportError:
        return False


def wait_until(condition: object) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if callable(condition) and condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def test_the_processes_beside_the_server_do_not_have_the_token(server: Server) -> None:
    corpus = server.client.post("/api/v1/corpora", json={"name": "x", "sample": "python-docs"})
    build = server.client.post(f"/api/v1/corpora/{corpus.json()['id']}/build").json()
    seen: dict[int, str] = {}

    def job_was_seen() -> bool:
        for process in psutil.Process(server.process.pid).children(recursive=True):
            try:
                everything = [*process.cmdline(), *process.environ().values()]
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            seen[process.pid] = "\n".join(everything)
        return any("jobs.child" in text for text in seen.values())

    wait_until(job_was_seen)
    server.client.post(f"/api/v1/jobs/{build['id']}/cancel")

    assert len(seen) >= 2
    assert not [pid for pid, text in seen.items() if TOKEN in text]
    assert TOKEN not in " ".join(psutil.Process(server.process.pid).cmdline())
    wait_until(lambda: server.client.get(f"/api/v1/jobs/{build['id']}").json()["finished_at"])
    assert TOKEN not in server.client.get(f"/api/v1/jobs/{build['id']}/log").text


def test_no_address_that_a_request_claims_evades_the_throttle(server: Server) -> None:
    def guess(number: int) -> int:
        headers = {
            "x-forwarded-for": f"203.0.113.{number}",
            "authorization": f"Bearer wrong {number}",
        }
        return server.client.get("/api/v1/system", headers=headers).status_code

    assert [guess(number) for number in range(12)] == [401] * 10 + [429] * 2


def test_the_log_and_the_files_hold_no_token(server: Server) -> None:
    server.client.post("/login", data={"token": TOKEN})
    server.client.get(f"/api/v1/{TOKEN}/{HUB_TOKEN}", params={"token": TOKEN})
    server.client.post("/api/v1/corpora", json={"name": TOKEN * 20, "sample": HUB_TOKEN})

    texts = [server.log.read_text()]
    texts += [
        path.read_bytes().decode("latin-1") for path in server.home.rglob("*") if path.is_file()
    ]

    assert not [text for text in texts if TOKEN in text or HUB_TOKEN in text]


def test_lines_of_the_web_server_are_blotted_out() -> None:
    program = (
        "import logging, app\n"
        "import importlib.util as u\n"
        "spec = u.spec_from_file_location('start', 'app.py')\n"
        "module = u.module_from_spec(spec); spec.loader.exec_module(module)\n"
        f"module.start_logging({TOKEN!r})\n"
        f"logging.getLogger('uvicorn.error').error('%s %s', {TOKEN!r}, {HUB_TOKEN!r})\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "ERROR uvicorn.error ... hf_..." in done.stderr
