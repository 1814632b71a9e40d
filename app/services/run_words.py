"""What people say about runs: names, tags and notes, checked before they are kept."""

from collections.abc import Sequence

from retro.errors import ConfigError, shown

MOST_TAGS = 20
MOST_TAG_CHARACTERS = 40
MOST_NOTE_CHARACTERS = 20_000


def check_tags(tags: Sequence[str]) -> list[str]:
    """Return tags in alphabetical order, each once, without spaces around them.

    Raises:
        ConfigError: There are too many, or one is empty, too long or not printable.
    """
    cleaned = sorted({" ".join(tag.split()) if tag.isprintable() else tag for tag in tags})
    for tag in cleaned:
        if not 1 <= len(tag) <= MOST_TAG_CHARACTERS or not tag.isprintable():
            raise ConfigError(
                f"A tag must have 1 to {MOST_TAG_CHARACTERS} printable characters, "
                f"got {shown(tag)}. Shorten it, or leave it out."
            )
    if len(cleaned) > MOST_TAGS:
        raise ConfigError(
            f"A run may have at most {MOST_TAGS} tags, got {len(cleaned)}. Remove some."
        )
    return cleaned


def check_notes(notes: str) -> str:
    """Return notes with plain line ends.

    Raises:
        ConfigError: They are too long, or hold NUL, which PostgreSQL cannot store.
    """
    cleaned = notes.replace("\r\n", "\n").replace("\r", "\n")
    if len(cleaned) > MOST_NOTE_CHARACTERS:
        raise ConfigError(
            f"Notes may have at most {MOST_NOTE_CHARACTERS:,} characters, got {len(cleaned):,}. "
            f"Shorten them."
        )
    if "\0" in cleaned:
        raise ConfigError(
            f"Notes must not hold the character NUL, got one at position {cleaned.index(chr(0))}. "
            f"Remove it."
        )
    return cleaned
