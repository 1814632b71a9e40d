"""Security headers of every answer, with a Content-Security-Policy made for each page.

A page may run its scripts from this host, and those inline scripts that it was sent with,
which the policy names by their hashes. What is put into the page later, such as
``<img onerror=...>`` in a text, cannot run.
"""

import base64
import gzip
import hashlib
import re
from typing import Any

from starlette.types import Message, Scope, Send

Headers = list[tuple[bytes, bytes]]

INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)
HTML = b"text/html"
GZIP_LEVEL = 5
POLICY = (
    "default-src 'self'; script-src {scripts}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self'"
)
SECURITY_HEADERS = {
    "content-security-policy": POLICY.format(scripts="'self'"),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "SAMEORIGIN",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def add_security_headers(headers: Headers) -> Headers:
    """Return headers with those that every answer has."""
    present = {name.lower() for name, _ in headers}
    extra = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
    return [*headers, *(item for item in extra if item[0] not in present)]


def wants_page(scope: Scope) -> bool:
    """Return whether a request comes from a browser that opens a page."""
    return any(name == b"accept" and HTML in value for name, value in scope["headers"])


def without_encoding(scope: Scope) -> Scope:
    """Return a request whose answer is not compressed, so that its scripts can be read."""
    kept = [item for item in scope["headers"] if item[0] != b"accept-encoding"]
    return {**scope, "headers": kept}


def secured(send: Send, scope: Scope) -> Send:
    """Return ``send`` that adds the security headers.

    A page is held back until it is whole: only then are its scripts known.

    Args:
        send: Where the answer goes.
        scope: The request, as the browser sent it.
    """
    start: dict[str, Any] = {}
    body = bytearray()

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = list(message.get("headers", []))
            if _is_plain_page(message["headers"]):
                start.update(message)
                return
            message["headers"] = add_security_headers(message["headers"])
        elif message["type"] == "http.response.body" and start:
            body.extend(message.get("body", b""))
            if message.get("more_body", False):
                return
            headers, content = _finish_page(start["headers"], bytes(body), scope)
            await send({**start, "headers": headers})
            await send({"type": "http.response.body", "body": content})
            return
        await send(message)

    return wrapped


def _is_plain_page(headers: Headers) -> bool:
    values = dict(headers)
    return values.get(b"content-type", b"").startswith(HTML) and b"content-encoding" not in values


def _finish_page(headers: Headers, body: bytes, scope: Scope) -> tuple[Headers, bytes]:
    scripts = [f"'sha256-{_hash(script)}'" for script in INLINE_SCRIPT.findall(body)]
    policy = SECURITY_HEADERS["content-security-policy"]
    if scripts:
        # Gradio's component for HTML compiles a small function, also when it has no template.
        policy = POLICY.format(scripts=" ".join(["'self'", "'unsafe-eval'", *scripts]))
    length = dict(headers).get(b"content-length")
    kept = [item for item in headers if item[0] != b"content-length"]
    kept.append((b"content-security-policy", policy.encode()))
    accepted = dict(scope["headers"]).get(b"accept-encoding", b"")
    if b"gzip" in accepted and body:
        body = gzip.compress(body, GZIP_LEVEL)
        kept += [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
    # The answer to HEAD names the length of a body that it does not have.
    shown = str(len(body)).encode() if body or length is None else length
    return add_security_headers([*kept, (b"content-length", shown)]), body


def _hash(script: bytes) -> str:
    # Browsers read every line end as one character before they hash.
    plain = script.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return base64.b64encode(hashlib.sha256(plain).digest()).decode()
