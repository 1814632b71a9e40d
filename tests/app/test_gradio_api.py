"""The functions for ``gradio_client``, called through a real server behind the token gate."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from app.services import following
from app.services.services import Services
from app.web import make_app
from jobs.store.store import Store
from tests.app.real_app import LIMITS, TOKEN, Trained
from tests.app.serving import serve, until
from tests.app.texts import wait_in

pytestmark = pytest.mark.slow

PROMPT = "the cat sat on a mat and saw dogs run far over green hills by old rivers"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
FUNCTIONS = {
    "/generate", "/generate_stream", "/branch", "/get_generation", "/search", "/list_runs",
    "/list_corpora", "/create_corpus", "/build_corpus", "/start_run", "/get_corpus", "/get_run",
    "/get_job", "/wait_for_job",
}  # fmt: skip


@pytest.fixture(scope="module")
def services(trained: Trained) -> Iterator[Services]:
    # Its own: the server closes the services it was made with.
    home = trained.services.home
    made = Services(home, Store(home.database_url()), limits=LIMITS)
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def url(services: Services) -> Iterator[str]:
    with serve(make_app(services, token=TOKEN)) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    made = Client(url, headers=HEADERS, verbose=False, analytics_enabled=False)
    yield made
    made.close()


def test_only_the_typed_functions_are_listed(client: Client) -> None:
    info = client.view_api(return_format="dict", print_info=False)

    assert set(info["named_endpoints"]) == FUNCTIONS
    assert info["unnamed_endpoints"] == {}
    names = {item["parameter_name"] for item in info["named_endpoints"]["/generate"]["parameters"]}
    assert {"run_id", "prompt", "max_new_tokens", "retrieval", "stop"} <= names


def test_without_the_token_nothing_can_be_called(url: str) -> None:
    answers = [
        httpx.get(f"{url}/gradio_api/info"),
        httpx.post(f"{url}/gradio_api/call/list_runs", json={"data": []}),
        httpx.get(f"{url}/api/v1/generations", headers={"Authorization": "Bearer wrong"}),
    ]

    assert [answer.status_code for answer in answers] == [401, 401, 401]


def test_a_text_is_written_read_and_branched(client: Client, trained: Trained) -> None:
    [run] = client.predict(api_name="/list_runs")
    text = client.predict(run["id"], PROMPT, max_new_tokens=40, seed=3, api_name="/generate")

    assert text["state"] == "succeeded"
    assert sum(len(c["token_ids"]) for c in text["chunks"] if not c["is_prompt"]) == 40
    assert client.predict(text["id"], api_name="/get_generation") == text
    neighbor = text["chunks"][2]["neighbors"][0]
    child = client.predict(text["id"], 2, exclude_chunks=[neighbor["chunk_id"]], api_name="/branch")
    assert child["parent_id"] == text["id"]
    found = [item["chunk_id"] for item in child["chunks"][2]["neighbors"]]
    assert found
    assert neighbor["chunk_id"] not in found
    assert child["settings"]["steering"]["exclude_chunks"] == [neighbor["chunk_id"]]
    assert run["id"] == trained.run_id


def test_a_stream_grows_to_the_whole_text(client: Client, trained: Trained) -> None:
    job = client.submit(
        trained.run_id, PROMPT, max_new_tokens=2_000, retrieval="off", api_name="/generate_stream"
    )

    texts = list(job)

    assert len(texts) > 2
    assert len(texts[0]) < len(texts[-1])
    newest = trained.services.generations.list_generations(1)[0]
    assert texts[-1] == trained.services.generations.get(newest.id).text


def test_a_corpus_can_be_searched(client: Client, trained: Trained) -> None:
    [corpus] = client.predict(api_name="/list_corpora")

    found = client.predict(corpus["id"], "cat on a mat", 3, api_name="/search")

    assert corpus["id"] == trained.corpus_id
    assert [item["rank"] for item in found] == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("/generate", ["nothing", "x"], "There is no run nothing"),
        ("/generate", ["RUN", "  "], "The prompt must not be empty"),
        ("/generate", ["RUN", "x", -1], "max_new_tokens must be"),
        ("/generate", ["RUN", "x", 4, "warm"], "temperature must be"),
        ("/generate", [{"a": 1}, "x"], "run_id must be a text"),
        ("/generate_stream", ["RUN", "x" * 9_000], "window of 64 tokens"),
        ("/branch", ["nothing", 2], "There is no generation nothing"),
        ("/get_generation", ["nothing"], "There is no generation nothing"),
        ("/get_generation", [7], "generation_id must be a text, got 7"),
        ("/search", ["nothing", "x"], "There is no corpus nothing"),
        ("/search", ["nothing", "x", "many"], "k must be a whole number, got 'many'"),
        ("/create_corpus", [" "], "name must have 1 to 200 printable characters"),
        ("/create_corpus", ["x", "no-such"], "sample must be one of 'python-docs'"),
        ("/build_corpus", ["nothing"], "There is no corpus nothing"),
        ("/start_run", ["x", "nothing"], "There is no corpus nothing"),
        ("/start_run", ["x", "CORPUS", "huge"], "huge"),
        ("/start_run", ["x", "CORPUS", None, "10"], "max_steps must be a whole number, got '10'"),
        ("/get_corpus", ["nothing"], "There is no corpus nothing"),
        ("/get_run", ["nothing"], "There is no run nothing"),
        ("/get_job", ["nothing"], "There is no job nothing"),
        ("/wait_for_job", ["nothing"], "There is no job nothing"),
        ("/wait_for_job", ["nothing", 601], "timeout_s must be between 0 and 600, got 601"),
    ],
)
def test_an_error_reaches_the_client_as_its_sentence(
    client: Client, trained: Trained, name: str, arguments: list[Any], words: str
) -> None:
    known = {"RUN": trained.run_id, "CORPUS": trained.corpus_id}
    given = [known.get(value, value) if isinstance(value, str) else value for value in arguments]

    with pytest.raises(AppError, match=words):
        client.predict(*given, api_name=name)


def test_a_reader_that_goes_away_is_not_counted_while_nothing_is_written(
    url: str, services: Services, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "QUIET_S", 0.2)
    given = {"run_id": trained.run_id, "prompt": PROMPT}
    long = {"max_new_tokens": 100_000, "temperature": 0}
    first = services.generations.start(**given, sampling=long)
    address = f"{url}/gradio_api/call/generate_stream"
    data = [trained.run_id, PROMPT, 40, 0, 0, 1, 0, 1, 0, 2, [], "on", None, None]
    event = httpx.post(address, json={"data": data}, headers=HEADERS).json()
    with httpx.stream("GET", f"{address}/{event['event_id']}", headers=HEADERS) as answer:
        assert next(answer.iter_lines()) == "event: generating"
        assert services.generations.num_readers == 1

    until(lambda: services.generations.num_readers == 0)

    second = services.generations.list_generations(1)[0]
    assert services.generations.waiting_for(second.id) == 1
    for one in (second, first):
        services.generations.stop(one.id)
        wait_in(services, one.id)


def test_a_model_is_made_step_by_step(client: Client, services: Services) -> None:
    corpus = client.predict("docs", api_name="/create_corpus")
    job = client.predict(corpus["id"], api_name="/build_corpus")
    run = client.predict("r", corpus["id"], "tiny", 7, api_name="/start_run")

    assert client.predict(corpus["id"], api_name="/get_corpus")["state"] == "building"
    assert client.predict(job["id"], 0, api_name="/wait_for_job")["state"] == "queued"
    assert client.predict(run["id"], api_name="/get_run")["total_steps"] == 7
    waiting = client.submit(job["id"], 30, api_name="/wait_for_job")
    services.jobs.cancel(run["job_id"])
    services.jobs.cancel(job["id"])
    assert waiting.result()["state"] == "canceled"
    assert client.predict(job["id"], api_name="/get_job")["state"] == "canceled"
    services.runs.delete(run["id"])
    services.corpora.delete(corpus["id"])


def test_the_pages_are_wired_privately(url: str) -> None:
    info = httpx.get(f"{url}/gradio_api/info", headers=HEADERS).json()
    config = httpx.get(f"{url}/config", headers=HEADERS).json()

    assert set(info["named_endpoints"]) == FUNCTIONS
    assert info["unnamed_endpoints"] == {}
    public = {
        f"/{item['api_name']}"
        for item in config["dependencies"]
        if item["api_visibility"] == "public"
    }
    assert public == FUNCTIONS
    for function in info["named_endpoints"].values():
        assert function["description"]


def test_a_client_that_goes_away_does_not_stop_the_text(
    url: str, services: Services, trained: Trained
) -> None:
    body = {
        "run_id": trained.run_id,
        "prompt": PROMPT,
        "max_new_tokens": 100_000,
        # Drawn at random, the end token would come after some hundred tokens.
        "temperature": 0,
        "retrieval": "off",
        "stream": True,
    }
    with httpx.stream("POST", f"{url}/api/v1/generations", json=body, headers=HEADERS) as answer:
        lines = answer.iter_lines()
        while not next(lines).startswith("event: token"):
            pass
    generation_id = services.generations.list_generations(1)[0].id
    before = len(services.generations.get(generation_id).chunks)

    until(lambda: len(services.generations.get(generation_id).chunks) > before + 2)
    again = f"{url}/api/v1/generations/{generation_id}/events"
    told = []
    with httpx.stream("GET", again, headers=HEADERS) as answer:
        for line in answer.iter_lines():
            if line.startswith("event: "):
                told.append(line.removeprefix("event: "))
            if len(told) == 60:
                services.generations.stop(generation_id)
            if told and told[-1] == "done":
                break

    assert told[:2] == ["start", "chunk_start"]
    assert {"token", "chunk_end", "done"} <= set(told)
    assert services.generations.get(generation_id).state == "canceled"
