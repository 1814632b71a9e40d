"""The description of the REST routes is valid, complete, and true of real answers."""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from app.pages.docs import curl_line
from app.programs.description import ROUTES
from app.programs.words import TAGS
from app.services.services import Services
from retro.config.checks import config_to_dict
from retro.config.model import ModelConfig
from retro.config.training import TrainingConfig
from tests.app.real_app import Trained

JSON_TYPE = "application/json"
GETS = [
    "/system",
    "/settings",
    "/storage",
    "/presets",
    "/corpora",
    "/corpora/{corpus_id}",
    "/corpora/{corpus_id}/versions",
    "/corpora/{corpus_id}/sizes",
    "/corpora/{corpus_id}/documents",
    "/corpora/{corpus_id}/documents/{path}",
    "/corpora/{corpus_id}/chunks/{chunk_id}",
    "/jobs",
    "/jobs?state=succeeded",
    "/jobs/{job_id}",
    "/jobs/{job_id}/log",
    "/jobs/{job_id}/events",
    "/runs",
    "/runs/curves?ids={run_id}",
    "/runs/compare?ids={run_id}",
    "/runs/{run_id}",
    "/runs/{run_id}/metrics",
    "/runs/{run_id}/recipe",
    "/runs/{run_id}/samples",
    "/generations",
]
STEERING = {
    "exclude_chunks": [1],
    "exclude_documents": ["folder/0.txt"],
    "given": {"1": [{"text": "the cat sat"}, {"chunk_id": 30}]},
}
TEXTS = [
    {"retrieval": "on", "steering": STEERING},
    {"retrieval": "both"},
    {"retrieval": "off", "num_samples": 2},
]
FREE = {"RunSettings.model", "RunSettings.training"}
"""Fields with settings by name, as they were asked for."""


@pytest.fixture
def schema(client: TestClient) -> Any:
    return client.get("/api/v1/openapi.json").json()


def operations(schema: Any) -> list[tuple[str, str, Any]]:
    return [
        (path, method, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]


def good_answers(schema: Any) -> dict[str, Any]:
    """Return what describes the JSON of each operation that has succeeded."""
    return {
        f"{method} {path} {status}": answer["content"][JSON_TYPE]
        for path, method, operation in operations(schema)
        for status, answer in operation["responses"].items()
        if status.startswith("2") and JSON_TYPE in answer.get("content", {})
    }


def answer_schemas(schema: Any) -> dict[str, Any]:
    """Return the schemas that answers are made of, by name."""
    found: dict[str, Any] = {}
    waiting: list[Any] = [item["schema"] for item in good_answers(schema).values()]
    while waiting:
        for name in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(waiting.pop())):
            if name not in found:
                found[name] = schema["components"]["schemas"][name]
                waiting.append(found[name])
    return found


def names_of(described: Any, schema: Any) -> set[str]:
    name = described.get("$ref", "").rsplit("/", 1)[-1]
    return set(schema["components"]["schemas"].get(name, {}).get("properties", {}))


def names_in(value: Any) -> set[str]:
    return set(value) if isinstance(value, dict) else set()


def fields_in(value: Any, described: Any, schema: Any, owner: str) -> Iterator[tuple[str, bool]]:
    """Yield every field in a value, with the schema it is in, and whether that names it."""
    choices = [item for item in described.get("anyOf", []) if item != {"type": "null"}]
    if choices:
        # Of several kinds the one that has the value's names.
        described = max(choices, key=lambda item: len(names_of(item, schema) & names_in(value)))
    if "$ref" in described:
        owner = described["$ref"].rsplit("/", 1)[-1]
        described = schema["components"]["schemas"][owner]
    if isinstance(value, list):
        for item in value:
            yield from fields_in(item, described.get("items", {}), schema, owner)
    if isinstance(value, dict):
        others = described.get("additionalProperties")
        for name, item in value.items():
            place = f"{owner}.{name}"
            inside = described.get("properties", {}).get(name, others)
            yield place, isinstance(inside, dict)
            if isinstance(inside, dict) and place not in FREE:
                yield from fields_in(item, inside, schema, owner)


def problems(value: Any, described: Any, schema: Any) -> list[str]:
    """Return what a description does not allow, and the fields it does not name."""
    checker = Draft202012Validator({**schema, **described})
    found = [error.message for error in checker.iter_errors(value)]
    named = fields_in(value, described, schema, "")
    return found + [f"{place} is not described" for place, is_named in named if not is_named]


def test_the_description_is_valid(schema: Any) -> None:
    validate(schema)


def test_every_operation_says_what_it_does(schema: Any) -> None:
    for path, method, operation in operations(schema):
        place = f"{method} {path}"
        assert operation["summary"], place
        assert len(operation["summary"]) <= 120, place
        assert len(operation["description"]) >= len(operation["summary"]), place
        assert operation["tags"][0] in TAGS, place
        for parameter in operation.get("parameters", []):
            assert parameter["description"], f"{place} {parameter['name']}"


def test_names_of_operations_are_short_and_differ(schema: Any) -> None:
    names = [operation["operationId"] for _, _, operation in operations(schema)]

    assert len(set(names)) == len(names)
    assert all(len(name) <= 32 and name.isidentifier() for name in names)
    assert {"corpora_create", "runs_get", "jobs_cancel", "generations_create"} <= set(names)
    assert set(ROUTES) == set(names)


def test_bodies_and_answers_have_examples_that_fit(schema: Any) -> None:
    for path, method, operation in operations(schema):
        bodies = operation.get("requestBody", {}).get("content", {})
        contents = [bodies, *(item.get("content", {}) for item in operation["responses"].values())]
        for content in contents:
            if "application/json" not in content:
                continue
            described = content["application/json"]
            shown = described.get("examples") or {"only": {"value": described["example"]}}
            for example in shown.values():
                checker = Draft202012Validator({**schema, **described["schema"]})
                errors = [error.message for error in checker.iter_errors(example["value"])]
                assert not errors, f"{method} {path}: {errors}"


def test_the_fields_of_bodies_say_what_they_are(schema: Any) -> None:
    bodies = [
        item["schema"]
        for _, _, operation in operations(schema)
        for item in operation.get("requestBody", {}).get("content", {}).values()
    ]
    names = {
        option["$ref"].rsplit("/", 1)[-1]
        for body in bodies
        for option in (body, *body.get("anyOf", []))
        if "$ref" in option
    }
    fields = {
        f"{name}.{field}": value
        for name in names
        for field, value in schema["components"]["schemas"][name]["properties"].items()
    }

    assert len(fields) > 40
    assert [name for name, value in fields.items() if not value.get("description")] == []


def test_every_operation_names_its_errors_and_the_token(schema: Any) -> None:
    assert schema["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert {"token": []} in schema["security"]
    for path, method, operation in operations(schema):
        errors = {status for status in operation["responses"] if not status.startswith("2")}
        assert {"401", "403", "409"} <= errors, f"{method} {path}"
        assert ("404" in errors) or "{" not in path
        for status in errors:
            answer = operation["responses"][status]["content"]["application/json"]
            assert answer["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert set(answer["example"]) == {"detail"}


def test_every_answer_has_a_named_schema(schema: Any) -> None:
    answers = good_answers(schema)

    assert len(answers) > 40
    for place, answer in answers.items():
        assert list(answer["schema"]) == ["$ref"], place


def test_every_field_of_an_answer_says_what_it_is(schema: Any) -> None:
    fields = {
        f"{name}.{field}": value
        for name, item in answer_schemas(schema).items()
        for field, value in item.get("properties", {}).items()
    }

    assert len(fields) > 400
    assert [place for place, value in fields.items() if not value.get("description")] == []
    for place in FREE:
        assert fields[place]["additionalProperties"] is True


def test_examples_of_answers_have_every_field_and_no_other(schema: Any) -> None:
    schemas = answer_schemas(schema)
    fields = {
        f"{name}.{field}" for name, item in schemas.items() for field in item.get("properties", {})
    }
    examples = [(item["schema"], item["example"]) for item in good_answers(schema).values()]
    for name, item in schemas.items():
        described = {"$ref": f"#/components/schemas/{name}"}
        examples += [(described, example) for example in item.get("examples", [])]
        examples += [(described, item["example"])] if "example" in item else []

    shown: set[str] = set()
    for described, example in examples:
        assert problems(example, described, schema) == [], described
        shown |= {place for place, _ in fields_in(example, described, schema, "")}
    assert fields - shown == set()


def test_real_answers_are_as_described(trained: Trained) -> None:
    schema = trained.client.get("/api/v1/openapi.json").json()
    answers = good_answers(schema)
    [run] = trained.client.get("/api/v1/runs").json()["runs"][-1:]
    ids = {
        "corpus_id": trained.corpus_id,
        "path": "folder/1.txt",
        "chunk_id": 0,
        "run_id": trained.run_id,
        "job_id": run["job_id"],
    }
    asked, texts = set(), []

    def check(method: str, pattern: str, status: int = 200, body: Any = None, **more: str) -> Any:
        address = f"/api/v1{pattern.format(**ids, **more)}"
        answer = trained.client.request(method, address, json=body)
        assert answer.status_code == status, (address, answer.text)
        place = f"{method} /api/v1{pattern.partition('?')[0]} {status}"
        asked.add(place)
        assert problems(answer.json(), answers[place]["schema"], schema) == [], address
        return answer.json()

    for more in TEXTS:
        body = {"run_id": trained.run_id, "prompt": "the cat sat", "max_new_tokens": 40, **more}
        text = check("post", "/generations", body=body)
        assert text["state"] == "succeeded"
        check("get", "/generations/{generation_id}", generation_id=text["id"])
        texts.append(text)
    for pattern in GETS:
        check("get", pattern)
    check("post", "/corpora/{corpus_id}/search", body={"text": "the cat"})
    check("post", "/runs/estimate", body={"corpus_id": trained.corpus_id})
    check("post", "/storage/clean", body={"what": "damaged"})
    check("patch", "/corpora/{corpus_id}", body={"name": "letters"})

    given = [neighbor["source"] for neighbor in texts[0]["chunks"][1]["neighbors"]]
    assert given == ["written", "chosen"]
    assert texts[1]["on"]["chunks"][1]["neighbors"]
    assert {place for place in answers if place.startswith("get ")} <= asked


def test_answers_about_work_under_way_are_as_described(
    services: Services, client: TestClient, schema: Any
) -> None:
    store, corpus = services.store, services.corpora.create("notes")
    resolved = {
        "model": config_to_dict(ModelConfig()),
        "training": config_to_dict(TrainingConfig()),
    }
    asked = {"preset": "tiny", "model": {"heads": 4}, "training": {}, "parameters": 9}
    run = store.create_run("first", corpus.id, {**asked, "resolved": resolved}, 10)
    store.submit("train", run_id=run.id, settings={})
    store.heartbeat("a-host", ["cpu"], store.now())
    job = store.claim("a-host", "cpu")
    assert job is not None
    assert job.lease_token is not None
    store.add_alert(run.id, kind="plateau", step=3, message="Stop.", token=job.lease_token)

    answers = {
        name: client.get(f"/api/v1{address}").json()
        for name, address in {
            "System": "/system",
            "Corpus": f"/corpora/{corpus.id}",
            "Job": f"/jobs/{job.id}",
            "Run": f"/runs/{run.id}",
        }.items()
    }

    for name, answer in answers.items():
        assert problems(answer, {"$ref": f"#/components/schemas/{name}"}, schema) == [], name
    assert answers["System"]["workers"][0]["slots"][0]["job"]["id"] == job.id
    assert answers["Corpus"]["unfinished_runs"][0]["id"] == run.id
    assert answers["Run"]["alerts"][0]["step"] == 3


def test_answers_to_uploads_are_as_described(client: TestClient, schema: Any) -> None:
    corpus = client.post("/api/v1/corpora", json={"name": "notes"})
    place = f"/api/v1/corpora/{corpus.json()['id']}"
    files = [
        ("files", ("a.txt", "Gru\u00df".encode("latin-1"))),
        ("files", ("b.txt", b"")),
    ]

    report = client.post(f"{place}/files", files=files)

    answers = {"Corpus": corpus, "UploadReport": report}
    answers |= {"DocumentPage": client.get(f"{place}/documents")}
    answers |= {"DocumentText": client.get(f"{place}/documents/a.txt")}
    for name, answer in answers.items():
        described = {"$ref": f"#/components/schemas/{name}"}
        assert problems(answer.json(), described, schema) == [], name
    assert report.json()["accepted"][0]["note"] == "read as Latin-1"
    assert len(report.json()["skipped"]) == 1


def test_the_page_shows_everything_and_needs_no_other_host(client: TestClient, schema: Any) -> None:
    page = client.get("/api/v1/docs").text

    for path, _, operation in operations(schema):
        assert path in page
        assert f'id="{operation["operationId"]}"' in page
    assert page.count("Try with curl") == len(operations(schema))
    assert "http://" not in page
    assert "https://" not in page


def test_the_line_for_curl_can_be_pasted() -> None:
    body = {"text": "it's $HOME `x`"}
    operation = {"requestBody": {"content": {"application/json": {"example": body}}}}

    words = shlex.split(curl_line("/api/v1/corpora/{corpus_id}/search", "post", operation))

    assert words[:3] == ["curl", "-X", "POST"]
    assert json.loads(words[words.index("-d") + 1]) == body
    assert words[-1] == "127.0.0.1:7860/api/v1/corpora/corpus_id/search"
