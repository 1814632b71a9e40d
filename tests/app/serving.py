"""A real server on loopback, and clients that talk to it over sockets of their own."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp

PATIENCE_S = 30.0


@contextmanager
def serve(app: ASGIApp, **settings: Any) -> Iterator[str]:
    """Serve an app meanwhile, with settings of uvicorn; gives its address.

    The process's logging stays as it is: uvicorn's own would stay behind for every later test.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1, **settings)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        until(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def until(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Client:
    """One connection with one request; what it does not read waits in the connection."""

    def __init__(self, url: str, path: str, body: dict[str, Any] | None = None) -> None:
        place = urlsplit(url)
        assert place.port is not None
        self.socket = socket.create_connection(("127.0.0.1", place.port), timeout=PATIENCE_S)
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: {place.netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
            f"Accept: application/json, text/event-stream\r\n\r\n"
        )
        self.socket.sendall(head.encode() + content)
        self._file = self.socket.makefile("rb")

    def status(self) -> int:
        """Read the first line of the answer."""
        return int(self._file.readline().split()[1])

    def headers(self) -> dict[str, str]:
        """Read the headers, after the status."""
        lines = iter(lambda: self._file.readline().decode().strip(), "")
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    def json(self, length: str) -> Any:
        """Read the body, after the headers."""
        return json.loads(self._file.read(int(length)))

    def until(self, word: bytes) -> None:
        """Read until a line has a word."""
        while word not in (line := self._file.readline()):
            assert line, "the answer ended"

    def go_away(self) -> None:
        self._file.close()
        self.socket.close()
