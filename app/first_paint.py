"""Puts our styles and scripts into a page before it is sent.

Gradio adds its own list of them only when its script has started: until then the page
would be white, also for people who chose dark.
"""

import hashlib
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.html import Html, html, join
from app.ui import STATIC_DIR

HEAD_END = b"</head>"
THEME_SCRIPT = "theme.js"
HTML = b"text/html"


class FirstPaint:
    """Adds links to the head of every page.

    Args:
        app: What sends the pages.
        styles: Names of style sheets.
        scripts: Names of scripts, in the order in which they run.
    """

    def __init__(self, app: ASGIApp, styles: tuple[str, ...], scripts: tuple[str, ...]) -> None:
        self._app = app
        self._links = render_links(styles, scripts).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        # The page of the API is whole by itself.
        if scope["type"] != "http" or scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, self._linked(send))

    def _linked(self, send: Send) -> Send:
        start: dict[str, Any] = {}
        body = bytearray()

        async def wrapped(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_page(message):
                start.update(message)
            elif message["type"] == "http.response.body" and start:
                body.extend(message.get("body", b""))
                if message.get("more_body", False):
                    return
                page = bytes(body).replace(HEAD_END, self._links + HEAD_END, 1)
                await send({**start, "headers": _with_length(start["headers"], page)})
                await send({"type": "http.response.body", "body": page})
            else:
                await send(message)

        return wrapped


def render_links(styles: tuple[str, ...], scripts: tuple[str, ...]) -> Html:
    """Return the links to style sheets and scripts.

    The version in the address makes a browser fetch a changed file at once.
    """
    sheets = join(html('<link rel="stylesheet" href="{}">', _versioned(name)) for name in styles)
    rest = join(html('<script src="{}" defer></script>', _versioned(name)) for name in scripts)
    # Not deferred: light or dark is known before anything is painted.
    return html('<script src="{}"></script>{}{}', _versioned(THEME_SCRIPT), sheets, rest)


def _versioned(name: str) -> str:
    version = hashlib.sha256((STATIC_DIR / name).read_bytes()).hexdigest()[:12]
    return f"/assets-retro/{name}?v={version}"


def _is_page(start: Message) -> bool:
    headers = dict(start.get("headers", []))
    is_plain = b"content-encoding" not in headers
    return is_plain and headers.get(b"content-type", b"").startswith(HTML)


def _with_length(headers: list[tuple[bytes, bytes]], page: bytes) -> list[tuple[bytes, bytes]]:
    kept = [item for item in headers if item[0] != b"content-length"]
    return [*kept, (b"content-length", str(len(page)).encode())] if page else list(headers)
