"""The real app in processes of its own: the web server, and the worker beside it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Server:
    """A running app with a home folder of its own."""

    address: str
    home: Path
    process: subprocess.Popen[bytes]

    def get(self, path: str) -> Any:
        """Return the JSON answer of a REST route."""
        answer = httpx.get(f"{self.address}/api/v1{path}", timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def worker_pid(self) -> int | None:
        """Return the number of the worker's process, None while there is none."""
        worker = self.get("/system")["worker"]
        return int(worker["pid"]) if worker["alive"] else None


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start_app(
    home: Path, *, port: int | None = None, log: Path | None = None, **environ: str
) -> Server:
    """Start the app, and return when it answers.

    Args:
        home: Its home folder.
        port: Where it listens; None is any free port.
        log: File for what it writes; None is where this process writes.
        environ: Added to the environment of this process.
    """
    port = port or free_port()
    with (log or Path(os.devnull)).open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env={
                **os.environ,
                "RETRO_HOME": str(home),
                "RETRO_PORT": str(port),
                "GRADIO_ANALYTICS_ENABLED": "False",
                "HF_HUB_OFFLINE": "1",
                **environ,
            },
            stdout=file if log else None,
            stderr=file if log else None,
            start_new_session=True,
        )
    server = Server(f"http://127.0.0.1:{port}", home, process)

    def is_up() -> bool:
        assert process.poll() is None, "the app ended"
        try:
            return httpx.get(f"{server.address}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(is_up, every_s=0.1)
    except BaseException:
        stop_app(server)
        raise
    return server


def stop_app(server: Server) -> None:
    """End the app, and the jobs of its home, which would go on without it."""
    server.process.send_signal(signal.SIGTERM)
    try:
        server.process.wait(20)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
    for left in processes_of(server.home):
        left.kill()


@contextmanager
def serving(home: Path, *, log: Path | None = None, **environ: str) -> Iterator[Server]:
    """Run the app with a home folder until the block ends."""
    server = start_app(home, log=log, **environ)
    try:
        yield server
    finally:
        stop_app(server)


def processes_of(home: Path) -> list[psutil.Process]:
    """Return the processes that work with a home folder, but for this one."""
    found = []
    for process in psutil.process_iter(["environ"]):
        environ = process.info["environ"] or {}
        if environ.get("RETRO_HOME") == str(home) and process.pid != os.getpid():
            found.append(process)
    return found
