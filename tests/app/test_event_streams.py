"""Many clients follow one text: what that costs the others, and how many may."""

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator
from statistics import median
from typing import Any

import pytest
from starlette.types import Message

from app.programs.event_stream import EventStream
from app.services import following, generations
from app.services.services import Services
from app.web import guard, make_rest_app
from bench.readers import readers
from jobs.store.store import Store
from tests.app.real_app import LIMITS, Trained
from tests.app.serving import PATIENCE_S, Client, serve, until
from tests.app.texts import body, post, read_events, wait_in

pytestmark = pytest.mark.slow

MANY = 150
LONGEST_ANSWER_S = 1.0
"""With this many readers it was some seconds, and it is some hundredths."""
LONG = {"max_new_tokens": 100_000, "temperature": 0}
"""Drawn at random, the end token would come after some hundred tokens."""
FEW = 2
READ_TEXT = "/api/v1/generations/{}/events"


@pytest.fixture(scope="module")
def services(trained: Trained) -> Iterator[Services]:
    # Its own: the server closes the services it was made with.
    home = trained.services.home
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generations, "MOST_WAITING", FEW)
        made = Services(home, Store(home.database_url()), limits=LIMITS)
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def url(services: Services) -> Iterator[str]:
    with serve(guard(make_rest_app(services, mcp="write"), None)) as address:
        yield address


@pytest.fixture
def text(services: Services, trained: Trained) -> Iterator[str]:
    """Id of a text that is being written, for as long as the test takes."""
    started = begin(services, trained)
    until(lambda: len(services.store.read_chunks(started, "on", 0, 4)) == 4)
    yield started
    services.generations.stop(started)
    wait_in(services, started)


def begin(services: Services, trained: Trained) -> str:
    given = {"run_id": trained.run_id, "prompt": body(trained)["prompt"], "sampling": LONG}
    return str(services.generations.start(**given).id)


def texts(services: Services) -> list[str]:
    return [generation.id for generation in services.generations.list_generations(500)]


def test_pages_answer_while_many_read_a_text(url: str, text: str) -> None:
    with readers(f"{url}/api/v1/generations/{text}", MANY) as heard:
        paths = ("/healthz", "/api/v1/system")
        taken = [seconds(f"{url}{path}") for _ in range(6) for path in paths]

    assert median(taken) < LONGEST_ANSWER_S
    # They were told something meanwhile, each of them.
    assert heard.megabytes * 1e6 > MANY * 10_000


def seconds(address: str) -> float:
    begun = time.perf_counter()
    with urllib.request.urlopen(address, timeout=60) as answer:
        answer.read()
    return time.perf_counter() - begun


def test_what_is_told_is_read_once_for_all(
    url: str, services: Services, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = services.store.read_chunks
    asked: list[int] = []

    def counted(generation_id: str, variant: str, first: int, limit: int) -> Any:
        asked.append(first)
        return read(generation_id, variant, first, limit)

    until_chunks_stored(services, text, 10)
    clients = [Client(url, READ_TEXT.format(text)) for _ in range(20)]
    for reader in clients:
        reader.until(b'"index": 10')
    monkeypatch.setattr(services.store, "read_chunks", counted)
    for reader in clients:
        reader.until(b'"index": 25')
    monkeypatch.undo()
    for reader in clients:
        reader.go_away()

    # Each once, but for those that a late one asks for when they are no longer at hand.
    assert 0 < len(asked) < 2 * len(set(asked))


def until_chunks_stored(services: Services, generation_id: str, num_chunks: int) -> None:
    until(lambda: services.store.read_chunks(generation_id, "on", num_chunks - 1, 1))


def test_an_ended_text_is_read_a_few_chunks_at_a_time(
    url: str, services: Services, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = begin(services, trained)
    until_chunks_stored(services, written, 40)
    services.generations.stop(written)
    whole = wait_in(services, written)
    limits, wholes = [], []
    read, get = services.store.read_chunks, services.store.get_generation

    def read_some(generation_id: str, variant: str, first: int, limit: int) -> Any:
        limits.append(limit)
        return read(generation_id, variant, first, limit)

    def get_one(generation_id: str, *, with_chunks: bool = True) -> Any:
        wholes.append(with_chunks)
        return get(generation_id, with_chunks=with_chunks)

    monkeypatch.setattr(services.store, "read_chunks", read_some)
    monkeypatch.setattr(services.store, "get_generation", get_one)
    with urllib.request.urlopen(f"{url}{READ_TEXT.format(written)}") as answer:
        events = read_events(answer.read().decode())

    assert events[-1] == ("done", whole)
    chunks = [value for name, value in events if name == "chunk_end"]
    assert chunks == [{"variant": "on", **chunk} for chunk in whole["chunks"]]
    assert wholes == [False, False]
    assert len(limits) > 2 * len(chunks) / 8
    assert max(limits) <= 8


@pytest.mark.parametrize(
    ("changes", "variants"),
    [
        ({"retrieval": "both"}, {"on", "off"}),
        ({"num_samples": 3}, {"on", "on:1", "on:2"}),
        ({"prompt": 'für "alle"\n'}, {"on"}),
    ],
)
def test_the_end_of_a_stream_is_the_text_as_it_is_read(
    trained: Trained, changes: dict[str, Any], variants: set[str]
) -> None:
    written = post(trained, **changes).json()

    events = read_events(trained.client.get(READ_TEXT.format(written["id"])).text)

    assert events[-1] == ("done", written)
    assert {value["variant"] for name, value in events if name == "chunk_end"} == variants


def test_a_reader_that_takes_nothing_holds_up_nobody(services: Services, text: str) -> None:
    told: dict[str, int] = {"stuck": 0, "quick": 0}

    async def read(name: str) -> None:
        async def send(message: Message) -> None:
            told[name] += len(message.get("body", b""))
            if name == "stuck" and told[name] > 1_000:
                await asyncio.Event().wait()

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        stream = EventStream(services.generations, lambda: text)
        await stream({"type": "http"}, receive, send)

    async def main() -> int:
        readers = [asyncio.create_task(read(name)) for name in told]
        while told["quick"] < 500_000:
            await asyncio.sleep(0.02)
        count = services.generations.num_readers
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
        return count

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE_S)) == 2
    assert told["stuck"] < 100_000
    assert services.generations.num_readers == 0


def test_a_text_has_so_many_readers_and_no_more(
    url: str, services: Services, text: str, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MOST_READERS_OF_A_TEXT", FEW)
    # It is told nothing, and tells nothing, while the other one is being written.
    waiting = begin(services, trained)
    clients = [Client(url, READ_TEXT.format(waiting)) for _ in range(FEW)]
    for reader in clients:
        reader.until(b"event: start")

    refused = Client(url, READ_TEXT.format(waiting))
    assert refused.status() == 429
    headers = refused.headers()
    assert headers["retry-after"] == "5"
    detail = refused.json(headers["content-length"])["detail"]
    assert detail.startswith("At most 2 readers may follow one text at once, and as many do.")
    other = Client(url, READ_TEXT.format(text))
    assert other.status() == 200
    clients.pop().go_away()
    until(lambda: services.generations.num_readers == FEW)
    again = Client(url, READ_TEXT.format(waiting))
    assert again.status() == 200

    for client in (*clients, refused, other, again):
        client.go_away()
    until(lambda: services.generations.num_readers == 0)
    assert services.generations.get(waiting).state == "running"
    services.generations.stop(waiting)


def test_readers_are_counted_in_all_and_before_a_text_begins(
    services: Services, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MOST_READERS", 1)
    made = Services(services.home, services.store, limits=LIMITS)
    given = {**body(trained), "stream": True}
    before = services.generations.list_generations(1)

    with serve(guard(make_rest_app(made), None)) as url:
        first = Client(url, "/api/v1/generations", {**given, **LONG})
        first.until(b"event: token")
        begun = services.generations.list_generations(1)
        refused = Client(url, "/api/v1/generations", given)
        assert refused.status() == 429
        assert services.generations.list_generations(1) == begun != before
        first.go_away()
        until(lambda: made.generations.num_readers == 0)
        refused.go_away()
        missing = Client(url, READ_TEXT.format("nothing"))
        assert missing.status() == 404
        assert made.generations.num_readers == 0
        missing.go_away()


@pytest.mark.parametrize("kind", ["rest", "mcp"])
def test_those_who_wait_for_a_text_are_counted(
    url: str, services: Services, text: str, trained: Trained, kind: str
) -> None:
    given = body(trained)
    path = "/api/v1/generations"
    if kind == "mcp":
        path = "/gradio_api/mcp"
        call = {"name": "generate", "arguments": given}
        given = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    before = texts(services)
    waiting = [Client(url, path, given) for _ in range(FEW)]
    # They are counted before their texts begin.
    until(lambda: len(texts(services)) == len(before) + FEW)
    assert services.generations.num_waiting == FEW

    refused = Client(url, path, given)
    status, headers = refused.status(), refused.headers()
    answer = json.dumps(refused.json(headers["content-length"]))

    assert "At most 2 clients may wait for their texts at once, and as many do." in answer
    assert (status, headers.get("retry-after")) == ((429, "5") if kind == "rest" else (200, None))
    assert len(texts(services)) == len(before) + FEW
    for client in (*waiting, refused):
        client.go_away()
    # The text before theirs is still being written.
    until(lambda: services.generations.num_waiting == 0)
    assert services.generations.get(text).state == "running"
    for begun in set(texts(services)) - set(before):
        services.generations.stop(begun)
