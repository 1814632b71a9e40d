"""Connections whose client keeps the server waiting: how long, and how many at once.

uvicorn waits for the rest of a request for ever. Anyone who can reach the port could therefore,
without a login, hold connections open until no more are left.
"""

import asyncio
import itertools
import logging
import sys
from dataclasses import dataclass, replace
from typing import Any, Literal

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.edge.log_limits import AtMostEvery
from app.edge.sessions import network_of

if sys.platform != "win32":
    import resource

RESERVED_FILES = 256
"""Files that the process may open beside its connections."""
FEWEST = 32
"""Connections that are allowed however few files there may be."""
Phase = Literal["idle", "head", "body", "busy"]
"""What a connection waits for: a request, the rest of its head or body, or our answer."""
EMPTY: tuple[Phase, ...] = ("idle", "head")
"""Phases in which no request would be lost."""
LOOKED_AT = 32
"""Bodies of which the one that came slowest is given up."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionLimits:
    """How long the server waits for clients, and for how many."""

    head_s: float = 10.0
    """For the whole head of a request, from its first byte or the opening of the connection."""

    body_s: float = 20.0
    """Between two looks at how much of a body has come."""

    body_bytes: int = 20 * 1024
    """What must come of a body from one look to the next."""

    answer_s: float = 60.0
    """For a client that takes nothing of its answer."""

    waiting_per_address: int = 128
    """Connections of one address that keep the server waiting for more than a moment."""

    moment_s: float = 1.0
    """What may be on its way from a client that sends its request at once."""

    per_address: int = 1_024
    """Connections of one address."""

    total: int = 2_048
    """Connections of all addresses."""


def limits_of_this_host() -> ConnectionLimits:
    """Return limits that leave enough files for everything else that the process opens."""
    limits = ConnectionLimits()
    if sys.platform == "win32":
        return limits
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.total + RESERVED_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        total = max(FEWEST, min(limits.total, soft - RESERVED_FILES))
        limits = replace(limits, total=total, per_address=min(limits.per_address, total))
    return limits


class Connections:
    """All open connections, and which of them keep the server waiting.

    Where there are too many, room is made by closing the one that has waited longest: a client
    that sends its request at once is never that one. What an attack costs does not depend on
    how many connections there are.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._open: dict[str, _Group] = {}
        self._num_open = 0
        self._lines = AtMostEvery(60.0)

    def add(self, newest: "GuardedProtocol") -> bool:
        """Take a new connection; False if there is no room for it."""
        group = self._open.setdefault(newest.address, _Group())
        group.enter(newest)
        self._num_open += 1
        for one in group.surplus(self.limits):
            one.give_up()
        if group.num_open > self.limits.per_address:
            return _make_room(group, newest)
        if self._num_open > self.limits.total:
            largest = max(self._open.values(), key=lambda one: one.num_open)
            return _make_room(largest, newest)
        return True

    def enter(self, connection: "GuardedProtocol") -> None:
        """Note that a connection has entered another phase."""
        if (group := self._open.get(connection.address)) is not None:
            group.leave(connection)
            group.enter(connection)

    def remove(self, connection: "GuardedProtocol") -> None:
        """Forget a connection that is closed."""
        group = self._open.get(connection.address)
        if group is not None and group.leave(connection):
            self._num_open -= 1
            if not group.num_open:
                del self._open[connection.address]

    def report(self, address: str) -> None:
        """Note that a connection was closed because it kept the server waiting."""
        left_out = self._lines.allows("closed")
        if left_out is not None:
            logger.warning(
                "closed a connection from %s: no whole request in time, or too many at once; "
                "%d like it since the last such line",
                address,
                left_out,
            )


class _Group:
    """The connections of one address by phase, in the order in which they entered it."""

    def __init__(self) -> None:
        self._phases: dict[Phase, dict[GuardedProtocol, None]] = {
            "idle": {}, "head": {}, "body": {}, "busy": {},
        }  # fmt: skip

    @property
    def num_open(self) -> int:
        return sum(map(len, self._phases.values()))

    def enter(self, connection: "GuardedProtocol") -> None:
        self._phases[connection.phase][connection] = None

    def leave(self, connection: "GuardedProtocol") -> bool:
        held = [phase for phase in self._phases.values() if connection in phase]
        for phase in held:
            del phase[connection]
        return bool(held)

    def surplus(self, limits: ConnectionLimits) -> "list[GuardedProtocol]":
        """Return connections that have waited for more than a moment and are too many."""
        heads, bodies = self._phases["head"], self._phases["body"]
        num = len(heads) + len(bodies) - limits.waiting_per_address
        if num <= 0:
            return []
        if not heads:
            return self._least_body()
        slow = itertools.takewhile(lambda one: one.waited_s > limits.moment_s, heads)
        return list(itertools.islice(slow, num))

    def victim(self, newest: "GuardedProtocol") -> "GuardedProtocol | None":
        """Return the other connection that is missed least, None if the server works for all."""
        first = [next(iter(self._phases[phase])) for phase in EMPTY if self._phases[phase]]
        empty = [one for one in first if one is not newest]
        found = sorted(empty, key=lambda one: one.since) or self._least_body()
        return found[0] if found else None

    def _least_body(self) -> "list[GuardedProtocol]":
        oldest = itertools.islice(self._phases["body"], LOOKED_AT)
        return sorted(oldest, key=lambda one: one.received)[:1]


def _make_room(group: _Group, newest: "GuardedProtocol") -> bool:
    victim = group.victim(newest)
    if victim is None:
        return False
    victim.give_up()
    return True


def guarded_protocol(limits: ConnectionLimits) -> "type[GuardedProtocol]":
    """Return the protocol of all connections of one server."""

    class Protocol(GuardedProtocol):
        _connections = Connections(limits)

    return Protocol


class GuardedProtocol(H11Protocol):
    """uvicorn's protocol, which does not wait for ever."""

    _connections: Connections

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.address = ""
        self.phase: Phase = "head"
        self.since = self.loop.time()
        self.received = 0
        """Bytes since the last look."""
        self._was_paused = False
        """Whether the server, not the client, was slow since the last look."""
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    @property
    def waited_s(self) -> float:
        """Seconds that it has been in its phase."""
        return self.loop.time() - self.since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, if there is room for one more connection."""
        super().connection_made(transport)
        self.address = network_of(str(self.client[0]) if self.client else "")
        self._reading = self.loop.call_later(self._connections.limits.head_s, self._on_deadline)
        if not self._connections.add(self):
            self.give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hand data on, and see what is still missing."""
        self.received += len(data)
        super().data_received(data)
        self._was_paused |= self.flow.read_paused
        self._look()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        """Wait for the client to take its answer, but not for ever."""
        super().pause_writing()
        self._writing = self.loop.call_later(self._connections.limits.answer_s, self.give_up)

    def resume_writing(self) -> None:
        """Go on with the answer."""
        _cancel(self._writing)
        super().resume_writing()

    def give_up(self) -> None:
        """Close the connection without a word."""
        self._forget()
        self._connections.report(self.address)
        self.transport.abort()

    def _forget(self) -> None:
        _cancel(self._reading)
        _cancel(self._writing)
        self._connections.remove(self)

    def _look(self) -> None:
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            self._enter("body")
        elif state is h11.IDLE:
            self._enter("head" if self.conn.trailing_data[0] else "idle")
        else:
            self._enter("busy")

    def _enter(self, phase: "Phase") -> None:
        if phase == self.phase or self.transport.is_closing():
            return
        self.phase, self.since, self.received = phase, self.loop.time(), 0
        self._connections.enter(self)
        _cancel(self._reading)
        limits = self._connections.limits
        # uvicorn itself closes idle connections.
        wait_s = {"head": limits.head_s, "body": limits.body_s}.get(phase)
        if wait_s is not None:
            self._reading = self.loop.call_later(wait_s, self._on_deadline)

    def _on_deadline(self) -> None:
        limits = self._connections.limits
        is_slow = self.phase == "head" or self.received < limits.body_bytes
        if is_slow and not (self._was_paused or self.flow.read_paused):
            self.give_up()
            return
        self.received, self._was_paused = 0, self.flow.read_paused
        self._reading = self.loop.call_later(limits.body_s, self._on_deadline)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
