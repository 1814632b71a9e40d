"""Wrong tokens are counted per address; the values of the login cookie cannot be made up."""

import inspect

import pytest

from app.edge import gate, sessions
from app.edge.sessions import MOST_REMEMBERED, SESSION_AGE_S, FailedLogins, Sessions, is_same


def test_the_throttle_forgets_and_keeps_addresses_apart() -> None:
    now = [0.0]
    failed = FailedLogins(lambda: now[0], limit=2, window_s=60)
    for _ in range(2):
        failed.note("192.0.2.1")

    assert failed.wait_s("192.0.2.1") > 0
    assert failed.wait_s("192.0.2.2") == 0
    now[0] = 61.0
    assert failed.wait_s("192.0.2.1") == 0


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "testclient", False),
    ],
)
def test_the_addresses_of_one_network_count_as_one(first: str, second: str, is_one: bool) -> None:
    failed = FailedLogins(lambda: 0.0, limit=1)
    failed.note(first)

    assert (failed.wait_s(second) > 0) is is_one


def test_many_addresses_take_little_memory() -> None:
    failed = FailedLogins(lambda: 0.0, limit=1)
    for number in range(MOST_REMEMBERED + 1):
        failed.note(f"address {number}")

    assert failed.wait_s("address 0") == 0
    assert failed.wait_s(f"address {MOST_REMEMBERED}") > 0


def test_a_session_is_open_until_it_ends_or_expires() -> None:
    now = [50.0]
    made = Sessions("a token", lambda: now[0])
    first, second = made.begin(), made.begin()

    assert first != second
    assert made.is_open(first)
    made.end(first)
    assert not made.is_open(first)
    assert made.is_open(second)
    now[0] += SESSION_AGE_S
    assert not made.is_open(second)


def test_a_value_that_was_changed_is_refused() -> None:
    made = Sessions("a token", lambda: 0.0)
    expires, nonce, signature = made.begin().split(".")

    for value in (
        f"{int(expires) + 1}.{nonce}.{signature}",
        f"{expires}.{nonce}x.{signature}",
        f"{expires}.{nonce}.{signature[:-1]}",
        f"{expires}.{nonce}.",
        signature,
        "",
        ".",
        "..",
        "\u20ac.x.y",
    ):
        assert not made.is_open(value)
        made.end(value)
    assert Sessions("another", lambda: 0.0).is_open(f"{expires}.{nonce}.{signature}") is False


def test_secrets_are_compared_in_constant_time() -> None:
    assert is_same(b"abc", b"abc")
    assert not is_same(b"abc", b"abcd")
    assert "compare_digest" in inspect.getsource(is_same)
    for module in (gate, sessions):
        source = inspect.getsource(module)
        assert "== self._token" not in source
        assert "== token" not in source
