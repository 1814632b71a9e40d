"""Secrets that must not be read in logs and errors."""

import logging
import re

HUB_TOKEN = re.compile(r"hf_[A-Za-z0-9]{4,}")


def redact(text: str) -> str:
    """Blot out access tokens of the model hub."""
    return HUB_TOKEN.sub("hf_...", text)


class RedactingFormatter(logging.Formatter):
    """Keeps access tokens out of the log.

    Args:
        pattern: Of a line, as ``logging.Formatter`` takes it.
        secret: Another text to keep out of the log, such as the app's own access token.
    """

    def __init__(self, pattern: str, secret: str | None = None) -> None:
        super().__init__(pattern)
        self._secret = secret

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without tokens."""
        line = redact(super().format(record))
        return line.replace(self._secret, "...") if self._secret else line
