"""A text as server-sent events."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from app.errors import TooManyError, status_of
from app.services.following import Reader
from app.services.generations import GenerationService
from app.services.stream_steps import event_lines

RETRY_AFTER_S = 5
SENT_AT_ONCE = 2**15
"""Bytes given to a connection, which waits while it holds about twice as many."""
STILL_AT_WORK = b": still at work\n\n"


class EventStream(Response):
    """An answer with the events of a text, counted from before the text begins to its end.

    Args:
        generations: Has the text.
        begin: Begins or finds it, in a thread, and returns its id.
    """

    def __init__(self, generations: GenerationService, begin: Callable[[], str]) -> None:
        super().__init__()
        self._generations = generations
        self._begin = begin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; a client that goes away ends this, not the text."""
        with too_many_as_429(), self._generations.reader() as reader:
            generation_id = await run_in_threadpool(self._begin)
            await reader.open(generation_id)
            stream = StreamingResponse(
                _pieces(generation_id, reader),
                media_type="text/event-stream",
                headers={
                    "cache-control": "no-store",
                    "x-accel-buffering": "no",
                    # Where the same events are read again.
                    "content-location": f"/api/v1/generations/{generation_id}/events",
                },
            )
            await stream(scope, receive, send)


async def _pieces(generation_id: str, reader: Reader) -> AsyncIterator[bytes | memoryview]:
    yield event_lines("start", {"id": generation_id}).encode()
    async for step in reader.steps():
        for piece in _cut(step.lines or STILL_AT_WORK):
            yield piece
    async for step in reader.ending():
        for piece in _cut(step.lines):
            yield piece


def _cut(lines: bytes) -> Iterator[memoryview]:
    # A slow client then holds a part of what is shared, and not a copy of all of it.
    whole = memoryview(lines)
    return (whole[i : i + SENT_AT_ONCE] for i in range(0, len(whole), SENT_AT_ONCE))


@contextlib.contextmanager
def too_many_as_429() -> Iterator[None]:
    """Say to a client that is turned away when it may come again."""
    try:
        yield
    except TooManyError as error:
        headers = {"retry-after": str(RETRY_AFTER_S)}
        raise HTTPException(status_of(error), str(error), headers) from error
