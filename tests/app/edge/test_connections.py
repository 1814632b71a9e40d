"""The server waits for slow clients, but neither for ever nor for too many."""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from app.edge.connections import ConnectionLimits, guarded_protocol
from tests.app.serving import serve

BRIEF = ConnectionLimits(head_s=0.5, body_s=0.5, body_bytes=100, answer_s=0.5)
FEW = ConnectionLimits(head_s=60, waiting_per_address=5, per_address=8, moment_s=0.2)
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 64 << 20


async def length(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def large(_request: Request) -> StreamingResponse:
    return StreamingResponse(b"x" * (1 << 16) for _ in range(LARGE >> 16))


@contextlib.contextmanager
def serving(limits: ConnectionLimits) -> Iterator["Connections"]:
    routes = [Route("/", length, methods=["GET", "POST"]), Route("/large", large)]
    with (
        serve(Starlette(routes=routes), http=guarded_protocol(limits), ws="none") as address,
        contextlib.ExitStack() as stack,
    ):
        yield Connections(int(address.rpartition(":")[2]), stack)


@pytest.fixture(scope="module")
def hasty() -> Iterator["Connections"]:
    with serving(BRIEF) as made:
        yield made


@pytest.fixture
def small() -> Iterator["Connections"]:
    with serving(FEW) as made:
        yield made


class Connections:
    """Opens connections that are closed at the end of a test."""

    def __init__(self, port: int, stack: contextlib.ExitStack) -> None:
        self._port = port
        self._stack = stack

    def open(self, beginning: bytes = b"") -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        self._stack.callback(made.close)
        made.sendall(beginning)
        return made


def is_closed(connection: socket.socket) -> bool:
    try:
        while connection.recv(1_000):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def is_served(connection: socket.socket) -> bool:
    answer = b""
    while not answer.partition(b"\r\n\r\n")[2]:
        answer += (piece := connection.recv(1_000))
        assert piece, "closed"
    return answer.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("beginning", [b"", b"G", GET[:-2], HEAD % 1_000, HEAD % 1_000 + b"x" * 50])
def test_half_a_request_is_not_waited_for_for_long(hasty: Connections, beginning: bytes) -> None:
    began = time.monotonic()

    assert is_closed(hasty.open(beginning))

    assert 0.4 < time.monotonic() - began < 5


def test_dripping_a_head_does_not_help(hasty: Connections) -> None:
    connection = hasty.open(b"GET / HTTP/1.1\r\n")
    began = time.monotonic()

    with contextlib.suppress(ConnectionError):
        while time.monotonic() - began < 5:
            connection.sendall(b"a: b\r\n")
            time.sleep(0.1)

    assert time.monotonic() - began < 5


def test_a_slow_body_that_comes_is_waited_for(hasty: Connections) -> None:
    connection = hasty.open(HEAD % 2_000)

    for _ in range(20):
        connection.sendall(b"x" * 100)
        time.sleep(0.1)

    assert is_served(connection)


def test_an_answer_that_nobody_takes_ends(hasty: Connections) -> None:
    connection = hasty.open(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(2)

    taken = 0
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(1 << 20):
            taken += len(piece)

    assert taken < LARGE


def test_the_one_that_waited_longest_makes_room(small: Connections) -> None:
    upload = small.open(HEAD % 5_000 + b"x" * 4_000)
    held = [small.open(b"GET /") for _ in range(FEW.waiting_per_address)]

    time.sleep(0.5)

    served = small.open(GET)

    assert is_served(served)
    assert is_closed(held[0])
    upload.sendall(b"x" * 1_000)
    assert is_served(upload)


def test_idle_connections_make_room_too(small: Connections) -> None:
    idle = []
    for _ in range(FEW.per_address + 3):
        idle.append(small.open(GET))
        assert is_served(idle[-1])

    assert is_closed(idle[0])
    idle[-1].sendall(GET)
    assert is_served(idle[-1])


def test_who_comes_is_served_however_many_bodies_are_waited_for(small: Connections) -> None:
    held = [small.open(HEAD % 5_000 + b"x" * number) for number in range(1, FEW.per_address + 1)]
    time.sleep(0.5)

    for _ in range(3):
        assert is_served(small.open(GET))

    assert is_closed(held[0])
