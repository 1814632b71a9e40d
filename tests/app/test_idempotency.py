"""A request that is sent again under its key is answered again, and not done again."""

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.programs import idempotency
from app.programs.idempotency import BodyDigest
from app.services.services import Services
from app.web import guard, make_rest_app
from jobs.store.kept_answers import KEPT_S
from jobs.store.locks import LOCK_S
from tests.app.real_app import BASE, Trained, make_services

CREATING = {
    "corpora": ("/corpora", {"name": "again"}),
    "files": ("/corpora/{corpus}/files", None),
    "build": ("/corpora/{corpus}/build", {}),
    "copy": ("/corpora/{corpus}/copy", {"name": "copied"}),
    "train": ("/corpora/{built}/train", None),
    "run": ("/runs", {"name": "again", "corpus_id": "{built}", "preset": "tiny"}),
    "duplicate": ("/runs/{run}/duplicate", {"name": "twice"}),
    "extend": ("/runs/{run}/extend", {"max_steps": 6}),
    "retry": ("/jobs/{job}/retry", None),
    "generation": ("/generations", {"run_id": "{run}", "prompt": "the cat", "max_new_tokens": 4}),
    "branch": ("/generations/{text}/branch", {"chunk_index": 1, "max_new_tokens": 4}),
    "continue": ("/generations/{text}/continue", {"max_new_tokens": 4}),
    "write": ("/runs/{run}/write", None),
}


@pytest.fixture
def other(services: Services) -> Iterator[TestClient]:
    """Another web process of the same home."""
    made = make_services(services.home.path)
    with TestClient(guard(make_rest_app(made), None), base_url=BASE) as client:
        yield client
    made.store.close()


def post(client: TestClient, path: str, key: str | None, **parts: Any) -> Any:
    headers = parts.pop("headers", {}) | ({} if key is None else {"Idempotency-Key": key})
    return client.post(f"/api/v1{path}", headers=headers, **parts)


def is_replay(answer: Any) -> bool:
    return answer.headers.get("idempotency-replayed") == "true"


def test_the_second_answer_is_the_first_one_from_any_process(
    services: Services, client: TestClient, other: TestClient
) -> None:
    first = post(client, "/corpora", "key one", json={"name": "notes"})
    again = [
        post(where, "/corpora", "key one", json={"name": "notes"}) for where in (client, other)
    ]

    assert first.status_code == 201
    assert not is_replay(first)
    for answer in again:
        assert (answer.status_code, answer.content) == (201, first.content)
        assert answer.headers["content-type"] == first.headers["content-type"]
        assert is_replay(answer)
    assert len(services.store.list_corpora()) == 1
    assert post(client, "/corpora", "key two", json={"name": "notes"}).json() != first.json()
    assert not is_replay(post(client, "/corpora", None, json={"name": "notes"}))
    assert len(services.store.list_corpora()) == 3


def test_a_key_stands_for_one_request(services: Services, client: TestClient) -> None:
    made = post(client, "/corpora", "key", json={"name": "notes"}).json()

    for answer in (
        post(client, "/corpora", "key", json={"name": "other"}),
        post(client, "/corpora?x=1", "key", json={"name": "notes"}),
        post(client, "/runs", "key", json={"name": "notes", "corpus_id": made["id"]}),
    ):
        assert answer.status_code == 422
        assert "'key' was used for another address or another body" in answer.json()["detail"]
    assert len(services.store.list_corpora()) == 1


@pytest.mark.parametrize(
    ("key", "found"),
    [("", "0: ''"), ("x" * 201, "201: 'xx"), ("caf\xe9", r"'caf\x"), ("a\tb", "3: ")],
)
def test_a_key_must_be_printable(client: TestClient, key: str, found: str) -> None:
    answer = client.post(
        "/api/v1/corpora", json={"name": "n"}, headers=[(b"idempotency-key", key.encode("latin-1"))]
    )

    assert answer.status_code == 422
    assert "1 to 200 printable ASCII characters, got " in answer.json()["detail"]
    assert found in answer.json()["detail"]
    twice = [(b"idempotency-key", b"a"), (b"idempotency-key", b"b")]
    answer = client.post("/api/v1/corpora", json={"name": "n"}, headers=twice)
    assert "got 2 of them" in answer.json()["detail"]
    assert post(client, "/corpora", "k" * 200, json={"name": "n"}).status_code == 201


def test_a_refusal_or_a_fault_does_not_block_the_key(
    services: Services, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert post(client, "/corpora", "key", json={"name": " "}).status_code == 422
    create = services.corpora.create

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(services.corpora, "create", fail)
    assert post(client, "/corpora", "key", json={"name": "n"}).status_code == 500
    monkeypatch.setattr(services.corpora, "create", create)

    assert post(client, "/corpora", "key", json={"name": "n"}).status_code == 201
    assert is_replay(post(client, "/corpora", "key", json={"name": "n"}))


def test_who_comes_while_the_first_is_at_work_waits_or_is_told(
    services: Services,
    client: TestClient,
    other: TestClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reached, go_on = threading.Event(), threading.Event()
    create = services.corpora.create

    def create_slowly(*arguments: Any, **named: Any) -> Any:
        reached.set()
        assert go_on.wait(30)
        return create(*arguments, **named)

    monkeypatch.setattr(services.corpora, "create", create_slowly)
    answers: list[Any] = []
    body = {"name": "notes"}
    threads = [
        threading.Thread(target=lambda c=c: answers.append(post(c, "/corpora", "key", json=body)))
        for c in (client, other)
    ]
    threads[0].start()
    assert reached.wait(30)
    monkeypatch.setattr(idempotency, "WAIT_S", 0.0)
    told = post(other, "/corpora", "key", json=body)
    monkeypatch.setattr(idempotency, "WAIT_S", 30.0)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join()

    assert told.status_code == 409
    assert "'key' is still at work. Send it again in a moment." in told.json()["detail"]
    assert sorted(map(is_replay, answers)) == [False, True]
    assert answers[0].json() == answers[1].json()
    assert len(services.store.list_corpora()) == 1


def test_a_process_that_was_killed_does_not_block_the_key(
    services: Services, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = services.store.now()
    assert isinstance(services.store.begin_request("key"), str)
    monkeypatch.setattr(services.store, "now", lambda: now + LOCK_S + 9)

    assert post(client, "/corpora", "key", json={"name": "n"}).status_code == 201
    monkeypatch.setattr(services.store, "now", lambda: now + LOCK_S + 9 + KEPT_S)
    assert not is_replay(post(client, "/corpora", "key", json={"name": "other"}))


def test_an_upload_is_known_again_whatever_its_boundary(
    services: Services, client: TestClient
) -> None:
    corpus_id = services.corpora.create("notes").id
    path = f"/corpora/{corpus_id}/files"
    files = [("files", ("a.txt", b"one")), ("files", ("b.txt", b"two"))]

    first = post(client, path, "key", files=files)
    again = post(client, path, "key", files=files)

    types = {answer.request.headers["content-type"] for answer in (first, again)}
    assert len(types) == 2, "each request has a boundary of its own"
    assert is_replay(again)
    assert first.json() == again.json()
    assert first.json()["counts"]["added"] == 2
    changed = [files[0], ("files", ("b.txt", b"twO"))]
    assert post(client, path, "key", files=changed).status_code == 422


def test_an_upload_that_is_refused_at_once_is_tried_again(
    services: Services, client: TestClient
) -> None:
    corpus_id = services.corpora.create("notes").id
    path, files = f"/corpora/{corpus_id}/files", [("files", ("a.txt", b"one"))]
    job = services.store.submit("build", corpus_id=corpus_id, settings={})

    assert post(client, path, "key", files=files).status_code == 409
    services.store.request_cancel(job.id)

    assert post(client, path, "key", files=files).json()["counts"]["added"] == 1


def digest(body: list[bytes], content_type: bytes) -> str:
    scope = {
        "method": "POST",
        "path": "/x",
        "query_string": b"",
        "headers": [(b"content-type", content_type)],
    }
    made = BodyDigest(scope)
    messages = [
        {"type": "http.request", "body": piece, "more_body": number < len(body) - 1}
        for number, piece in enumerate(body)
    ]
    waiting = iter(messages)

    async def receive() -> Any:
        return next(waiting)

    assert asyncio.run(made.finish(receive))
    return made.value()


def test_a_boundary_is_recognised_wherever_a_body_is_cut() -> None:
    def body(boundary: str, text: str) -> tuple[bytes, bytes]:
        head = "\r\nContent-Disposition: form-data; name=files\r\n\r\n"
        content = f"--{boundary}{head}{text}\r\n--{boundary}{head}more\r\n--{boundary}--\r\n"
        return content.encode(), f'multipart/form-data; boundary="{boundary}"'.encode()

    whole, kind = body("abcabcabd", "text abcabc")
    expected = digest([whole], kind)
    for cut in range(len(whole)):
        assert digest([whole[:cut], whole[cut:]], kind) == expected
    assert digest([bytes([byte]) for byte in whole], kind) == expected
    other, other_kind = body("another boundary", "text abcabc")
    assert digest([other], other_kind) == expected
    assert digest([body("abcabcabd", "text abcabd")[0]], kind) != expected
    assert digest([whole], b"text/plain") != expected


def test_a_body_that_breaks_off_is_not_believed() -> None:
    made = BodyDigest({"method": "POST", "path": "/", "query_string": b"", "headers": []})

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    assert not asyncio.run(made.finish(receive))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, trained: Trained) -> Iterator[Trained]:
    """A copy of the trained app, as most of these requests change it."""
    home = tmp_path_factory.mktemp("keys") / "home"
    shutil.copytree(trained.services.home.path, home)
    services = make_services(home)
    app = guard(make_rest_app(services), None)
    with TestClient(app, base_url=BASE) as client:
        yield Trained(services, client, trained.corpus_id, trained.run_id)
    services.store.close()


@pytest.fixture(scope="module")
def ids(own: Trained) -> dict[str, str]:
    """Ids for the routes."""
    services = own.services
    corpus = str(services.corpora.copy(own.corpus_id, name="keys").id)
    job = services.corpora.get(corpus).build_job_id
    services.jobs.cancel(job)
    text = post(
        own.client,
        "/generations",
        None,
        json={"run_id": own.run_id, "prompt": "the cat sat", "max_new_tokens": 4},
    )
    return {
        "corpus": corpus,
        "built": own.corpus_id,
        "run": own.run_id,
        "job": job,
        "text": text.json()["id"],
    }


def fill_in(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: fill_in(item, ids) for name, item in value.items()}
    return value.format(**ids) if isinstance(value, str) else value


@pytest.mark.slow
@pytest.mark.parametrize("name", CREATING)
def test_every_route_that_creates_something_takes_a_key(
    own: Trained, ids: dict[str, str], name: str
) -> None:
    path, body = CREATING[name]
    parts: dict[str, Any] = {"json": fill_in(body, ids)} if body is not None else {}
    if name == "files":
        parts = {"files": [("files", ("new.txt", b"a new text"))]}
    store = own.services.store

    def count() -> tuple[int, ...]:
        lists = (
            store.list_corpora(),
            store.list_runs(),
            store.list_jobs(),
            store.list_generations(),
        )
        return tuple(map(len, lists))

    answers = [post(own.client, fill_in(path, ids), name, **parts)]
    before = count()
    answers.append(post(own.client, fill_in(path, ids), name, **parts))

    assert [answer.status_code // 100 for answer in answers] == [2, 2], answers[0].text
    assert answers[0].content == answers[1].content
    assert [is_replay(answer) for answer in answers] == [False, True]
    assert count() == before
    for job in store.list_queue():
        store.request_cancel(job.id)


@pytest.mark.slow
def test_a_stream_is_answered_with_the_stream_of_the_same_text(own: Trained) -> None:
    store = own.services.store
    body = {"run_id": own.run_id, "prompt": "the cat", "max_new_tokens": 6, "stream": True}

    first = post(own.client, "/generations", "stream", json=body)
    number = len(store.list_generations(limit=500))
    again = post(own.client, "/generations", "stream", json=body)

    assert len(store.list_generations(limit=500)) == number
    assert is_replay(again)
    assert again.headers["content-type"].startswith("text/event-stream")
    start, done = (answer.text.split("\n\n") for answer in (first, again))
    assert start[0] == done[0]
    last = [part for part in start if part.startswith("event: done")]
    assert last == [part for part in done if part.startswith("event: done")]
    assert last
    other = post(own.client, "/generations", "stream", json={**body, "max_new_tokens": 7})
    assert other.status_code == 422


@pytest.mark.slow
def test_a_text_that_its_client_did_not_wait_for_is_answered_the_next_time(own: Trained) -> None:
    body = {"run_id": own.run_id, "prompt": "the cat sat", "max_new_tokens": 5}
    sent: list[Any] = []
    waiting = [
        {"type": "http.request", "body": json.dumps(body).encode()},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    async def send(message: Any) -> None:
        sent.append(message)

    headers = {"host": "127.0.0.1", "content-type": "application/json", "idempotency-key": "left"}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/api/v1/generations",
        "raw_path": b"/api/v1/generations",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    own.client.portal.call(own.client.app, scope, receive, send)
    number = len(own.services.store.list_generations(limit=500))

    answer = post(
        own.client,
        "/generations",
        "left",
        content=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )

    assert is_replay(answer)
    assert answer.json()["text"]
    assert len(own.services.store.list_generations(limit=500)) == number


def test_the_description_names_the_key(client: TestClient) -> None:
    schema = client.get("/api/v1/openapi.json").json()
    taking = {
        path
        for path, methods in schema["paths"].items()
        for item in methods.get("post", {}).get("parameters", [])
        if item["name"] == "Idempotency-Key"
    }

    assert {path.removeprefix("/api/v1") for path in taking} == idempotency.CREATING
    routes = {path.removeprefix("/api/v1") for path in schema["paths"]}
    assert routes >= idempotency.CREATING
