"""Arguments of public functions, refused by name before any work starts."""

import functools
import inspect
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import ParamSpec, TypeVar

from retro.config.checks import whole_number
from retro.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")

LARGEST_COUNT = 2**31 - 1
"""Chunk ids are int32."""


def checks_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function refuse unknown and missing arguments with a ``ConfigError``.

    Name, signature and docstring stay those of the function. On ``__init__`` the messages
    name the class.
    """
    signature = inspect.signature(function)
    name = function.__qualname__.removesuffix(".__init__")
    shown = name if function.__name__ == "__init__" else function.__name__
    known = [parameter for parameter in signature.parameters if parameter != "self"]

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        check_names(shown, kwargs, known)
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ConfigError(
                f"{shown}() was called wrongly: {error}. Its arguments are {', '.join(known)}."
            ) from None
        return function(*args, **kwargs)

    return checked


def count(name: str, value: object, minimum: int, maximum: int = LARGEST_COUNT) -> int:
    """Return an argument that counts something as an int.

    Raises:
        ConfigError: It is no whole number in its range.
    """
    return whole_number(name, value, minimum, maximum)


def check_names(function: str, given: Iterable[str], known: list[str]) -> None:
    """Refuse a name that a function does not know.

    Raises:
        ConfigError: A name is unknown; the nearest known one is named.
    """
    for name in given:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"It has {', '.join(known)}."
            raise ConfigError(f"{function}() has no argument {name!r}. {hint}")
