"""The real app in a process of its own, for everything that strangers may send."""

import contextlib
import http.client
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.app.real_app import TOKEN

LOG = logging.getLogger(__name__)
ROOT = Path(__file__).parents[3]
START_S = 120.0
PROBE_S = 0.05
PATIENCE_S = 3.0
"""Longest wait for a sign of life beside other tests; alone it is well below a second."""
DATABASE_PASSWORD = "a-password-that-nobody-may-read"


@dataclass(frozen=True)
class Server:
    """A running app."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    cookies: dict[str, str] = field(default_factory=dict)
    """Of a login: unlike the token, it is never throttled."""

    def connect(self) -> socket.socket:
        """Open a connection and send nothing."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def client(self) -> httpx.Client:
        """Return a client that may do everything."""
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            cookies=self.cookies,
            timeout=60,
        )

    def log_in(self) -> None:
        """Be somebody who may do everything."""
        with self.client() as client:
            client.post("/login", data={"token": TOKEN})
            self.cookies.update(client.cookies)

    @contextlib.contextmanager
    def probed(self) -> Iterator["Probe"]:
        """Ask for a sign of life all the time, as a load balancer does."""
        probe = Probe(self.port)
        thread = threading.Thread(target=probe.run)
        thread.start()
        try:
            yield probe
        finally:
            probe.stop.set()
            thread.join()
            LOG.info(
                "%d signs of life, the slowest after %.3f s", len(probe.seconds), probe.slowest
            )


@dataclass
class Probe:
    """Seconds until each sign of life, over a new connection each time."""

    port: int
    seconds: list[float] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stop.wait(PROBE_S):
            began = time.monotonic()
            # A client of httpx takes longer to be made than the answer.
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                connection.request("GET", "/healthz")
                assert connection.getresponse().status == 200
            except OSError:
                self.seconds.append(float("inf"))
            else:
                self.seconds.append(time.monotonic() - began)
            finally:
                connection.close()

    @property
    def slowest(self) -> float:
        """The longest that anybody waited; an attack that nobody saw does not count."""
        assert len(self.seconds) >= 3
        return max(self.seconds)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("strangers")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {
        **os.environ,
        "RETRO_HOME": str(folder / "home"),
        "RETRO_PORT": str(port),
        "RETRO_TOKEN": TOKEN,
        "RETRO_DATABASE_URL": f"sqlite:///{folder}/{DATABASE_PASSWORD}.db",
        "HF_HUB_OFFLINE": "1",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environ, stdout=log, stderr=log
        )
    made = Server(process, port, folder / "log")
    try:
        _wait(made)
        made.log_in()
        yield made
    finally:
        process.terminate()
        process.wait(30)


def _wait(server: Server) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert server.process.poll() is None, server.log.read_text()
        with contextlib.suppress(httpx.TransportError), server.client() as client:
            if client.get("/healthz").status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("the app did not start")
