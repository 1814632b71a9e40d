"""Answers that are sent without the app: refusals, the login page, redirections."""

import json
from collections.abc import Mapping, MutableMapping
from urllib.parse import quote

from starlette.types import Scope, Send

from app.edge.page_policy import add_security_headers
from app.html import Html, html

URL_CHARACTERS = "/:?#[]@!$&'()*+,;=%~"


async def send_refusal(
    scope: Scope, send: Send, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> None:
    """Answer ``{"detail": ...}``, or close a websocket."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": "not allowed"})
        return
    body = json.dumps({"detail": detail}).encode()
    await _respond(send, status, body, {"content-type": "application/json", **(headers or {})})


async def send_page(
    send: Send, status: int, page: Html, headers: Mapping[str, str] | None = None
) -> None:
    """Answer with a page."""
    values = {"content-type": "text/html; charset=utf-8", **(headers or {})}
    await _respond(send, status, page.encode(), values)


async def send_elsewhere(send: Send, target: str, headers: Mapping[str, str] | None = None) -> None:
    """Lead to another address of this host."""
    location = quote(target, safe=URL_CHARACTERS)
    body = html('<a href="{}">Continue</a>', location)
    await send_page(send, 303, body, {"location": location, **(headers or {})})


async def _respond(send: Send, status: int, body: bytes, headers: MutableMapping[str, str]) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    raw += [(b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    await send(
        {"type": "http.response.start", "status": status, "headers": add_security_headers(raw)}
    )
    await send({"type": "http.response.body", "body": body})
