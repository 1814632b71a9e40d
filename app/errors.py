"""Errors of the web layer, and how errors reach a person.

The message of every ``RetroError`` and ``JobError`` is fit to be shown: the pages show
it as a notice, the REST routes answer ``{"detail": message}`` with the matching status.
"""

import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import gradio as gr

from jobs.errors import InvalidChangeError, JobError, NotFoundError
from jobs.redaction import redact
from retro.errors import ArtifactError, ConfigError, DiskFullError, InputError, RetroError

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)


class RequestTooLargeError(RetroError):
    """A request holds more than the limits allow."""


class ChangeRefusedError(RetroError):
    """The thing is in a state that does not allow this change."""


class MissingError(RetroError):
    """There is nothing with this id."""


class TooManyError(RetroError):
    """As many do this already as may do it at once; later it will be possible."""


class OutOfMemoryError(RetroError):
    """The device or the host has too little memory at the moment."""


def status_of(error: Exception) -> int:
    """Return the HTTP status that belongs to an error meant for people."""
    match error:
        case NotFoundError() | MissingError():
            return 404
        case InvalidChangeError() | ChangeRefusedError():
            return 409
        case RequestTooLargeError():
            return 413
        case TooManyError():
            return 429
        case OutOfMemoryError():
            return 503
        case DiskFullError():
            return 507
        case ConfigError() | InputError():
            return 422
        case ArtifactError():
            return 409
        case _:
            return 400


def shows_errors(handler: Callable[P, R]) -> Callable[P, R]:
    """Show ``RetroError`` and ``JobError`` to the person; log bugs and let them through."""

    @wraps(handler)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return handler(*args, **kwargs)
        except (RetroError, JobError) as error:
            raise gr.Error(redact(str(error)), print_exception=False) from error
        except gr.Error:
            raise
        except Exception:
            logger.exception("handler %s failed", handler.__name__)
            raise

    return wrapped
