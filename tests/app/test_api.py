"""The REST routes: what they answer, and one clear sentence for everything that is wrong."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.services.services import Services
from tests.app.real_app import Trained

MISSING = [
    ("GET", "/corpora/nothing"),
    ("DELETE", "/corpora/nothing"),
    ("GET", "/corpora/nothing/documents"),
    ("GET", "/corpora/nothing/chunks/0"),
    ("POST", "/corpora/nothing/build"),
    ("POST", "/corpora/nothing/train"),
    ("GET", "/jobs/nothing"),
    ("GET", "/jobs/nothing/log"),
    ("POST", "/jobs/nothing/cancel"),
    ("POST", "/jobs/nothing/retry"),
    ("GET", "/runs/nothing"),
    ("DELETE", "/runs/nothing"),
    ("POST", "/runs/nothing/pause"),
    ("POST", "/runs/nothing/resume"),
    ("POST", "/runs/nothing/stop"),
    ("POST", "/runs/nothing/duplicate"),
    ("POST", "/runs/nothing/write"),
    ("GET", "/runs/nothing/metrics"),
    ("GET", "/generations/nothing"),
    ("POST", "/generations/nothing/stop"),
]


def api(client: TestClient, method: str, path: str, body: Any = None) -> Any:
    return client.request(method, f"/api/v1{path}", json=body)


def upload(client: TestClient, corpus_id: str) -> None:
    files = [("files", (f"{i}.txt", b"some words to read %d " % i * 20)) for i in range(3)]
    assert client.post(f"/api/v1/corpora/{corpus_id}/files", files=files).status_code == 200


@pytest.mark.parametrize(("method", "path"), MISSING)
def test_a_missing_id_is_404_with_a_sentence(client: TestClient, method: str, path: str) -> None:
    answer = api(client, method, path)

    assert answer.status_code == 404
    assert "nothing" in answer.json()["detail"]


def test_unknown_routes_and_methods_answer_in_json(client: TestClient) -> None:
    unknown = api(client, "GET", "/no/such/route")
    wrong_method = api(client, "PUT", "/corpora")

    assert unknown.status_code == 404
    assert "/api/v1/docs" in unknown.json()["detail"]
    assert wrong_method.status_code == 405
    assert "PUT" in wrong_method.json()["detail"]


def test_the_system_route_tells_what_the_app_runs_on(client: TestClient) -> None:
    answer = api(client, "GET", "/system").json()

    assert answer["devices"]
    assert answer["disk"]["free"] > 0
    assert answer["worker"]["alive"] is False
    assert "torch" in answer["versions"]


def test_the_docs_page_needs_no_other_host(client: TestClient) -> None:
    page = client.get("/api/v1/docs").text

    assert "/api/v1/corpora/{corpus_id}/files" in page
    assert "http://" not in page
    assert "https://" not in page


def test_a_corpus_is_made_filled_built_and_deleted(client: TestClient, services: Services) -> None:
    made = api(client, "POST", "/corpora", {"name": " my  notes ", "settings": {"chunk_size": 32}})
    assert made.status_code == 201
    corpus = made.json()
    assert corpus["name"] == "my notes"
    assert corpus["state"] == "empty"
    assert corpus["settings"]["chunk_size"] == 32

    upload(client, corpus["id"])
    assert api(client, "GET", f"/corpora/{corpus['id']}").json()["num_documents"] == 3
    job = api(client, "POST", f"/corpora/{corpus['id']}/build")
    assert job.status_code == 202
    assert job.json()["state"] == "queued"
    again = api(client, "POST", f"/corpora/{corpus['id']}/build")
    assert again.status_code == 409

    in_use = api(client, "DELETE", f"/corpora/{corpus['id']}")
    assert in_use.status_code == 409
    assert services.home.corpus_dir(corpus["id"]).exists()
    api(client, "POST", f"/jobs/{job.json()['id']}/cancel")
    assert api(client, "DELETE", f"/corpora/{corpus['id']}").status_code == 204
    assert not services.home.corpus_dir(corpus["id"]).exists()
    assert api(client, "GET", "/corpora").json() == {"corpora": []}


def test_the_sample_fills_a_corpus(client: TestClient) -> None:
    corpus = api(client, "POST", "/corpora", {"name": "docs", "sample": "python-docs"}).json()

    assert corpus["num_documents"] > 50
    assert corpus["state"] == "uploaded"


def test_a_run_waits_for_the_build_of_its_corpus(client: TestClient) -> None:
    corpus = api(client, "POST", "/corpora", {"name": "notes"}).json()
    early = api(client, "POST", "/runs", {"name": "r", "corpus_id": corpus["id"]})
    assert early.status_code == 409
    assert "Build it first" in early.json()["detail"]

    upload(client, corpus["id"])
    run = api(client, "POST", f"/corpora/{corpus['id']}/train")
    assert run.status_code == 202
    assert run.json()["state"] == "queued"
    assert run.json()["checkpoints"] == []
    jobs = api(client, "GET", "/jobs", None).json()["jobs"]
    assert [job["kind"] for job in jobs] == ["train", "build"]
    assert jobs[0]["after_id"] == jobs[1]["id"]

    write = api(client, "POST", f"/runs/{run.json()['id']}/write")
    assert write.status_code == 409
    assert api(client, "DELETE", f"/runs/{run.json()['id']}").status_code == 409
    assert api(client, "DELETE", f"/corpora/{corpus['id']}").status_code == 409
    assert api(client, "POST", f"/runs/{run.json()['id']}/stop").json()["state"] == "canceled"
    assert api(client, "DELETE", f"/runs/{run.json()['id']}").status_code == 204


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("POST", "/corpora", {"name": "x", "colour": 1}, "colour is not a known field"),
        ("POST", "/corpora", {}, "name is needed"),
        ("POST", "/corpora", {"name": 7}, "name must be"),
        ("POST", "/corpora", {"name": "  "}, "1 to 200 printable characters"),
        ("POST", "/corpora", {"name": "a\x00b"}, "printable"),
        ("POST", "/corpora", {"name": "x" * 201}, "1 to 200"),
        ("POST", "/corpora", {"name": "x", "sample": "nope"}, "'python-docs', got 'nope'"),
        ("POST", "/corpora", {"name": "x", "settings": {"chunk_sise": 3}}, "'chunk_size'?"),
        ("POST", "/corpora", {"name": "x", "settings": {"chunk_size": -1}}, "got -1"),
        ("POST", "/corpora", {"name": "x", "settings": {"chunk_size": 2**63}}, "chunk_size"),
        ("POST", "/corpora", {"name": "x", "settings": {"seed": "'; DROP TABLE"}}, "seed"),
        ("POST", "/corpora", {"name": "x", "settings": {"encoder": "e" * 10_000}}, "got 10,000 in"),
        ("POST", "/corpora", {"name": "x", "settings": {"encoder": "a/b\nc"}}, "in one line"),
        (
            "POST",
            "/corpora",
            {"name": "x", "settings": {"encoder": "a/b\0c"}},
            "control characters",
        ),
        ("POST", "/corpora", [1], "must be"),
        ("POST", "/corpora", None, "body is needed"),
        ("GET", "/jobs?state=asleep", None, "'asleep'"),
        ("GET", "/jobs?limit=0", None, "limit must be"),
        ("GET", "/runs/x/metrics?since_step=-1", None, "since_step"),
        ("GET", "/corpora/x/documents?limit=99999", None, "limit"),
        ("GET", "/corpora/x/chunks/abc", None, "chunk_id"),
        ("POST", "/runs/x/explode", {}, "action must be"),
        ("POST", "/generations", {"run_id": "x"}, "prompt is needed"),
        ("POST", "/generations", {"run_id": "x", "prompt": "y", "top_k": 1.5}, "top_k"),
    ],
)
def test_wrong_input_is_one_clear_sentence(
    client: TestClient, method: str, path: str, body: Any, words: str
) -> None:
    answer = api(client, method, path, body)

    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert words in detail
    assert "Traceback" not in detail
    assert detail.endswith((".", "?"))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1", "true", "null"])
def test_no_number_causes_a_fault(client: TestClient, number: str) -> None:
    for field in ("temperature", "top_p", "top_k", "seed", "max_new_tokens"):
        content = f'{{"run_id": "x", "prompt": "y", "{field}": {number}}}'
        answer = client.post(
            "/api/v1/generations", content=content, headers={"content-type": "application/json"}
        )

        assert answer.status_code in (404, 422)
        json.loads(answer.text)


def test_a_broken_body_is_refused(client: TestClient) -> None:
    for content in (b"{", b"\xff\xfe", b"[" * 100_000):
        answer = client.post(
            "/api/v1/corpora", content=content, headers={"content-type": "application/json"}
        )

        assert answer.status_code in (400, 422)
        assert answer.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preset": "huge"}, "preset must be one of"),
        ({"preset": "tinny"}, "Did you mean 'tiny'?"),
        ({"training": {"max_steps": 0}}, "max_steps"),
        ({"training": {"learning_rate": -1}}, "learning_rate"),
        ({"training": {"steps": 5}}, "'steps'"),
        ({"model": {"dec_dim": "wide"}}, "dec_dim"),
        ({"name": ""}, "name must have"),
    ],
)
def test_a_wrong_run_is_refused_before_any_work(
    client: TestClient, changes: dict[str, Any], words: str
) -> None:
    corpus = api(client, "POST", "/corpora", {"name": "notes"}).json()
    upload(client, corpus["id"])
    api(client, "POST", f"/corpora/{corpus['id']}/build")

    answer = api(client, "POST", "/runs", {"name": "r", "corpus_id": corpus["id"], **changes})

    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert api(client, "GET", "/runs").json() == {"runs": []}


def test_search_needs_an_index_and_a_text(client: TestClient) -> None:
    corpus = api(client, "POST", "/corpora", {"name": "notes"}).json()

    answer = api(client, "POST", f"/corpora/{corpus['id']}/search", {"text": "x"})

    assert answer.status_code == 409
    assert "no index yet" in answer.json()["detail"]
    empty = api(client, "POST", f"/corpora/{corpus['id']}/search", {"text": "  "})
    assert empty.status_code == 422
    many = api(client, "POST", f"/corpora/{corpus['id']}/search", {"text": "x", "k": 101})
    assert "got 101" in many.json()["detail"]


def test_building_an_empty_corpus_is_refused(client: TestClient) -> None:
    corpus = api(client, "POST", "/corpora", {"name": "notes"}).json()

    answer = api(client, "POST", f"/corpora/{corpus['id']}/build")

    assert answer.status_code == 422
    assert "at least one document" in answer.json()["detail"]


@pytest.mark.slow
def test_search_and_chunks_tell_where_text_comes_from(trained: Trained) -> None:
    answer = api(
        trained.client,
        "POST",
        f"/corpora/{trained.corpus_id}/search",
        {"text": "old rivers and green hills", "k": 3},
    )

    neighbors = answer.json()["neighbors"]
    assert [item["rank"] for item in neighbors] == [1, 2, 3]
    first = neighbors[0]
    chunk = api(
        trained.client, "GET", f"/corpora/{trained.corpus_id}/chunks/{first['chunk_id']}"
    ).json()
    assert chunk["text"] == first["text"]
    assert chunk["document"] == first["document"]
    document = trained.services.corpora.document(trained.corpus_id, first["document"])
    text = document.text[first["start"] : first["end"]]
    assert text == first["text"]
    beyond = api(trained.client, "GET", f"/corpora/{trained.corpus_id}/chunks/999999")
    assert beyond.status_code == 404


@pytest.mark.slow
def test_metrics_and_checkpoints_of_a_run(trained: Trained) -> None:
    run = api(trained.client, "GET", f"/runs/{trained.run_id}").json()
    points = api(
        trained.client, "GET", f"/runs/{trained.run_id}/metrics?name=train_loss&since_step=2"
    ).json()["points"]

    assert run["state"] == "succeeded"
    assert run["step"] == 4
    assert [item["step"] for item in run["checkpoints"]] == [2, 4]
    assert {point["name"] for point in points} == {"train_loss"}
    assert min(point["step"] for point in points) >= 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/corpora", rb'{"name": "\ud800"}'),
        ("/api/v1/corpora", rb'{"name": "x", "settings": {"encoder": "\udfff"}}'),
        ("/api/v1/runs", rb'{"name": "x", "corpus_id": "\ud800"}'),
        ("/api/v1/runs", rb'{"name": "x", "corpus_id": "y", "model": {"\ud800": [1]}}'),
        ("/api/v1/generations", rb'{"run_id": "x", "prompt": "half \ud83d"}'),
    ],
)
def test_half_characters_are_refused_in_every_text(
    client: TestClient, path: str, body: bytes
) -> None:
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422
    assert "free of halves of surrogate pairs, got" in answer.json()["detail"]


@pytest.mark.parametrize("depth", [100, 300, 500, 700, 900, 950, 100_000])
def test_a_deeply_nested_body_is_refused(client: TestClient, depth: int) -> None:
    body = b'{"name": ' + b"[" * depth + b"]" * depth + b"}"

    answer = client.post(
        "/api/v1/corpora", content=body, headers={"Content-Type": "application/json"}
    )

    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]
