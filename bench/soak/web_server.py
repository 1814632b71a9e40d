"""Web servers that start within a moment: everything is imported once, and each is a fork.

``python -m bench.soak.web_server`` reads ports from standard input, starts a server at each, and
answers the number of its process. ``RETRO_HOME`` and ``RETRO_DATABASE_URL`` say of what.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # has no types
import uvicorn

from app.services.services import Services
from app.services.uploads import UploadLimits
from app.web import guard, make_rest_app
from bench.soak.processes import ROOT, wait_for
from jobs.home import Home
from jobs.store.store import Store

START_S = 60.0
ANSWER_S = 90.0


class WebServers:
    """Servers of one folder and database, on ports of this host.

    Args:
        home: The folder.
        url: Of the database.
        ports: One for each server.
    """

    def __init__(self, home: Home, url: str, ports: list[int]) -> None:
        self._ports = ports
        self._pids: dict[int, int] = {}
        self._client = httpx.Client(timeout=ANSWER_S)
        variables = {"RETRO_HOME": str(home.path), "RETRO_DATABASE_URL": url}
        self._log = (home.path / "web.log").open("ab")
        self._forks = subprocess.Popen(
            [sys.executable, "-m", "bench.soak.web_server"],
            cwd=ROOT,
            env={**os.environ, **variables, "GRADIO_ANALYTICS_ENABLED": "False"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        for number in range(len(ports)):
            self.start(number)

    def send(self, number: int, method: str, path: str, **parts: Any) -> httpx.Response | None:
        """Send a request to a server; return the answer, None if there was none.

        Args:
            number: Of the server.
            method: As HTTP has it.
            path: Below ``/api/v1``.
            parts: Body and headers, by the names of httpx.
        """
        url = f"http://127.0.0.1:{self._ports[number]}"
        try:
            return self._client.request(method, f"{url}{path}", **parts)
        except httpx.TransportError:
            return None

    def start(self, number: int) -> None:
        """Start a server and wait until it answers."""
        assert self._forks.stdin is not None
        assert self._forks.stdout is not None
        self._forks.stdin.write(f"{self._ports[number]}\n")
        self._forks.stdin.flush()
        self._pids[number] = int(self._forks.stdout.readline())
        if not wait_for(
            lambda: self.send(number, "GET", "/healthz") is not None, START_S, every=0.01
        ):
            raise TimeoutError(f"the server at port {self._ports[number]} does not answer")

    def kill(self, number: int) -> None:
        """End a server without a word."""
        os.kill(self._pids[number], signal.SIGKILL)
        wait_for(lambda: not psutil.pid_exists(self._pids[number]), START_S, every=0.001)

    def stop(self) -> None:
        """End all of them."""
        self._forks.communicate()
        self._client.close()
        self._log.close()


def main() -> None:
    """Fork a server for each port on standard input."""
    # Nobody waits for those that were killed.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    store = Store(os.environ["RETRO_DATABASE_URL"])
    services = Services(
        Home(Path(os.environ["RETRO_HOME"])), store, limits=UploadLimits(free_disk=0)
    )
    app = guard(make_rest_app(services), None)
    pids = []
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            uvicorn.run(app, host="127.0.0.1", port=int(line), log_level="warning")
            os._exit(0)
        pids.append(pid)
        print(pid, flush=True)
    for pid in filter(psutil.pid_exists, pids):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
