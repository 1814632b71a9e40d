"""Requests that may be sent again: with an ``Idempotency-Key``, what they ask is done once.

A client whose connection breaks does not know whether its request was done. It sends the
request again with the same key and gets the answer of the first time. Only an answer which
says that it was done is kept: after a refusal or a fault, the same key tries again.
"""

import asyncio
import hashlib
import time
from email.message import Message as Headers
from typing import Any
from weakref import WeakValueDictionary

from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.errors import BusyError
from jobs.store.locks import LockKeeper
from jobs.store.rows import AnswerRow
from jobs.store.store import Store
from retro.errors import InputError

HEADER = "Idempotency-Key"
REPLAY_HEADER = "Idempotency-Replayed"
LONGEST_KEY = 200
PREFIX = "/api/v1"
CREATING = frozenset(
    {
        "/corpora",
        "/corpora/{corpus_id}/files",
        "/corpora/{corpus_id}/build",
        "/corpora/{corpus_id}/copy",
        "/corpora/{corpus_id}/train",
        "/jobs/{job_id}/retry",
        "/runs",
        "/runs/{run_id}/write",
        "/runs/{run_id}/duplicate",
        "/runs/{run_id}/extend",
        "/runs/{run_id}/{action}",
        "/generations",
        "/generations/{generation_id}/branch",
        "/generations/{generation_id}/continue",
    }
)
"""Routes below ``PREFIX`` whose POST requests take a key."""
PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": LONGEST_KEY,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
    },
    "description": "Lets the request be sent again: within a day, the same key gets the first "
    f"answer, with the header {REPLAY_HEADER}, and nothing is done twice. A random UUID does.",
}
WAIT_S = 10.0
"""How long a request waits for one with the same key that is at work, seconds."""
POLL_S = 0.2
BOUNDARY = b"--boundary"
STREAM = "text/event-stream"


def idempotent_route(store: Store) -> type[APIRoute]:
    """Return the class of routes whose requests may carry a key.

    Args:
        store: Keeps the answers.
    """
    turns = Turns()

    class IdempotentRoute(APIRoute):
        """A route that does what a request asks once, if the request carries a key."""

        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            """Answer a request."""
            key = None
            if takes_key(scope["method"], self.path):
                key = _read_key(scope)
            if key is None:
                await super().handle(scope, receive, send)
            else:
                await _answer_once(store, turns, key, super().handle, scope, receive, send)

    return IdempotentRoute


def takes_key(method: str, path: str) -> bool:
    """Return whether requests may carry a key.

    Args:
        method: As HTTP has it, in upper case.
        path: Of a route, with names for its parameters.
    """
    return method == "POST" and path.removeprefix(PREFIX) in CREATING


def _read_key(scope: Scope) -> str | None:
    """Return the key of a request, None if it has none.

    Raises:
        InputError: It cannot be a key, or there are several.
    """
    given = [
        value.decode("latin-1")
        for name, value in scope["headers"]
        if name == HEADER.lower().encode()
    ]
    if not given:
        return None
    key: str = given[0].strip()
    is_good = 1 <= len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()
    if len(given) > 1 or not is_good:
        found = f"{len(given)} of them" if len(given) > 1 else f"{len(key)}: {key[:40]!a}"
        raise InputError(
            f"{HEADER} must be one header of 1 to {LONGEST_KEY} printable ASCII characters, got "
            f"{found}. A random UUID does."
        )
    return key


class Turns:
    """Lets one of those who wait for the same key ask the database, and the others wait for it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def begin(self, store: Store, key: str) -> AnswerRow | str:
        """Return what was answered under a key, or the token of its lock.

        Raises:
            BusyError: A request with this key is still at work.
        """
        deadline = time.monotonic() + WAIT_S
        turn = self._locks.setdefault(key, asyncio.Lock())
        try:
            await asyncio.wait_for(turn.acquire(), WAIT_S)
        except TimeoutError:
            return await run_in_threadpool(store.begin_request, key)
        try:
            return await _begin(store, key, deadline)
        finally:
            turn.release()


async def _answer_once(
    store: Store,
    turns: Turns,
    key: str,
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    begun = await turns.begin(store, key)
    if isinstance(begun, AnswerRow):
        await _replay(begun, key, scope, receive, send)
        return
    attempt = _Attempt(store, key, begun, BodyDigest(scope), receive, send)
    keeper = LockKeeper(store, begun)
    keeper.start()
    try:
        await app(scope, attempt.receive, attempt.send)
    finally:
        await run_in_threadpool(keeper.stop)


async def _begin(store: Store, key: str, deadline: float) -> AnswerRow | str:
    while True:
        try:
            return await run_in_threadpool(store.begin_request, key)
        except BusyError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(POLL_S)


async def _replay(answer: AnswerRow, key: str, scope: Scope, receive: Receive, send: Send) -> None:
    digest = BodyDigest(scope)
    if not await digest.finish(receive):
        return
    if digest.value() != answer.request:
        raise InputError(
            f"An {HEADER} stands for one request, and {key[:40]!r} was used for another address "
            f"or another body. Use a new key for each request."
        )
    if answer.location is not None:
        await _stream_again(answer.location, scope, receive, send)
        return
    headers = {"content-type": answer.content_type, REPLAY_HEADER: "true"}
    response = Response(answer.body, answer.status, headers)
    await response(scope, receive, send)


async def _stream_again(location: str, scope: Scope, receive: Receive, send: Send) -> None:
    path = scope.get("root_path", "") + location

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            header = (REPLAY_HEADER.lower().encode(), b"true")
            message = {**message, "headers": [*message["headers"], header]}
        await send(message)

    kept = ("type", "asgi", "http_version", "scheme", "client", "server", "root_path", "headers")
    get = {name: scope[name] for name in kept if name in scope}
    target = {"method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    await scope["app"]({**get, **target}, receive, marked)


class _Attempt:
    """Stands between a route and the connection, and keeps the answer before it is sent."""

    def __init__(
        self,
        store: Store,
        key: str,
        token: str,
        digest: "BodyDigest",
        receive: Receive,
        send: Send,
    ) -> None:
        self._store = store
        self._key = key
        self._token = token
        self._digest = digest
        self._receive = receive
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()
        self._is_settled = asyncio.Event()

    async def receive(self) -> Message:
        message = await self._receive()
        self._digest.add(message)
        if message["type"] == "http.disconnect" and self._digest.is_whole:
            # What was asked for is done all the same: the client may ask again.
            await self._is_settled.wait()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            if _header(message, b"content-type").startswith(STREAM):
                await self._keep(_header(message, b"content-location"))
                await self._pass_on()
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._keep(None)
                await self._pass_on({**message, "body": bytes(self._body)})

    async def _pass_on(self, *more: Message) -> None:
        assert self._start is not None
        self._is_settled.set()
        start, self._start = self._start, None
        for message in (start, *more):
            await self._send(message)

    async def _keep(self, location: str | None) -> None:
        assert self._start is not None
        status = self._start["status"]
        if not 200 <= status < 300 or not await self._digest.finish(self._receive):
            # Whoever sends it again at once must not be answered that it is at work.
            await run_in_threadpool(self._store.release_lock, self._token)
            return
        answer = AnswerRow(
            request=self._digest.value(),
            status=status,
            content_type=_header(self._start, b"content-type"),
            body=bytes(self._body),
            location=location,
        )
        await run_in_threadpool(self._store.keep_answer, self._key, answer, self._token)


class BodyDigest:
    """Identity of a request: its address, and its body while it is read.

    The boundary between the parts of a form does not count: clients draw another one each time.
    """

    def __init__(self, scope: Scope) -> None:
        address = (scope["method"], scope["path"], scope["query_string"].decode("latin-1"))
        self._sum = hashlib.sha256("\n".join(address).encode())
        self._boundary = _boundary(scope)
        self._rest = b""
        self.is_whole = False
        """Whether all of the body was read."""

    def add(self, message: Message) -> None:
        """Read a message of the connection."""
        if message["type"] != "http.request" or self.is_whole:
            return
        self.is_whole = not message.get("more_body", False)
        data = self._rest + message.get("body", b"")
        if self._boundary:
            *pieces, data = data.split(self._boundary)
            for piece in pieces:
                self._sum.update(piece + BOUNDARY)
        # A boundary may begin here and end in the next message.
        kept = 0 if self.is_whole else max(0, len(self._boundary) - 1)
        end = max(0, len(data) - kept)
        self._sum.update(data[:end])
        self._rest = data[end:]

    async def finish(self, receive: Receive) -> bool:
        """Read the rest of the body, and return whether there is all of it."""
        while not self.is_whole:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            self.add(message)
        return True

    def value(self) -> str:
        """Return the identity, once all of the body is read."""
        return self._sum.hexdigest()


def _boundary(scope: Scope) -> bytes:
    """Return what stands between the parts of a form, nothing for another body."""
    for name, value in scope["headers"]:
        if name == b"content-type" and value.startswith(b"multipart/"):
            headers = Headers()
            headers["content-type"] = value.decode("latin-1")
            return (headers.get_boundary() or "").encode("latin-1", "replace")
    return b""


def _header(message: Message, wanted: bytes) -> str:
    for name, value in message["headers"]:
        if name.lower() == wanted:
            return str(value.decode("latin-1"))
    return ""
