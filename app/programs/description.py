"""The OpenAPI description: what FastAPI knows of the routes, and what people need beside it.

Every operation gets a summary, a description, an example of its body and of its answer, the
errors that it can end with, and the access token.
"""

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from app.programs.idempotency import PARAMETER, takes_key
from app.programs.operation import Operation
from app.programs.table import OPERATIONS
from app.programs.words import TAGS, words_for
from app.services.views.base import Problem, View
from app.services.views.docstrings import DocstringSchemas

Json = dict[str, Any]

REFERENCE = "#/components/schemas/{model}"
SCHEME = "token"
JSON_TYPE = "application/json"
ABOUT = (
    "Corpora, jobs, training runs and texts of a RETRO server. JSON in and out; unknown fields are "
    "refused. Every error is a sentence in `detail`: the rule, the value found, the next step."
)
ERRORS = {
    400: "The body could not be read.",
    401: "The access token is missing or wrong.",
    403: "The request comes from another site, or names a host that is not served.",
    404: "There is nothing with this id.",
    409: "The thing is in a state that does not allow this.",
    413: "The request is larger than the limits allow.",
    422: "A value is missing, unknown or out of range.",
    429: "Too many wrong tokens came from this address, or too many clients follow or await texts.",
    503: "The device or the host has too little memory at the moment.",
    507: "The disk has no room for it.",
}
EXAMPLES_BY_TYPE = {"string": "text", "integer": 1, "number": 0.5, "boolean": True, "null": None}
PROBLEM_EXAMPLES = {
    401: "This app needs its access token. Send it as 'Authorization: Bearer <token>' or log in "
    "at /login.",
    404: "There is no run nothing.",
    409: "Corpus 'Notes' is being built already. Wait for that job, or cancel it.",
    422: "k must be between 1 and 100, got 0.",
}


ROUTES = {operation.id: operation for operation in OPERATIONS if operation.method}


class DescribedApp(FastAPI):
    """A FastAPI app whose description is complete."""

    def openapi(self) -> Json:
        """Return the description; made once."""
        if self.openapi_schema is None:
            self.openapi_schema = complete(super().openapi())
        return self.openapi_schema


def complete(schema: Json) -> Json:
    """Add to a description what FastAPI does not know; return it."""
    schema["info"]["description"] = ABOUT
    schema["servers"] = [{"url": "/", "description": "This server"}]
    schema["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for body in schemas.values():
        for name, field in body.get("properties", {}).items():
            field.setdefault("description", words_for(name))
    answers = _answer_schemas()
    assert not schemas.keys() & answers.keys(), "a body and an answer have the same name"
    schemas.update(answers)
    components["securitySchemes"] = {
        SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "The value of RETRO_TOKEN, where one is set.",
        }
    }
    # The second, empty choice: a server on loopback may have no token.
    schema["security"] = [{SCHEME: []}, {}]
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            if takes_key(method.upper(), path):
                operation.setdefault("parameters", []).append(PARAMETER)
            _complete_operation(schema, method, operation)
    return schema


def _answer_schemas() -> Json:
    models = {made.view for made in ROUTES.values() if made.view is not None}
    wanted: list[type[View]] = [Problem, *sorted(models, key=lambda model: model.__name__)]
    _, definitions = models_json_schema(
        [(model, "serialization") for model in wanted],
        ref_template=REFERENCE,
        schema_generator=DocstringSchemas,
    )
    found: Json = definitions["$defs"]
    return found


def _complete_operation(schema: Json, method: str, operation: Json) -> None:
    made = ROUTES[operation["operationId"]]
    operation["summary"] = made.paragraphs[0].rstrip(".")
    operation["description"] = "\n\n".join(made.paragraphs)
    for parameter in operation.get("parameters", []):
        if "description" not in parameter:
            parameter["description"] = words_for(parameter["name"])
    if made.form is not None:
        operation["requestBody"] = _form(made.form, made.example)
    if JSON_TYPE in (content := operation.get("requestBody", {}).get("content", {})):
        body = content[JSON_TYPE]
        if "example" not in body and "examples" not in body:
            body["example"] = made.example or example_of(schema, body["schema"])
    # FastAPI's own lists the problems; ours is one sentence.
    operation["responses"].pop("422", None)
    for status, answer in operation["responses"].items():
        _add_answer(schema, answer, made if status.startswith("2") else None)
    for status in _possible_errors(method, operation):
        operation["responses"][str(status)] = _error(status)


def _form(properties: Json, example: Any) -> Json:
    schema = {"type": "object", "properties": properties, "required": ["files"]}
    content = {"schema": schema, "example": example}
    return {"required": True, "content": {"multipart/form-data": content}}


def _add_answer(schema: Json, answer: Json, made: Operation | None) -> None:
    if made is not None and made.media_type:
        answer["content"] = {made.media_type: {"schema": {"type": "string"}}}
    content = answer.get("content", {})
    if JSON_TYPE not in content:
        return
    described = content[JSON_TYPE]
    if made is not None and made.view is not None:
        described["schema"] = {"$ref": REFERENCE.format(model=made.view.__name__)}
        answer["description"] = " ".join((made.view.__doc__ or "").split())
    if "example" not in described and "examples" not in described:
        described["example"] = example_of(schema, described.get("schema", {}))


def _possible_errors(method: str, operation: Json) -> list[int]:
    has_body = method in ("post", "patch", "put")
    has_input = has_body or bool(operation.get("parameters"))
    chosen = {
        400: has_body,
        401: True,
        403: True,
        404: has_input,
        409: True,
        413: has_body,
        422: has_input,
        429: True,
        503: has_body,
        507: has_body,
    }
    return [status for status, is_possible in chosen.items() if is_possible]


def _error(status: int) -> Json:
    detail = PROBLEM_EXAMPLES.get(status, ERRORS[status])
    schema = {"$ref": REFERENCE.format(model="Problem")}
    return {
        "description": ERRORS[status],
        "content": {JSON_TYPE: {"schema": schema, "example": {"detail": detail}}},
    }


def example_of(schema: Json, value: Json) -> Any:
    """Return an example of what a schema describes, from the examples inside it.

    Args:
        schema: The whole description, for its references.
        value: The part of it that is to be shown.
    """
    if "$ref" in value:
        return example_of(schema, schema["components"]["schemas"][value["$ref"].rsplit("/", 1)[-1]])
    for name in ("example", "default"):
        if value.get(name) is not None:
            return value[name]
    if value.get("examples"):
        return value["examples"][0]
    if "enum" in value:
        return value["enum"][0]
    if "anyOf" in value:
        return example_of(schema, value["anyOf"][0])
    if value.get("type") == "array":
        return [example_of(schema, value.get("items", {}))]
    if "properties" in value:
        return {name: example_of(schema, item) for name, item in value["properties"].items()}
    return EXAMPLES_BY_TYPE.get(value.get("type", ""), {})
