"""A request that is too large is refused, whether it says so or not."""

from collections.abc import Iterator

from fastapi.testclient import TestClient

from app.body_limit import MOST_BODY_BYTES

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


def test_what_fits_is_read(client: TestClient) -> None:
    body = b'{"name": "fits"' + b" " * (MOST_BODY_BYTES - 100) + b"}"

    assert client.post(ADDRESS, content=body, headers=JSON).status_code == 201


def test_files_have_limits_of_their_own(client: TestClient) -> None:
    corpus = client.post(ADDRESS, json={"name": "large"}).json()
    files = [("files", ("a.txt", b"word " * (MOST_BODY_BYTES // 5 + 1)))]

    answer = client.post(f"{ADDRESS}/{corpus['id']}/files", files=files)

    assert answer.status_code == 413
    assert "Send the files in several requests" in answer.json()["detail"]
