"""One thing that programs can do, and the families that operations come in."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from app.services.views.base import View

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """A function of the services, and how programs reach it."""

    function: Callable[..., Any]
    """Takes the services, then what a program gives. Its name and docstring are shown."""
    family: str
    """What it is about."""
    method: str = ""
    """HTTP method of its REST route; empty where there is none."""
    path: str = ""
    """Of the route, with names for its parameters."""
    view: type[View] | None = None
    """What it returns; None where that is nothing, or no JSON."""
    items: str = ""
    """Name under which a list that it returns is answered."""
    status: int = 200
    """Of an answer."""
    media_type: str = ""
    """Of an answer that is no JSON."""
    form: Mapping[str, Any] | None = None
    """Properties of a multipart form, where that is the body."""
    example: Any = None
    """Of the body."""
    function_name: str = ""
    """Its name for ``gradio_client``; empty where it is not offered there."""
    tool: str = ""
    """Its name for assistants; empty where it is not offered to them."""
    tool_arguments: Mapping[str, Any] = field(default_factory=dict)
    """Name to (type, default) of the only arguments that a tool has; empty is all of them."""
    tool_view: Callable[[Any], Any] | None = None
    """Makes the answer of a tool from what the function returns, where that is too much."""
    reads: bool = False
    """Whether it changes nothing."""

    @property
    def id(self) -> str:
        """Name that stays the same, such as ``runs_create``."""
        name = self.function.__name__
        return name if name == self.family else f"{self.family}_{name.removesuffix('_')}"

    @property
    def paragraphs(self) -> list[str]:
        """Its docstring, one text per paragraph."""
        text = inspect.getdoc(self.function) or ""
        return [" ".join(part.split()) for part in text.split("\n\n")]

    def answer(self, value: Any) -> Any:
        """Return the answer to what the function returned: a list has a name."""
        return {self.items: value} if self.items else value


class Family:
    """Operations about one thing, in the order in which their routes are tried.

    Args:
        name: What they are about.
        prefix: Of the paths of their routes.
    """

    def __init__(self, name: str, prefix: str = "") -> None:
        self.name = name
        self.operations: list[Operation] = []
        self._prefix = prefix

    def get(self, path: str, **facts: Any) -> Callable[[Function], Function]:
        """Add a function that a GET request calls."""
        return self.add("GET", path, reads=True, **facts)

    def post(self, path: str, **facts: Any) -> Callable[[Function], Function]:
        """Add a function that a POST request calls."""
        return self.add("POST", path, **facts)

    def patch(self, path: str, **facts: Any) -> Callable[[Function], Function]:
        """Add a function that a PATCH request calls."""
        return self.add("PATCH", path, **facts)

    def delete(self, path: str) -> Callable[[Function], Function]:
        """Add a function that a DELETE request calls; it returns nothing."""
        return self.add("DELETE", path, status=204)

    def call(self, **facts: Any) -> Callable[[Function], Function]:
        """Add a function without a route of its own."""
        return self.add("", "", **facts)

    def add(self, method: str, path: str, **facts: Any) -> Callable[[Function], Function]:
        """Add a function, with the facts of its ``Operation``."""

        def note(function: Function) -> Function:
            self.operations.append(
                Operation(
                    function=function,
                    family=self.name,
                    method=method,
                    path=self._prefix + path if method else "",
                    **facts,
                )
            )
            return function

        return note
