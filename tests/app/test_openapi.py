"""The description of the REST routes is valid, complete, and true of real answers."""

import json
import shlex
from typing import Any

import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from app.api.operations import OPERATIONS, TAGS
from app.pages.docs import curl_line
from tests.app.real_app import Trained

GETS = [
    "/system",
    "/presets",
    "/corpora",
    "/corpora/CORPUS",
    "/corpora/CORPUS/documents",
    "/corpora/CORPUS/chunks/0",
    "/jobs",
    "/jobs?state=succeeded",
    "/jobs/JOB",
    "/jobs/JOB/log",
    "/jobs/JOB/events",
    "/runs",
    "/runs/RUN",
    "/runs/RUN/metrics",
    "/generations",
]


@pytest.fixture
def schema(client: TestClient) -> Any:
    return client.get("/api/v1/openapi.json").json()


def operations(schema: Any) -> list[tuple[str, str, Any]]:
    return [
        (path, method, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]


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
    assert set(OPERATIONS) <= set(names)


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


def test_real_answers_fit_the_description(trained: Trained) -> None:
    [run] = trained.client.get("/api/v1/runs").json()["runs"][-1:]
    ids = {"CORPUS": trained.corpus_id, "RUN": trained.run_id, "JOB": str(run["job_id"])}
    schema = trained.client.get("/api/v1/openapi.json").json()
    for address in GETS:
        real = address
        for name, value in ids.items():
            real = real.replace(name, value)
        answer = trained.client.get(f"/api/v1{real}")
        assert answer.status_code == 200, real

        pattern = address.partition("?")[0]
        for name, field in (("CORPUS", "corpus_id"), ("RUN", "run_id"), ("JOB", "job_id")):
            pattern = pattern.replace(name, f"{{{field}}}")
        pattern = pattern.replace("chunks/0", "chunks/{chunk_id}")
        operation = schema["paths"][f"/api/v1{pattern}"]["get"]
        described = operation["responses"]["200"]["content"]["application/json"]["schema"]
        checker = Draft202012Validator({**schema, **described})
        assert [error.message for error in checker.iter_errors(answer.json())] == [], real


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
