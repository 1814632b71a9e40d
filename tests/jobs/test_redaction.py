"""No line of a log holds an access token."""

import logging
import sys

import pytest

from jobs.redaction import RedactingFormatter, redact

HUB = "hf_AbCdEfGh1234"


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("x", logging.INFO, "x", 1, message, None, None)


def test_tokens_of_the_hub_are_blotted_out() -> None:
    assert redact(f"https://user:{HUB}@host/ and {HUB}") == "https://user:hf_...@host/ and hf_..."


@pytest.mark.parametrize("secret", [None, "the token of the app"])
def test_a_line_holds_neither_kind_of_token(secret: str | None) -> None:
    line = RedactingFormatter("%(message)s", secret).format(record(f"{HUB} {secret}"))

    assert line == ("hf_... None" if secret is None else "hf_... ...")


def test_a_traceback_holds_none() -> None:
    try:
        raise ValueError(HUB)
    except ValueError:
        item = record("failed")
        item.exc_info = sys.exc_info()

    line = RedactingFormatter("%(message)s").format(item)

    assert "ValueError: hf_..." in line
    assert HUB not in line
