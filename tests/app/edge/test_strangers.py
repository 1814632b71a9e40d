"""What anyone can send without a login leaves the app reachable and the log short."""

import socket
import time

from tests.app.edge.conftest import PATIENCE_S, Server
from tests.app.real_app import TOKEN

HEAD = b"POST /login HTTP/1.1\r\nHost: retro.example\r\nContent-Length: %d\r\n"
HEAD += b"Content-Type: application/x-www-form-urlencoded\r\n"
ATTACKERS = 1_100
LOG_BYTES = 4_000


def attack(server: Server, beginning: bytes) -> None:
    """Hold many connections open with the beginning of a request, and look at the app."""
    before = server.log.stat().st_size
    held: list[socket.socket] = []
    with server.probed() as probe:
        try:
            for _ in range(ATTACKERS):
                held.append(server.connect())
                held[-1].send(beginning)
            time.sleep(1)
        finally:
            for connection in held:
                connection.close()

    assert probe.slowest < PATIENCE_S
    assert server.log.stat().st_size - before < LOG_BYTES


def test_requests_without_an_end_do_not_keep_others_out(server: Server) -> None:
    attack(server, b"GET / HTTP/1.1\r\nHost: retro.ex")


def test_bodies_without_an_end_do_not_keep_others_out(server: Server) -> None:
    attack(server, HEAD % 1_000 + b"\r\ntoken=")


def test_garbage_does_not_fill_the_log(server: Server) -> None:
    before = server.log.stat().st_size

    for number in range(300):
        with server.connect() as connection:
            connection.send(b"\x16\x03\x01 %d\r\n\r\n" % number)
            connection.recv(100)

    assert server.log.stat().st_size - before < LOG_BYTES


def test_logins_that_are_held_back_are_counted_one_by_one(server: Server) -> None:
    def begin(number: int) -> socket.socket:
        body = f"token=wrong-{number:020d}".encode()
        connection = server.connect()
        connection.send(HEAD % len(body) + b"\r\n" + body[:-1])
        return connection

    def end(connection: socket.socket) -> int:
        connection.send(b"0")
        with connection:
            return int(connection.recv(100).split()[1])

    held = [begin(number) for number in range(60)]
    answers = [end(connection) for connection in held]

    assert answers == [401] * 10 + [429] * 50
    with server.client() as client:
        # The address is throttled now, whatever it sends; the cookie of a login is not.
        assert client.post("/login", data={"token": TOKEN}).status_code == 429
