"""Lines that strangers cause come once in a while; nothing of our own is left out."""

import logging

from app.edge.log_limits import RareLines


def record(name: str, text: str, *values: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "", 0, text, values, None)


def test_a_line_comes_once_and_says_how_many_it_stands_for() -> None:
    now = [0.0]
    rare = RareLines(60.0, lambda: now[0])

    passed = [rare.filter(record("uvicorn.error", "Invalid %s", number)) for number in range(5)]
    now[0] = 61.0
    last = record("uvicorn.error", "Invalid %s", "x")

    assert passed == [True, False, False, False, False]
    assert rare.filter(last)
    assert last.getMessage() == "Invalid x (and 4 lines like it before)"


def test_other_lines_are_written_each_time() -> None:
    rare = RareLines(60.0)

    assert all(rare.filter(record("app.services", "the same")) for _ in range(3))
    assert rare.filter(record("asyncio", "one"))
    assert rare.filter(record("asyncio", "another"))
