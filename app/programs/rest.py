"""All REST routes in one router, and the answer to addresses that are none."""

import inspect
import json
from collections.abc import Callable
from typing import Any, get_type_hints

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.programs.calls import parameters_of
from app.programs.idempotency import PREFIX, idempotent_route
from app.programs.operation import Operation
from app.programs.table import OPERATIONS
from app.services.services import Services
from app.services.views.base import opened

ALL_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class ViewResponse(JSONResponse):
    """A view, or what is made of views, as JSON."""

    def render(self, content: Any) -> bytes:
        """Return the bytes of the answer."""
        # Tens of thousands of plain numbers need no look at each of them.
        text = json.dumps(
            content, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=opened
        )
        return text.encode()


def make_router(services: Services) -> APIRouter:
    """Return all routes below ``/api/v1``."""
    router = APIRouter(prefix=PREFIX, route_class=idempotent_route(services.store))
    for operation in OPERATIONS:
        if operation.method:
            router.add_api_route(
                operation.path,
                _endpoint(operation, services),
                methods=[operation.method],
                status_code=operation.status,
                tags=[operation.family],
                response_model=None,
                response_class=_response_class(operation),
                operation_id=operation.id,
            )
    return router


def _response_class(operation: Operation) -> type[Response]:
    if not operation.media_type:
        return JSONResponse
    return StreamingResponse if operation.media_type == "text/event-stream" else Response


def _endpoint(operation: Operation, services: Services) -> Callable[..., Any]:
    function = operation.function

    def answer(found: Any) -> Any:
        if found is None or isinstance(found, Response):
            return found
        return ViewResponse(operation.answer(found), operation.status)

    async def wait(**given: Any) -> Any:
        # A long text takes a while to become JSON, and others wait meanwhile.
        return await run_in_threadpool(answer, await function(services, **given))

    def work(**given: Any) -> Any:
        return answer(function(services, **given))

    endpoint: Callable[..., Any] = wait if inspect.iscoroutinefunction(function) else work
    hints = get_type_hints(function, include_extras=True)
    # FastAPI reads from the signature what a request must have.
    endpoint.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # of functions
        [
            item.replace(annotation=hints[item.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for item in parameters_of(function)
        ]
    )
    endpoint.__name__, endpoint.__doc__ = function.__name__, function.__doc__
    return endpoint


def make_last_router(app: FastAPI) -> APIRouter:
    """Return a route for what no other one below ``/api`` takes; include it last.

    Without it such requests would end up among the pages.
    """
    router = APIRouter()

    @router.api_route("/api/{path:path}", methods=list(ALL_METHODS), include_in_schema=False)
    def nothing(request: Request) -> Response:
        known = any(route.matches(request.scope)[0] is Match.PARTIAL for route in app.routes)
        raise HTTPException(405 if known else 404)

    return router
