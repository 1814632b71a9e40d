"""Calls of operations with plain values, as ``gradio_client`` and assistants make them."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_type_hints

from pydantic import Field, create_model, model_validator
from pydantic.fields import FieldInfo

from app.programs.body import Body
from app.programs.operation import Operation
from app.programs.words import words_for


class Arguments(Body):
    """What a program gives to one operation."""

    @model_validator(mode="before")
    @classmethod
    def _read_whole_numbers(cls, values: Any) -> Any:
        # Clients in JavaScript have no integers.
        if not isinstance(values, dict):
            return values
        return {
            name: int(value) if isinstance(value, float) and value.is_integer() else value
            for name, value in values.items()
        }


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return what a program gives to an operation: all arguments but the services."""
    return list(inspect.signature(function).parameters.values())[1:]


def arguments_model(
    operation: Operation, fields: Mapping[str, Any] | None = None
) -> type[Arguments]:
    """Return the model of an operation's arguments.

    Args:
        operation: The operation.
        fields: Name to (type, default) of those that are offered; None is all of them.
    """
    hints = get_type_hints(operation.function, include_extras=True)
    offered = fields or {
        item.name: (hints[item.name], ... if item.default is item.empty else item.default)
        for item in parameters_of(operation.function)
    }
    described: Any = {
        name: (kind, Field(default, description=_own_words(kind) or words_for(name)))
        for name, (kind, default) in offered.items()
    }
    return create_model(operation.function.__name__, __base__=Arguments, **described)


def _own_words(kind: Any) -> str | None:
    found = [item.description for item in get_args(kind)[1:] if isinstance(item, FieldInfo)]
    return found[0] if found else None
