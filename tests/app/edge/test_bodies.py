"""A request that is too large or too full is refused, whether it says so or not."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.edge.bodies import MOST_BODY_BYTES, MOST_DEPTH, MOST_FIELDS, MOST_ITEMS, refuse_body
from tests.app.edge.conftest import PATIENCE_S, Server
from tests.app.real_app import TOKEN

ADDRESS = "/api/v1/corpora"
JSON = {"content-type": "application/json"}


def pieces(num_bytes: int) -> Iterator[bytes]:
    for _ in range(0, num_bytes, 65_536):
        yield b" " * 65_536


def test_a_declared_length_is_refused_before_anything_is_read(client: TestClient) -> None:
    headers = {**JSON, "content-length": str(10**12)}

    answer = client.post(ADDRESS, content=b"{}", headers=headers)

    assert answer.status_code == 413
    assert "at most 2.1 MB" in answer.json()["detail"]


def test_a_length_that_was_not_declared_is_counted(client: TestClient) -> None:
    answer = client.post(ADDRESS, content=pieces(MOST_BODY_BYTES + 1), headers=JSON)

    assert answer.status_code == 413
    assert "at most 2.1 MB" in answer.json()["detail"]


def test_the_pages_have_the_same_limit(client: TestClient) -> None:
    answer = client.post("/gradio_api/queue/join", content=b" " * (MOST_BODY_BYTES + 1))

    assert answer.status_code == 413


def test_a_client_that_sends_all_before_it_reads_gets_the_answer(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(
        "POST", ADDRESS, b" " * 5_000_000, {**JSON, "authorization": f"Bearer {TOKEN}"}
    )

    answer = connection.getresponse()

    assert answer.status == 413
    connection.close()


def test_what_fits_is_read(client: TestClient) -> None:
    body = b'{"name": "fits"' + b" " * (MOST_BODY_BYTES - 100) + b"}"

    assert client.post(ADDRESS, content=body, headers=JSON).status_code == 201


def test_files_have_limits_of_their_own(client: TestClient) -> None:
    corpus = client.post(ADDRESS, json={"name": "large"}).json()
    files = [("files", ("a.txt", b"word " * (MOST_BODY_BYTES // 5 + 1)))]

    answer = client.post(f"{ADDRESS}/{corpus['id']}/files", files=files)

    assert answer.status_code == 413
    assert "Send the files in several requests" in answer.json()["detail"]


TEXT = {"run_id": "x", "prompt": "y"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({**TEXT, "stop": [0] * 950_000}, "A list may have at most 10,000 items, got 950,000."),
        (
            {**TEXT, **{f"{number:x}": 0 for number in range(180_000)}},
            "An object may have at most 1,000 fields, got 180,002.",
        ),
        ({**TEXT, "stop": [[0] * 9_000] * 6}, "A body may hold at most 50,000 values"),
    ],
    ids=["items", "fields", "values"],
)
def test_full_bodies_keep_nobody_waiting(server: Server, body: Any, reason: str) -> None:
    content = json.dumps(body, separators=(",", ":"))

    with server.client() as client, server.probed() as probe:
        answers = [
            client.post(address, content=content, headers=JSON)
            for address in ("/api/v1/generations", "/gradio_api/queue/join") * 3
        ]
        while len(probe.seconds) < 3:
            client.get("/healthz")

    assert [answer.status_code for answer in answers] == [422] * 6
    assert all(answer.json()["detail"].startswith(reason) for answer in answers)
    assert probe.slowest < PATIENCE_S


def test_the_fullest_body_that_is_read_is_described_by_its_first_fault(client: TestClient) -> None:
    body = {**TEXT, "stop": [0] * MOST_ITEMS}

    answer = client.post("/api/v1/generations", json=body)

    assert answer.status_code == 422
    assert answer.json()["detail"] == "stop.0 must be a text, got 0."


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def test_limits_are_the_last_that_is_allowed() -> None:
    assert refuse_body(nested(MOST_DEPTH), False) is None
    assert "nested at most 100 deep" in (refuse_body(nested(MOST_DEPTH + 1), False) or "")
    assert "nested at most 100 deep" in (refuse_body(nested(100_000), False) or "")
    assert refuse_body(json.dumps([0] * MOST_ITEMS).encode(), False) is None
    fields = {str(number): 0 for number in range(MOST_FIELDS)}
    assert refuse_body(json.dumps(fields).encode(), False) is None
    assert refuse_body(b"token=x", False) is None
    assert refuse_body(b"token=x", True) is not None


def test_what_a_client_did_not_send_to_its_end_is_not_done(server: Server) -> None:
    head = "POST /api/v1/corpora HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += f"Cookie: retro_session={server.cookies['retro_session']}\r\nContent-Length: 60\r\n"
    with server.connect() as connection:
        connection.sendall(f'{head}\r\n{{"name": "half"}}'.encode())

    with server.client() as client:
        names = [corpus["name"] for corpus in client.get("/api/v1/corpora").json()["corpora"]]

    assert "half" not in names
