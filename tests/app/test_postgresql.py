"""The two processes with PostgreSQL in place of SQLite."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.jobs.postgres import PostgresServer

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0

pytestmark = [pytest.mark.slow, pytest.mark.sweep]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for too long"
        time.sleep(0.1)


def is_up(address: str) -> bool:
    try:
        return httpx.get(f"{address}/healthz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def address(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[str]:
    """Address of the app, started as people start it, with a database of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with postgres_server.database(empty=True) as url:
        environ = {**os.environ, "RETRO_HOME": str(tmp_path), "RETRO_PORT": str(port)}
        environ |= {"RETRO_DATABASE_URL": url, "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environ)
        try:
            wait_until(lambda: is_up(address))
            yield address
        finally:
            children = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            process.wait(30)
            for child in children:
                child.wait(30)


def test_app_and_worker_keep_everything_on_the_server(address: str, tmp_path: Path) -> None:
    api = httpx.Client(base_url=f"{address}/api/v1", headers={"Origin": address})
    corpus = api.post("/corpora", json={"name": "letters"}).raise_for_status().json()["id"]
    files = {"files": ("a.txt", b"the cat sat on a mat and saw dogs run far " * 50)}
    api.post(f"/corpora/{corpus}/files", files=files).raise_for_status()

    api.post(f"/corpora/{corpus}/build").raise_for_status()
    wait_until(lambda: api.get(f"/corpora/{corpus}").json()["state"] in ("ready", "failed"))

    found = api.get(f"/corpora/{corpus}").raise_for_status().json()
    assert (found["name"], found["state"]) == ("letters", "ready")
    system = api.get("/system").raise_for_status()
    assert "retro-pg-" not in system.text, "the database's address is nobody's business"
    assert not (tmp_path / "retro.db").exists()
    api.close()
