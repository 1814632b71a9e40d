"""Who may come in: logins that are remembered by a cookie, and wrong tokens that are counted."""

import hashlib
import hmac
import ipaddress
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable

SESSION_AGE_S = 30 * 24 * 3600
MOST_REMEMBERED = 10_000
NETWORK_BITS = 64
"""What one customer of an IPv6 network holds: its addresses count as one."""


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
        key = network_of(address)
        times = self._failures.setdefault(key, deque(maxlen=self._limit))
        times.append(self._clock())
        self._failures.move_to_end(key)
        if len(self._failures) > MOST_REMEMBERED:
            self._failures.popitem(last=False)

    def wait_s(self, address: str) -> int:
        """Return the seconds until another attempt is allowed, 0 if it is allowed now."""
        times = self._failures.get(network_of(address))
        if times is None or len(times) < self._limit:
            return 0
        left = times[0] + self._window_s - self._clock()
        return int(left) + 1 if left > 0 else 0


class Sessions:
    """Makes and checks the values of the login cookie.

    A value is signed with the access token, so nothing has to be stored, a restart ends no
    session, and a new token ends all of them.

    Args:
        token: The access token.
        now: UTC seconds.
    """

    def __init__(self, token: str, now: Callable[[], float]) -> None:
        self._key = token.encode()
        self._now = now
        self._ended: OrderedDict[str, None] = OrderedDict()

    def begin(self) -> str:
        """Return the value of a new session."""
        payload = f"{int(self._now()) + SESSION_AGE_S}.{secrets.token_urlsafe(12)}"
        return f"{payload}.{self._sign(payload)}"

    def is_open(self, value: str) -> bool:
        """Return whether a value was made here, has not expired and was not ended."""
        payload, _, signature = value.rpartition(".")
        if not is_same(signature.encode(), self._sign(payload).encode()):
            return False
        return self._now() < int(payload.partition(".")[0]) and payload not in self._ended

    def end(self, value: str) -> None:
        """Refuse a value from now on."""
        if self.is_open(value):
            self._ended[value.rpartition(".")[0]] = None
            if len(self._ended) > MOST_REMEMBERED:
                self._ended.popitem(last=False)

    def _sign(self, payload: str) -> str:
        return hmac.new(self._key, f"retro login {payload}".encode(), hashlib.sha256).hexdigest()


def is_same(given: bytes, expected: bytes) -> bool:
    """Compare secrets in a time that depends neither on their content nor on their length."""
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(expected).digest())


def network_of(address: str) -> str:
    """Return what counts as one address: for IPv6 the network that one customer holds."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv4Address):
        return str(known)
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(ipaddress.ip_network((known, NETWORK_BITS), strict=False))
