"""What a person changes about retrieval: chunks left out, and neighbors given by hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from retro.config.checks import LARGEST_INTEGER
from retro.data.byte_level import check_text
from retro.errors import ConfigError, shown

MOST_EXCLUDED = 1000
MOST_GIVEN = 100
MOST_CHARACTERS = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenNeighbor:
    """A neighbor that was chosen or written by hand."""

    chunk_id: int | None = None
    """A chunk of the corpus; with a text, the one that the text was edited from."""

    text: str | None = None
    """What stands in the place of the chunk; None is the chunk itself."""

    continuation: str = ""
    """What follows the text; the chunk itself has its own."""

    def __post_init__(self) -> None:
        """Refuse values that say nothing or are of the wrong kind."""
        if self.chunk_id is None and self.text is None:
            raise ConfigError(
                "A neighbor given by hand needs a chunk_id or a text, got neither. Name a chunk of "
                "the corpus or write a text."
            )
        if self.chunk_id is not None:
            check_whole_number("chunk_id", self.chunk_id)
        for name in ("text", "continuation"):
            value = getattr(self, name)
            if value is None and name == "text":
                continue
            if not isinstance(value, str) or len(value) > MOST_CHARACTERS:
                raise ConfigError(
                    f"The {name} of a neighbor must be a text of at most {MOST_CHARACTERS:,} "
                    f"characters, got {shown(value)}."
                )
            check_text(value)
        if self.text is not None and not self.text and not self.continuation:
            raise ConfigError(
                "A neighbor written by hand needs at least one character, got an empty text. Write "
                "something, or leave the neighbor out."
            )
        if self.text is None and self.continuation:
            raise ConfigError(
                "A continuation by hand needs a text by hand, got a chunk_id alone. Add the text "
                "of the chunk."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Steering:
    """What retrieval must leave out, and which neighbors are set."""

    exclude_chunks: tuple[int, ...] = ()
    """Chunks whose text is in no retrieved value, neither as a neighbor nor as a continuation."""

    exclude_documents: tuple[str, ...] = ()
    """Paths of documents that nothing is retrieved from."""

    given: Mapping[int, tuple[GivenNeighbor, ...]] = field(default_factory=dict)
    """Position of a chunk of the text, from 0, to exactly the neighbors it reads."""

    def __post_init__(self) -> None:
        """Refuse values of the wrong kind."""
        for name in ("exclude_chunks", "exclude_documents"):
            if len(getattr(self, name)) > MOST_EXCLUDED:
                raise ConfigError(
                    f"{name} may have at most {MOST_EXCLUDED:,} entries, "
                    f"got {len(getattr(self, name)):,}."
                )
        for chunk_id in self.exclude_chunks:
            check_whole_number("Each of exclude_chunks", chunk_id)
        for path in self.exclude_documents:
            if not isinstance(path, str):
                raise ConfigError(
                    f"Each of exclude_documents must be the path of a document, got {shown(path)}."
                )
        for index, neighbors in self.given.items():
            check_whole_number("A position of given", index)
            if len(neighbors) > MOST_GIVEN:
                raise ConfigError(
                    f"A chunk may be given at most {MOST_GIVEN} neighbors, got {len(neighbors)}."
                )


NO_STEERING = Steering()


def check_whole_number(what: str, value: object) -> None:
    """Refuse a value that is not a whole number from 0 on."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not 0 <= value <= LARGEST_INTEGER:  # type: ignore[operator]  # a number here
        raise ConfigError(f"{what} must be a whole number from 0 on, got {shown(value)}.")


def steering_from_dict(values: Mapping[str, Any]) -> Steering:
    """Return steering from plain values, as REST requests and stored texts hold them.

    Raises:
        ConfigError: A name is unknown or a value of the wrong kind.
    """
    known = ("exclude_chunks", "exclude_documents", "given")
    for name in values:
        if name not in known:
            raise ConfigError(f"steering has no setting {name!r}. It has {', '.join(known)}.")
    given = values.get("given") or {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"given must map positions to lists of neighbors, got {shown(given)}.")
    return Steering(
        exclude_chunks=_unique(values, "exclude_chunks"),
        exclude_documents=_unique(values, "exclude_documents"),
        given={_position(index): given_from_list(items) for index, items in given.items()},
    )


def _unique(values: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    items = values.get(name) or ()
    if not isinstance(items, list | tuple):
        raise ConfigError(f"{name} must be a list, got {shown(items)}.")
    if any(isinstance(item, list | dict) for item in items):
        raise ConfigError(f"{name} must be a list of plain values, got {shown(items)}.")
    return tuple(dict.fromkeys(items))


def _position(index: object) -> int:
    # The keys of JSON objects are texts.
    if isinstance(index, int) or (isinstance(index, str) and index.isdecimal() and len(index) < 16):
        return int(index)
    raise ConfigError(f"A position of given must be a whole number from 0 on, got {shown(index)}.")


def given_from_list(items: object) -> tuple[GivenNeighbor, ...]:
    """Return neighbors given by hand, from plain values.

    Raises:
        ConfigError: A name is unknown or a value of the wrong kind.
    """
    known = ("chunk_id", "text", "continuation")
    if not isinstance(items, list | tuple):
        raise ConfigError(f"Neighbors given by hand must be a list, got {shown(items)}.")
    made = []
    for item in items:
        if not isinstance(item, Mapping) or not set(item) <= set(known):
            raise ConfigError(
                f"A neighbor given by hand has {', '.join(known)}, got {shown(item)}."
            )
        made.append(
            GivenNeighbor(
                chunk_id=item.get("chunk_id"),
                text=item.get("text"),
                continuation=item.get("continuation") or "",
            )
        )
    return tuple(made)


def steering_to_dict(steering: Steering) -> dict[str, Any]:
    """Return plain values that JSON can hold."""
    return {
        "exclude_chunks": list(steering.exclude_chunks),
        "exclude_documents": list(steering.exclude_documents),
        "given": {
            str(index): [
                {"chunk_id": one.chunk_id, "text": one.text, "continuation": one.continuation}
                for one in neighbors
            ]
            for index, neighbors in steering.given.items()
        },
    }
