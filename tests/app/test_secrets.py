"""The access token stays with the web server: no other process, no log and no answer has it."""

import importlib.util
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.servers import ROOT, Server, serving
from tests.support.waiting import wait_until

TOKEN = "the-token-of-this-test-0123456789"
HUB_TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWx"
HEADERS = {"authorization": f"Bearer {TOKEN}"}


@pytest.mark.slow
def test_a_server_keeps_its_token_to_itself(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        serving(tmp_path / "home", log=log, RETRO_TOKEN=TOKEN, RETRO_MCP="read") as server,
        httpx.Client(base_url=server.address, headers=HEADERS) as client,
    ):
        wait_until(lambda: client.get("/api/v1/system").json()["worker"]["alive"], every_s=0.1)
        the_processes_beside_the_server_do_not_have_the_token(server, client)
        worker = client.get("/api/v1/system").json()["worker"]["pid"]
        the_log_and_the_files_hold_no_token(server, client, log)
        no_address_that_a_request_claims_evades_the_throttle(server)

        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert not psutil.pid_exists(worker)


def the_processes_beside_the_server_do_not_have_the_token(
    server: Server, client: httpx.Client
) -> None:
    corpus = client.post("/api/v1/corpora", json={"name": "x", "sample": "python-docs"})
    build = client.post(f"/api/v1/corpora/{corpus.json()['id']}/build").json()
    seen: dict[int, str] = {}

    def job_was_seen() -> bool:
        for process in psutil.Process(server.process.pid).children(recursive=True):
            try:
                everything = [*process.cmdline(), *process.environ().values()]
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            seen[process.pid] = "\n".join(everything)
        return any("jobs.work.child" in text for text in seen.values())

    wait_until(job_was_seen)
    client.post(f"/api/v1/jobs/{build['id']}/cancel")

    assert len(seen) >= 2
    assert not [pid for pid, text in seen.items() if TOKEN in text]
    assert TOKEN not in " ".join(psutil.Process(server.process.pid).cmdline())
    wait_until(lambda: client.get(f"/api/v1/jobs/{build['id']}").json()["finished_at"])
    assert TOKEN not in client.get(f"/api/v1/jobs/{build['id']}/log").text


def no_address_that_a_request_claims_evades_the_throttle(server: Server) -> None:
    def guess(number: int) -> int:
        headers = {
            "x-forwarded-for": f"203.0.113.{number}",
            "authorization": f"Bearer wrong {number}",
        }
        return httpx.get(f"{server.address}/api/v1/system", headers=headers).status_code

    assert [guess(number) for number in range(12)] == [401] * 10 + [429] * 2


def the_log_and_the_files_hold_no_token(server: Server, client: httpx.Client, log: Path) -> None:
    client.post("/login", data={"token": TOKEN})
    client.get(f"/api/v1/{TOKEN}/{HUB_TOKEN}", params={"token": TOKEN})
    client.post("/api/v1/corpora", json={"name": TOKEN * 20, "sample": HUB_TOKEN})

    texts = [log.read_text()]
    texts += [
        path.read_bytes().decode("latin-1") for path in server.home.rglob("*") if path.is_file()
    ]

    assert not [text for text in texts if TOKEN in text or HUB_TOKEN in text]


@contextmanager
def bare_log() -> Iterator[None]:
    """Take away the handlers that tests have, as a program starts without any."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def test_lines_of_the_web_server_are_blotted_out(capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("start", ROOT / "app.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)

    with bare_log():
        program.start_logging(TOKEN)
        logging.getLogger("uvicorn.error").error("%s %s", TOKEN, HUB_TOKEN)

    assert "ERROR uvicorn.error ... hf_..." in capsys.readouterr().err
