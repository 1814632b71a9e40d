"""The access gate: one ASGI layer around everything the web process serves.

With a token set, every request needs ``Authorization: Bearer <token>`` or the login
cookie; only ``/healthz`` and the login page are free. Gradio's own ``auth`` would leave
the REST routes and tool endpoints open, so nothing relies on it.

Without a token the app listens on loopback only. A page of another site could still make
the browser of the same person send requests here, so the gate also refuses requests
whose ``Origin`` is not this host, and names that do not mean loopback (DNS rebinding).
"""

import time
from collections.abc import Callable
from urllib.parse import parse_qs, quote, urlsplit

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app.edge.bodies import BodyTooLargeError, read_body
from app.edge.page_policy import secured, wants_page, without_encoding
from app.edge.plain_answers import send_elsewhere, send_page, send_refusal
from app.edge.sessions import SESSION_AGE_S, FailedLogins, Sessions, is_same
from app.pages.login import render_login, render_logout
from app.settings import is_loopback

COOKIE = "retro_session"
LOGIN_PATH = "/login"
LOGOUT_PATH = "/logout"
FREE_PATHS = frozenset({"/healthz", "/assets-retro/theme.js"})
"""The login page is light or dark by a script that holds nothing secret."""
PAGE_METHODS = frozenset({"GET", "HEAD"})
LOGIN_BODY_BYTES = 4096
LONG_LOGIN = f"A login may have at most {LOGIN_BODY_BYTES:,} bytes. Open /login and send the token."
SHOWN_CHARACTERS = 80


class Gate:
    """Lets a request through to the app, or answers it.

    Args:
        app: Everything inside.
        token: Access token; None leaves the app open, for loopback only.
        clock: Seconds that only grow, for throttling.
        now: UTC seconds, for the age of sessions.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str | None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._sessions = None if token is None else Sessions(token, now)
        self._failed = FailedLogins(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif refusal := self._refuse_foreign(scope):
            await send_refusal(scope, send, 403, refusal)
        elif scope["path"] in FREE_PATHS:
            await self._pass_on(scope, receive, send)
        elif scope["path"] in (LOGIN_PATH, LOGOUT_PATH):
            await self._log_in_or_out(scope, receive, send)
        elif self._token is None or self._session(scope) is not None:
            await self._pass_on(scope, receive, send)
        elif (given := _bearer(scope)) is None:
            await self._turn_away(scope, send)
        elif wait_s := self._failed.wait_s(_address(scope)):
            await send_refusal(scope, send, 429, _too_many(wait_s), {"retry-after": str(wait_s)})
        elif is_same(given, self._token):
            await self._pass_on(scope, receive, send)
        else:
            self._failed.note(_address(scope))
            await self._turn_away(scope, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        inner = without_encoding(scope) if wants_page(scope) else scope
        await self._app(inner, receive, secured(send, scope))

    def _refuse_foreign(self, scope: Scope) -> str | None:
        hosts = _values(scope, b"host") or [""]
        if self._token is None and not all(is_loopback(_host_name(host)) for host in hosts):
            return (
                f"Without an access token this app answers on 127.0.0.1 and localhost only, "
                f"got the host {hosts[-1][:SHOWN_CHARACTERS]!r}. Set RETRO_TOKEN to use another "
                f"name."
            )
        if scope["type"] == "http" and scope["method"] in PAGE_METHODS:
            return None
        for origin in _values(scope, b"origin"):
            if _network_place(origin) != hosts[-1].lower():
                return (
                    f"Requests must come from this app's own pages, got the origin "
                    f"{origin[:SHOWN_CHARACTERS]!r}. Open the app itself, or call the API without "
                    f"an Origin header."
                )
        return None

    def _session(self, scope: Scope) -> str | None:
        """Return the value of the login cookie if it opens the app."""
        for header in _values(scope, b"cookie"):
            for item in header.split(";"):
                name, _, value = item.strip().partition("=")
                if name == COOKIE and self._sessions is not None and self._sessions.is_open(value):
                    return value
        return None

    async def _turn_away(self, scope: Scope, send: Send) -> None:
        is_page = scope["type"] == "http" and scope["method"] in PAGE_METHODS and wants_page(scope)
        if is_page:
            await send_elsewhere(send, f"{LOGIN_PATH}?next={quote(_own_address(scope))}")
            return
        detail = (
            "This app needs its access token. Send it as 'Authorization: Bearer <token>' or log "
            "in at /login."
        )
        await send_refusal(scope, send, 401, detail, {"www-authenticate": "Bearer"})

    async def _log_in_or_out(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in PAGE_METHODS | {"POST"}:
            detail = f"The page {scope['path']} takes GET and POST only."
            await send_refusal(scope, send, 405, detail, {"allow": "GET, HEAD, POST"})
        elif self._token is None or self._sessions is None:
            await send_elsewhere(send, "/")
        elif scope["path"] == LOGIN_PATH:
            await self._log_in(scope, receive, send, self._token, self._sessions)
        elif scope["method"] in PAGE_METHODS:
            await send_page(send, 200, render_logout())
        else:
            if (session := self._session(scope)) is not None:
                self._sessions.end(session)
            await send_elsewhere(send, LOGIN_PATH, {"set-cookie": _cookie(scope, "", 0)})

    async def _log_in(
        self, scope: Scope, receive: Receive, send: Send, token: bytes, sessions: Sessions
    ) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        target = _safe_target(query.get("next", ["/"])[0])
        if scope["method"] in PAGE_METHODS:
            await send_page(send, 200, render_login(target, None))
            return
        try:
            body = await read_body(receive, LOGIN_BODY_BYTES)
        except BodyTooLargeError:
            await send_refusal(scope, send, 413, LONG_LOGIN, {"connection": "close"})
            return
        except ClientDisconnect:
            return
        # From here on nothing is waited for: requests that come together are counted one by one.
        if wait_s := self._failed.wait_s(_address(scope)):
            page = render_login(target, _too_many(wait_s))
            await send_page(send, 429, page, {"retry-after": str(wait_s)})
            return
        form = parse_qs(body.decode("utf-8", "replace"))
        target = _safe_target(form.get("next", [target])[0])
        if not is_same(form.get("token", [""])[0].strip().encode(), token):
            self._failed.note(_address(scope))
            note = "This is not the access token. It is the value of RETRO_TOKEN on the server."
            await send_page(send, 401, render_login(target, note))
            return
        cookie = _cookie(scope, sessions.begin(), SESSION_AGE_S)
        await send_elsewhere(send, target, {"set-cookie": cookie})


def _cookie(scope: Scope, value: str, age_s: int) -> str:
    # What a proxy says about itself is believed here alone: a lie only harms the one who lies.
    schemes = [scope.get("scheme"), *_values(scope, b"x-forwarded-proto")]
    secure = "; Secure" if "https" in schemes else ""
    return f"{COOKIE}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Lax{secure}"


def _values(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted]


def _bearer(scope: Scope) -> bytes | None:
    for header in _values(scope, b"authorization"):
        scheme, _, given = header.partition(" ")
        if scheme.lower() == "bearer":
            return given.strip().encode("latin-1")
    return None


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _too_many(wait_s: int) -> str:
    return f"Too many wrong tokens came from this address. Try again in {wait_s} seconds."


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _network_place(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _own_address(scope: Scope) -> str:
    query = scope["query_string"].decode("latin-1")
    path = quote(scope["path"])
    return f"{path}?{query}" if query else path


def _safe_target(target: str) -> str:
    """Return where to go after the login, never another host."""
    is_path = target.startswith("/") and not target.startswith("//")
    return target if is_path and target.isprintable() and "\\" not in target else "/"
