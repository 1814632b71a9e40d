"""The limit of what one request may hold; files have limits of their own, see ``multipart``."""

import re

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

from app.errors import RequestTooLargeError
from app.format import size

MOST_BODY_BYTES = 2 * 1024**2
UPLOAD = re.compile(r"/api/v1/corpora/[^/]+/files")
MESSAGE = (
    f"The body of a request may have at most {size(MOST_BODY_BYTES)}. Send less at once, and files "
    f"to /api/v1/corpora/ID/files."
)


def check_declared(scope: Scope) -> None:
    """Refuse a request that says itself that it is too large.

    Raises:
        RequestTooLargeError: It is.
    """
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if not _has_own_limit(scope) and declared.isdigit() and int(declared[:20]) > MOST_BODY_BYTES:
        raise RequestTooLargeError(MESSAGE)


def limited(scope: Scope, receive: Receive) -> Receive:
    """Return ``receive`` that ends a request which turns out to be too large."""
    if _has_own_limit(scope):
        return receive
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MOST_BODY_BYTES:
            raise HTTPException(413, MESSAGE)
        return message

    return counted


def _has_own_limit(scope: Scope) -> bool:
    return scope["method"] == "POST" and UPLOAD.fullmatch(scope["path"]) is not None
