"""What a request was answered is kept for a day, and the request is done once."""

import pytest
from sqlalchemy import text

from jobs.errors import BusyError
from jobs.store.kept_answers import KEPT_S
from jobs.store.locks import LOCK_S
from jobs.store.rows import AnswerRow
from jobs.store.store import Store

pytestmark = pytest.mark.both_databases
ANSWER = AnswerRow(
    request="ab" * 32,
    status=201,
    content_type="application/json",
    body='{"name": "l\'été \x00"}'.encode(),
)


def count(store: Store, table: str) -> int:
    with store.read() as session:
        return int(session.scalar(text(f"SELECT count(*) FROM {table}")))


def begin(store: Store, key: str) -> str:
    token = store.begin_request(key)
    assert isinstance(token, str)
    return token


def test_an_answer_comes_back_under_its_key_for_a_day(store: Store, clock) -> None:
    stream = AnswerRow(
        request="c" * 64, status=200, content_type="text/event-stream", body=b"", location="/x"
    )
    for key, answer in (("one", ANSWER), ("two", stream)):
        store.keep_answer(key, answer, begin(store, key))

    assert store.begin_request("one") == ANSWER
    assert store.begin_request("two") == stream
    begin(store, "three")
    clock.advance(KEPT_S)
    begin(store, "one")


def test_a_key_is_busy_until_its_request_has_ended(store: Store) -> None:
    token = begin(store, "k" * 200)
    with pytest.raises(BusyError, match=r"Idempotency-Key, and the one with 'k{40}' is still at"):
        store.begin_request("k" * 200)
    store.release_lock(token)
    begin(store, "k" * 200)


def test_who_was_halted_too_long_keeps_no_answer(store: Store, clock) -> None:
    lost = begin(store, "key")
    clock.advance(LOCK_S)
    token = begin(store, "key")

    store.keep_answer("key", ANSWER, lost)

    store.release_lock(token)
    begin(store, "key")


def test_old_answers_and_old_locks_are_thrown_away(store: Store, clock) -> None:
    store.keep_answer("old", ANSWER, begin(store, "old"))
    begin(store, "abandoned")
    clock.advance(KEPT_S + LOCK_S)

    store.keep_answer("new", ANSWER, begin(store, "new"))

    assert (count(store, "kept_answers"), count(store, "locks")) == (1, 0)
