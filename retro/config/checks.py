"""Makes configs from plain values, and the checks that they share."""

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from difflib import get_close_matches
from enum import StrEnum
from numbers import Integral
from typing import Any, TypeVar

from retro.errors import ConfigError, shown
from retro.places import check_place

ConfigT = TypeVar("ConfigT")

LARGEST_INTEGER = 2**53
"""Integers up to here are exact in JSON and in a browser."""
MOST_NEIGHBORS = 100


def config_from_dict(config_type: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """Build a config from plain values, refusing names it does not know.

    Args:
        config_type: One of the dataclasses of this package.
        values: Setting name to value, for example from a JSON file.

    Returns:
        The config.

    Raises:
        ConfigError: A name is unknown, or a value is outside its range.
    """
    known = [field.name for field in fields(config_type)]  # type: ignore[arg-type]  # any dataclass type
    for name in values:
        if name not in known:
            close = get_close_matches(str(name), known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{config_type.__name__} has no setting {name!r}.{hint}")
    return config_type(**values)


def config_to_dict(config: Any) -> dict[str, Any]:
    """Return a config as plain values that JSON can hold."""
    return asdict(config)


def check_integer(config: object, name: str, minimum: int, maximum: int) -> None:
    """Refuse a field that is not an integer between two bounds, both allowed."""
    value = whole_number(name, getattr(config, name), minimum, maximum)
    object.__setattr__(config, name, value)


def whole_number(name: str, value: object, minimum: int, maximum: int) -> int:
    """Return a value as an int, if it is a whole number between two bounds, both allowed.

    Raises:
        ConfigError: It is not.
    """
    # Number fields of web forms and JSON written by JavaScript have no integers.
    is_float = isinstance(value, float) and value.is_integer()
    if (is_float or isinstance(value, Integral)) and not isinstance(value, bool):
        number: int = int(value)  # type: ignore[call-overload]  # a float or an integer
        if minimum <= number <= maximum:
            return number
    raise ConfigError(
        f"{name} must be a whole number between {minimum} and {maximum}, got {shown(value)}."
    )


def check_number(
    config: object,
    name: str,
    minimum: float,
    maximum: float,
    *,
    above_minimum: bool = False,
    below_maximum: bool = False,
) -> None:
    """Refuse a field that is not a finite number between two bounds."""
    value = getattr(config, name)
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    too_low = number and (value <= minimum if above_minimum else value < minimum)
    too_high = number and (value >= maximum if below_maximum else value > maximum)
    if not number or too_low or too_high:
        low = f"{'above' if above_minimum else 'at least'} {minimum:g}"
        high = f"{'below' if below_maximum else 'at most'} {maximum:g}"
        raise ConfigError(f"{name} must be {low} and {high}, got {shown(value)}.")
    object.__setattr__(config, name, float(value))


def check_flag(config: object, name: str) -> None:
    """Refuse a field that is neither True nor False."""
    value = getattr(config, name)
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, got {shown(value)}.")


def check_optional_place(config: object, name: str) -> None:
    """Refuse a field that is neither None nor a name on the Hub or a path."""
    value = getattr(config, name)
    if value is None:
        return
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a text, got {shown(value)}.")
    check_place(name, value)


def check_texts(config: object, name: str, most: int, longest: int) -> None:
    """Refuse a field that is not a list of short texts, and store it as a tuple."""
    value = getattr(config, name)
    if not isinstance(value, list | tuple) or len(value) > most:
        raise ConfigError(f"{name} must be a list of at most {most} texts, got {shown(value)}.")
    for item in value:
        if not isinstance(item, str) or not 0 < len(item) <= longest:
            raise ConfigError(
                f"Each text of {name} must have 1 to {longest} characters, got {shown(item)}."
            )
    object.__setattr__(config, name, tuple(value))


def check_choice(config: object, name: str, choices: type[StrEnum]) -> None:
    """Refuse a field that is not one of the choices, and store the choice itself."""
    value = getattr(config, name)
    try:
        choice = choices(value)
    except ValueError:
        allowed = ", ".join(repr(item.value) for item in choices)
        raise ConfigError(f"{name} must be one of {allowed}, got {shown(value)}.") from None
    object.__setattr__(config, name, choice)


def check_layers(config: object, name: str, depth: int, *, optional: bool = False) -> None:
    """Refuse layer numbers that do not exist, and store them sorted as a tuple."""
    value = getattr(config, name)
    if value is None and optional:
        return
    if not isinstance(value, tuple | list) or not all(
        isinstance(item, int) and not isinstance(item, bool) for item in value
    ):
        raise ConfigError(f"{name} must be a list of layer numbers, got {shown(value)}.")
    wrong = [item for item in value if not 1 <= item <= depth]
    if wrong:
        raise ConfigError(
            f"{name} must be layers between 1 and {depth}, counted from 1, got {wrong[0]}."
        )
    object.__setattr__(config, name, tuple(sorted(set(value))))
