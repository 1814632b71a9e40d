"""The tools that assistants can use over MCP.

None of them deletes anything, stops a job or gives a file away.
"""

import inspect
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool

from app.programs.calls import Arguments, arguments_model
from app.programs.operation import Operation
from app.programs.table import OPERATIONS
from app.services.services import Services
from app.services.views.base import plain


@dataclass(frozen=True, slots=True)
class Tool:
    """An operation as assistants see it."""

    operation: Operation
    arguments: type[Arguments]

    @property
    def name(self) -> str:
        """Its name."""
        return self.operation.tool

    @property
    def description(self) -> str:
        """What it does."""
        return " ".join(self.operation.paragraphs)

    async def call(self, services: Services, given: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a call.

        Raises:
            ValidationError: The arguments are wrong.
            RetroError, JobError: The service refuses.
        """
        read = self.arguments.model_validate(given)
        values = {name: getattr(read, name) for name in type(read).model_fields}
        function = self.operation.function
        if inspect.iscoroutinefunction(function):
            found = await function(services, **values)
        else:
            found = await run_in_threadpool(function, services, **values)
        return await run_in_threadpool(self._answer, found)

    def _answer(self, found: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.operation.answer(plain(found))
        return answer if self.operation.tool_view is None else self.operation.tool_view(answer)


TOOLS = tuple(
    Tool(operation, arguments_model(operation, operation.tool_arguments))
    for operation in OPERATIONS
    if operation.tool
)


def choose_tools(mode: str) -> dict[str, Tool]:
    """Return the tools of a mode by name: those that read, and with ``write`` all."""
    return {tool.name: tool for tool in TOOLS if mode == "write" or tool.operation.reads}
