"""The access gate: one ASGI layer around everything the web process serves.

With a token set, every request needs ``Authorization: Bearer <token>`` or the login
cookie; only ``/healthz`` and the login page are free. Gradio's own ``auth`` would leave
the REST routes and tool endpoints open, so nothing relies on it.

Without a token the app listens on loopback only. A page of another site could still make
the browser of the same person send requests here, so the gate also refuses requests
whose ``Origin`` is not this host, and names that do not mean loopback (DNS rebinding).
"""

import hashlib
import hmac
import html
import json
import time
from collections import OrderedDict, deque
from collections.abc import Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.pages.login import render_login

COOKIE = "retro_session"
COOKIE_AGE_S = 30 * 24 * 3600
LOGIN_PATH = "/login"
FREE_PATHS = frozenset({"/healthz"})
PAGE_METHODS = frozenset({"GET", "HEAD"})
LOGIN_BODY_BYTES = 4096
MOST_ADDRESSES = 10_000
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})

SECURITY_HEADERS = {
    "content-security-policy": "; ".join(
        [
            "default-src 'self'",
            # Gradio starts from inline scripts and compiles small functions in the browser.
            "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'self'",
        ]
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "SAMEORIGIN",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class FailedLogins:
    """Counts wrong tokens per address and says when the next attempt may be made.

    Someone who holds the cookie is never throttled, whatever others send from the same
    address.
    """

    def __init__(self, clock: Callable[[], float], limit: int = 10, window_s: float = 60) -> None:
        self._clock = clock
        self._limit = limit
        self._window_s = window_s
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def note(self, address: str) -> None:
        """Record one wrong token."""
        times = self._failures.setdefault(address, deque(maxlen=self._limit))
        times.append(self._clock())
        self._failures.move_to_end(address)
        if len(self._failures) > MOST_ADDRESSES:
            self._failures.popitem(last=False)

    def wait_s(self, address: str) -> int:
        """Return the seconds until another attempt is allowed, 0 if it is allowed now."""
        times = self._failures.get(address)
        if times is None or len(times) < self._limit:
            return 0
        left = times[0] + self._window_s - self._clock()
        return int(left) + 1 if left > 0 else 0


class Gate:
    """Lets a request through to the app, or answers it."""

    def __init__(
        self, app: ASGIApp, token: str | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._token = token
        self._failed = FailedLogins(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        if refusal := self._refuse_foreign(scope, headers):
            await _answer(scope, send, 403, refusal)
        elif scope["path"] in FREE_PATHS:
            await self._app(scope, receive, _with_security_headers(send))
        elif self._token is not None and scope["path"] == LOGIN_PATH:
            await self._login(scope, receive, send)
        elif self._token is None or self._has_cookie(headers):
            await self._app(scope, receive, _with_security_headers(send))
        elif (given := _bearer(headers)) is None:
            await self._turn_away(scope, headers, send)
        elif wait_s := self._failed.wait_s(_address(scope)):
            await _answer(scope, send, 429, _too_many(wait_s), {"retry-after": str(wait_s)})
        elif _same(given, self._token_bytes()):
            await self._app(scope, receive, _with_security_headers(send))
        else:
            self._failed.note(_address(scope))
            await self._turn_away(scope, headers, send)

    def _refuse_foreign(self, scope: Scope, headers: dict[bytes, bytes]) -> str | None:
        host = headers.get(b"host", b"").decode("latin-1")
        if self._token is None and _host_name(host) not in LOOPBACK_NAMES:
            return (
                f"Without an access token this app answers on 127.0.0.1 and localhost only, "
                f"got the host {host[:80]!r}. Set RETRO_TOKEN to use another name."
            )
        origin = headers.get(b"origin", b"").decode("latin-1")
        changes = scope["type"] == "websocket" or scope["method"] not in PAGE_METHODS
        if changes and origin and urlsplit(origin).netloc.lower() != host.lower():
            return (
                f"Requests must come from this app's own pages, got the origin {origin[:80]!r}. "
                f"Open the app itself, or call the API without an Origin header."
            )
        return None

    def _has_cookie(self, headers: dict[bytes, bytes]) -> bool:
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get(b"cookie", b"").decode("latin-1"))
        except CookieError:
            return False
        return COOKIE in cookies and _same(cookies[COOKIE].value.encode(), self._session().encode())

    def _token_bytes(self) -> bytes:
        return (self._token or "").encode()

    def _session(self) -> str:
        """Return the cookie's value: derived from the token, so a new token ends all sessions."""
        return hmac.new(self._token_bytes(), b"retro login cookie", hashlib.sha256).hexdigest()

    async def _turn_away(self, scope: Scope, headers: dict[bytes, bytes], send: Send) -> None:
        wants_page = b"text/html" in headers.get(b"accept", b"")
        if scope["type"] == "http" and scope["method"] in PAGE_METHODS and wants_page:
            await _redirect(send, f"{LOGIN_PATH}?next={quote(_own_address(scope))}")
        else:
            await _answer(
                scope,
                send,
                401,
                "This app needs its access token. Send it as 'Authorization: Bearer <token>' "
                "or log in at /login.",
                {"www-authenticate": "Bearer"},
            )

    async def _login(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in PAGE_METHODS | {"POST"}:
            await _answer(scope, send, 405, "The login page takes GET and POST only.")
            return
        query = parse_qs(scope["query_string"].decode("latin-1"))
        target = _safe_target(query.get("next", ["/"])[0])
        if scope["method"] in PAGE_METHODS:
            await _page(send, 200, render_login(target, None))
            return
        if wait_s := self._failed.wait_s(_address(scope)):
            page = render_login(target, _too_many(wait_s))
            await _page(send, 429, page, {"retry-after": str(wait_s)})
            return
        form = parse_qs((await _body(receive)).decode("utf-8", "replace"))
        target = _safe_target(form.get("next", [target])[0])
        if not _same(form.get("token", [""])[0].strip().encode(), self._token_bytes()):
            self._failed.note(_address(scope))
            note = "This is not the access token. It is the value of RETRO_TOKEN on the server."
            await _page(send, 401, render_login(target, note))
            return
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        cookie = (
            f"{COOKIE}={self._session()}; Path=/; Max-Age={COOKIE_AGE_S}; "
            f"HttpOnly; SameSite=Lax{secure}"
        )
        await _redirect(send, target, {"set-cookie": cookie})


def _bearer(headers: dict[bytes, bytes]) -> bytes | None:
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    return given.strip() if scheme.lower() == b"bearer" else None


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _too_many(wait_s: int) -> str:
    return f"Too many wrong tokens came from this address. Try again in {wait_s} seconds."


def _same(given: bytes, expected: bytes) -> bool:
    # Hashing first keeps the time independent of the length as well.
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(expected).digest())


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _own_address(scope: Scope) -> str:
    query = scope["query_string"].decode("latin-1")
    path = quote(scope["path"])
    return f"{path}?{query}" if query else path


def _safe_target(target: str) -> str:
    """Return where to go after the login, never another host."""
    parts = urlsplit(target) if target.isprintable() else urlsplit("/")
    inside = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if inside and not parts.netloc and "\\" not in target else "/"


async def _body(receive: Receive) -> bytes:
    body = b""
    while len(body) <= LOGIN_BODY_BYTES:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body", False):
            break
    return body[:LOGIN_BODY_BYTES]


def _with_security_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = _merged(message.get("headers", []))
        await send(message)

    return wrapped


def _merged(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    present = {name.lower() for name, _ in headers}
    extra = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
    return [*headers, *(item for item in extra if item[0] not in present)]


async def _respond(send: Send, status: int, body: bytes, headers: MutableMapping[str, str]) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    raw += [(b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": _merged(raw)})
    await send({"type": "http.response.body", "body": body})


async def _answer(
    scope: Scope, send: Send, status: int, detail: str, headers: dict[str, str] | None = None
) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": "not allowed"})
        return
    body = json.dumps({"detail": detail}).encode()
    await _respond(send, status, body, {"content-type": "application/json", **(headers or {})})


async def _page(send: Send, status: int, page: str, headers: dict[str, str] | None = None) -> None:
    await _respond(
        send, status, page.encode(), {"content-type": "text/html; charset=utf-8", **(headers or {})}
    )


async def _redirect(send: Send, target: str, headers: dict[str, Any] | None = None) -> None:
    body = f'<a href="{html.escape(target)}">Continue</a>'.encode()
    await _respond(
        send,
        303,
        body,
        {"content-type": "text/html; charset=utf-8", "location": target, **(headers or {})},
    )
