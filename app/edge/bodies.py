"""What a request may hold: bytes, values and their nesting; files have limits of their own.

A body is read and looked at before any route sees it. Afterwards it is small enough to be
described field by field while all other requests wait.
"""

import json
import re
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.edge.gradio_routes import MCP_PATHS
from app.edge.plain_answers import send_refusal
from app.format import size

MOST_BODY_BYTES = 2 * 1024**2
MOST_DISCARDED_BYTES = 32 * 1024**2
"""Of a body that is too large: most clients look for an answer only when they have sent it all."""
MOST_ITEMS = 10_000
"""Items of one list."""
MOST_FIELDS = 1_000
"""Fields of one object."""
MOST_VALUES = 50_000
"""Values of one body, with those in lists and objects."""
MOST_DEPTH = 100
READ_AT_ONCE_BYTES = 32 * 1024
"""A larger body is read by a thread, so that nobody waits for it."""
BODY_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
UPLOAD = re.compile(r"/api/v1/corpora/[^/]+/files")
GRADIO = "/gradio_api/"
FILE_FIELDS = frozenset({"path", "url", "orig_name", "mime_type", "is_stream", "_type"})
"""What Gradio knows a file by: it would open it, or fetch it, whatever the function expects."""
TOO_LARGE = (
    f"The body of a request may have at most {size(MOST_BODY_BYTES)}. Send less at once, and files "
    f"to /api/v1/corpora/ID/files."
)
TOO_DEEP = f"A body may be nested at most {MOST_DEPTH} deep, got more. Send it flatter."


class BodyLimits:
    """Refuses bodies that are too large, too deep or too full, and files for Gradio.

    Args:
        app: Everything inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["method"] not in BODY_METHODS or _is_upload(scope):
            await self._app(scope, receive, send)
            return
        declared = _declared_bytes(scope)
        try:
            if declared > MOST_BODY_BYTES:
                raise BodyTooLargeError(is_more=declared <= MOST_DISCARDED_BYTES)
            body = await read_body(receive, MOST_BODY_BYTES)
        except BodyTooLargeError as error:
            if error.is_more:
                await _discard(receive)
            await send_refusal(scope, send, 413, TOO_LARGE, {"connection": "close"})
            return
        except ClientDisconnect:
            return
        is_for_gradio = scope["path"].startswith(GRADIO) and scope["path"] not in MCP_PATHS
        refusal = await _look_at(body, is_for_gradio)
        if refusal is not None:
            await send_refusal(scope, send, 422, refusal)
        else:
            await self._app(scope, _again(body, receive), send)


class BodyTooLargeError(Exception):
    """A body is longer than the limit.

    Args:
        is_more: Whether the rest of it is worth waiting for.
    """

    def __init__(self, *, is_more: bool) -> None:
        super().__init__()
        self.is_more = is_more


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return the body of a request.

    Raises:
        BodyTooLargeError: It is longer than the limit, bytes.
        ClientDisconnect: The client went away before its end.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > limit:
            raise BodyTooLargeError(is_more=message.get("more_body", False))
        if not message.get("more_body", False):
            return bytes(body)


async def _discard(receive: Receive) -> None:
    """Let the client send the rest of its body, up to a limit."""
    left = MOST_DISCARDED_BYTES
    while left > 0:
        message = await receive()
        if not message.get("more_body", False):
            return
        left -= len(message["body"])


async def _look_at(body: bytes, is_for_gradio: bool) -> str | None:
    if len(body) > READ_AT_ONCE_BYTES:
        return await run_in_threadpool(refuse_body, body, is_for_gradio)
    return refuse_body(body, is_for_gradio)


def refuse_body(body: bytes, is_for_gradio: bool) -> str | None:
    """Return why a body is refused, None if it is not.

    What is no JSON is left to the route, which knows what it takes; Gradio's take JSON alone.
    """
    try:
        values = json.loads(body) if body else None
    except RecursionError:
        return TOO_DEEP
    except ValueError:
        return "The body must be JSON, and it could not be read as such." if is_for_gradio else None
    return _refuse_values(values, is_for_gradio)


def _refuse_values(values: Any, is_for_gradio: bool) -> str | None:
    waiting, found = [(values, 1)], 0
    while waiting:
        value, depth = waiting.pop()
        if not isinstance(value, dict | list):
            continue
        found += len(value)
        if refusal := _refuse_size(value, depth, found):
            return refusal
        if is_for_gradio and isinstance(value, dict) and not FILE_FIELDS.isdisjoint(value):
            named = min(FILE_FIELDS.intersection(value))
            return (
                f"Files and addresses are not taken here, got an object with the field {named!r}. "
                f"Send files to /api/v1/corpora/ID/files."
            )
        inner = value.values() if isinstance(value, dict) else value
        waiting += [(item, depth + 1) for item in inner]
    return None


def _refuse_size(value: dict[str, Any] | list[Any], depth: int, found: int) -> str | None:
    if depth > MOST_DEPTH:
        return TOO_DEEP
    if isinstance(value, list) and len(value) > MOST_ITEMS:
        return f"A list may have at most {MOST_ITEMS:,} items, got {len(value):,}. Send fewer."
    if isinstance(value, dict) and len(value) > MOST_FIELDS:
        return f"An object may have at most {MOST_FIELDS:,} fields, got {len(value):,}. Send fewer."
    if found > MOST_VALUES:
        return f"A body may hold at most {MOST_VALUES:,} values, got more. Send less at once."
    return None


def _again(body: bytes, receive: Receive) -> Receive:
    """Return ``receive`` that gives a body once, and then what really comes."""
    waiting = [body]

    async def wrapped() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return wrapped


def _declared_bytes(scope: Scope) -> int:
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    return int(declared[:20]) if declared.isdigit() else 0


def _is_upload(scope: Scope) -> bool:
    return scope["method"] == "POST" and UPLOAD.fullmatch(scope["path"]) is not None
