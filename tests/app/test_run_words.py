"""Names, tags and notes of runs, through the routes that people's scripts use."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.services.services import Services

TOO_MANY = [str(number) for number in range(21)]


@pytest.fixture
def run_id(services: Services) -> str:
    corpus = services.store.create_corpus("letters", {"chunk_size": 16, "num_neighbors": 2})
    return services.store.create_run("first", corpus.id, {"preset": "tiny"}, 10).id


def change(client: TestClient, run_id: str, **body: Any) -> Any:
    return client.patch(f"/api/v1/runs/{run_id}", json=body)


def test_each_thing_is_changed_by_itself(client: TestClient, run_id: str) -> None:
    change(client, run_id, notes="two\r\nlines")
    change(client, run_id, tags=["b", " a  c ", "b"])
    answer = change(client, run_id, name="second").json()

    assert (answer["name"], answer["tags"], answer["notes"]) == (
        "second", ["a c", "b"], "two\nlines",
    )  # fmt: skip
    assert change(client, run_id).json() == client.get(f"/api/v1/runs/{run_id}").json()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"tags": ["x" * 41]}, "1 to 40 printable characters"),
        ({"tags": [""]}, "got ''"),
        ({"tags": ["  "]}, "got ''"),
        ({"tags": ["a\u202eb"]}, "printable"),
        ({"tags": ["a\x00b"]}, "printable"),
        ({"tags": TOO_MANY}, "at most 20 tags, got 21"),
        ({"tags": "x"}, "tags"),
        ({"notes": "x" * 20_001}, "at most 20,000 characters, got 20,001"),
        ({"notes": "a\x00"}, "NUL, got one at position 1"),
        ({"name": " "}, "name"),
        ({"notes": 7}, "notes"),
        ({"note": "x"}, "note"),
    ],
)
def test_what_cannot_be_kept_is_refused_whole(
    client: TestClient, run_id: str, body: dict[str, Any], words: str
) -> None:
    answer = change(client, run_id, **{"notes": "new", **body})

    assert answer.status_code == 422, answer.text
    assert words in answer.json()["detail"]
    assert client.get(f"/api/v1/runs/{run_id}").json()["notes"] == ""


def test_the_longest_that_is_allowed_is_kept(client: TestClient, run_id: str) -> None:
    tags = sorted(f"{number:02}" + "x" * 38 for number in range(20))

    answer = change(client, run_id, tags=tags, notes="\N{GREEK SMALL LETTER ALPHA}" * 20_000)

    assert (answer.status_code, answer.json()["tags"]) == (200, tags)


def test_runs_are_listed_by_tag_without_their_notes(client: TestClient, run_id: str) -> None:
    change(client, run_id, tags=["a b"], notes="long")

    found = client.get("/api/v1/runs", params={"tag": "a b"}).json()["runs"]

    assert [run["tags"] for run in found] == [["a b"]]
    assert "notes" not in found[0]
    assert client.get("/api/v1/runs", params={"tag": "a"}).json() == {"runs": []}


@pytest.mark.parametrize(
    "path",
    [
        "runs?tag=%00",
        "runs/curves?ids=a%00",
        "runs/curves?ids=a&names=%00",
        "runs/x/metrics?name=%00",
    ],
)
def test_text_that_no_database_compares_is_refused(client: TestClient, path: str) -> None:
    assert client.get(f"/api/v1/{path}").status_code == 422
