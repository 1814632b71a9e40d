"""Functions for ``gradio_client``; nothing else of the pages can be called."""

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, get_type_hints

import gradio as gr
from gradio.events import api
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from app.error_answers import describe_problems
from app.programs.calls import arguments_model, parameters_of
from app.programs.operation import Operation
from app.programs.table import OPERATIONS
from app.services.services import Services
from app.services.views.base import plain
from jobs.errors import JobError
from jobs.redaction import redact
from retro.errors import RetroError

CALLABLE: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "public"}
"""Texts have a queue of their own, so calls may wait side by side."""


@contextlib.contextmanager
def errors_for_people() -> Iterator[None]:
    """Let the message of an error meant for people reach the client."""
    try:
        yield
    except ValidationError as error:
        problems = [{**item, "loc": ("arguments", *item["loc"])} for item in error.errors()]
        raise gr.Error(redact(describe_problems(problems)), print_exception=False) from None
    except (RetroError, JobError) as error:
        raise gr.Error(redact(str(error)), print_exception=False) from error


def build(services: Services) -> None:
    """Add the functions to the Gradio app that is being made."""
    for operation in OPERATIONS:
        if operation.function_name:
            api(_function(operation, services), api_name=operation.function_name, **CALLABLE)


def _function(operation: Operation, services: Services) -> Callable[..., Any]:
    """Return an operation as Gradio calls it: with values in the order of its arguments."""
    function, model = operation.function, arguments_model(operation)
    parameters = parameters_of(function)

    def read(given: tuple[Any, ...]) -> dict[str, Any]:
        # Gradio does not check what a client sends against the type hints.
        values = dict(zip((item.name for item in parameters), given, strict=True))
        read = model.model_validate(values)
        return {name: getattr(read, name) for name in values}

    async def call(*given: Any) -> Any:
        with errors_for_people():
            if inspect.iscoroutinefunction(function):
                found = await function(services, **read(given))
            else:
                found = await run_in_threadpool(function, services, **read(given))
            # A long text has hundreds of thousands of values, and others wait meanwhile.
            return await run_in_threadpool(plain, found)

    async def stream(*given: Any) -> AsyncIterator[Any]:
        with errors_for_people():
            async for value in function(services, **read(given)):
                yield value

    is_stream = inspect.isasyncgenfunction(function)
    made: Callable[..., Any] = stream if is_stream else call
    hints = get_type_hints(function)
    one = dict[str, Any]
    returned: Any = str if is_stream else list[one] if operation.items else one
    made.__annotations__ = {item.name: hints[item.name] for item in parameters}
    made.__annotations__["return"] = returned
    made.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # as Gradio reads it
        [item.replace(annotation=hints[item.name]) for item in parameters],
        return_annotation=returned,
    )
    made.__name__, made.__doc__ = operation.function_name, "\n\n".join(operation.paragraphs)
    return made
