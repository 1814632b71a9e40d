"""Every error of a REST route as ``{"detail": "<rule, value found, next step>"}``."""

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.errors import status_of
from jobs.errors import JobError
from jobs.redaction import redact
from retro.errors import RetroError, shown

MOST_CHARACTERS = 1_000
KINDS = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
}
"""What pydantic says of wrong types, in the words of all other messages."""

logger = logging.getLogger(__name__)


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error as ``{"detail": "<sentence>"}``, never with a stack trace."""

    async def for_people(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": shorten(redact(str(error)))}, status_of(error))

    async def invalid(_request: Request, error: Exception) -> JSONResponse:
        problems = error.errors() if isinstance(error, RequestValidationError) else []
        return JSONResponse({"detail": describe_problems(problems)}, 422)

    async def http(request: Request, error: Exception) -> JSONResponse:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = error.headers if isinstance(error, HTTPException) else None
        sentences = {
            400: "The body of the request could not be read. Send JSON in UTF-8, or see "
            "/api/v1/docs.",
            404: f"There is nothing at {request.url.path[:200]}. The routes are at /api/v1/docs.",
            405: f"{request.method} is not possible at {request.url.path[:200]}. "
            f"The routes are at /api/v1/docs.",
        }
        detail = sentences.get(status, str(getattr(error, "detail", "The request failed.")))
        return JSONResponse({"detail": detail}, status, headers=headers)

    async def fault(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return JSONResponse(
            {"detail": "The request failed because of a fault in the program. See the log."}, 500
        )

    app.add_exception_handler(RetroError, for_people)
    app.add_exception_handler(JobError, for_people)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, fault)


def shorten(detail: str) -> str:
    """Return a sentence that does not repeat thousands of characters that were sent."""
    return detail if len(detail) <= MOST_CHARACTERS else f"{detail[: MOST_CHARACTERS - 3]}..."


def describe_problems(problems: Sequence[Any]) -> str:
    """Return validation errors as one sentence: the field, the rule, the value found."""
    if not problems:
        return "The request could not be read. The routes are at /api/v1/docs."
    first = problems[0]
    # The first item says which part of the request it is in.
    place = [str(item) for item in first["loc"][1:]]
    name = ".".join(place) or "The body"
    match first["type"]:
        case "extra_forbidden":
            text = f"{name} is not a known field. Remove it, or see /api/v1/docs."
        case "missing":
            text = f"{name} is needed, and it is not there." if place else "A JSON body is needed."
        case "json_invalid":
            text = "The body must be JSON, and it could not be read as such."
        case kind if kind in KINDS:
            text = f"{name} must be {KINDS[kind]}, got {shown(first.get('input'))}."
        case _:
            rule = str(first["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
            text = f"{name} must be {rule}, got {shown(first.get('input'))}."
    more = len(problems) - 1
    return text if not more else f"{text} There {'is' if more == 1 else 'are'} {more} more."
