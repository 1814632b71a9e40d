"""HTML: the one place where text becomes HTML, and it is escaped there.

What ``html`` returns can be put into other HTML, added to it and joined as it is. Everything
else is text, and is escaped when it comes in.
"""

from collections.abc import Iterable
from functools import cache
from string import Formatter
from typing import Self

from markupsafe import Markup

_UNSEEN = "\0\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"}
    | dict.fromkeys(_UNSEEN, "\N{REPLACEMENT CHARACTER}")
)


class Html(Markup):
    """Text that is HTML already. Only ``html``, ``escape`` and ``join`` should make it."""

    __slots__ = ()

    @classmethod
    def escape(cls, s: object, /) -> Self:
        """Return text as HTML; what is HTML already stays as it is."""
        return s if isinstance(s, cls) else str.__new__(cls, escaped(str(s)))


NOTHING = Html()
DOT = Html(" \N{MIDDLE DOT} ")
"""Stands between short facts on one line."""


def escaped(text: str) -> str:
    """Return text that is safe inside HTML, in elements and in quoted attributes.

    NUL and direction overrides are shown as a mark: these could make a file name or a passage
    look like another one.
    """
    return text.translate(_ESCAPES)


def escape(value: object) -> Html:
    """Return text as HTML; what is HTML already stays as it is."""
    return Html.escape(value)


def html(template: str, *values: object) -> Html:
    """Return HTML with values in it.

    Args:
        template: HTML, written in the source; each ``{}`` stands for a value, and may have a
            format, as in ``{:,}``.
        values: What takes their places: HTML as it is, text escaped.
    """
    if not values:
        return Html(template)
    parts = []
    rest = iter(values)
    for literal, format_spec in _parts(template):
        parts.append(literal)
        if format_spec is not None:
            value = next(rest)
            known = isinstance(value, Html)
            parts.append(value if known else escaped(format(value, format_spec)))  # type: ignore[arg-type]  # HTML is text
    return _as_html("".join(parts))


def _as_html(text: str) -> Html:
    # Markup looks for HTML in what it is made of, which takes as long as the rest.
    return str.__new__(Html, text)


@cache
def _parts(template: str) -> list[tuple[str, str | None]]:
    return [(literal, spec) for literal, _, spec, _ in Formatter().parse(template)]


def join(items: Iterable[object], between: str = "") -> Html:
    """Return HTML and texts after each other.

    Args:
        items: The parts; texts are escaped.
        between: What stands between them.
    """
    return Html.escape(between).join(items)  # type: ignore[arg-type]  # takes any object
