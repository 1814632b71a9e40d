"""Settings of a corpus."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum

from retro.config.checks import (
    LARGEST_INTEGER,
    MOST_NEIGHBORS,
    check_choice,
    check_integer,
    check_number,
    check_optional_place,
)
from retro.errors import ConfigError

BUNDLED_ENCODER = "all-MiniLM-L6-v2"
"""Name of the encoder that needs no download."""
ALWAYS_IDENTIFYING = frozenset(
    (
        "chunk_size", "num_neighbors", "vocab_size", "encoder", "validation_fraction",
        "exclusion", "exclusion_window", "index_kind", "seed",
    )
)  # fmt: skip
"""Settings of the first version; a setting that is added later does not belong here."""


class Exclusion(StrEnum):
    """Which chunks may not be neighbors of a chunk."""

    AUTO = "auto"
    """``DOCUMENT``, or ``WINDOW`` where one document holds most of the corpus."""
    DOCUMENT = "document"
    """No chunk of the same document."""
    WINDOW = "window"
    """No chunk of the same document within one sequence length."""


class IndexKind(StrEnum):
    """Structure that is searched for nearest keys."""

    AUTO = "auto"
    """Chosen by the number of chunks."""
    FLAT = "flat"
    """Exact search over all keys."""
    IVF = "ivf"
    """Inverted lists over full keys: approximate."""
    HNSW = "hnsw"
    """Graph over full keys: approximate, searched on the CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusConfig:
    """How a folder of text becomes a retrieval database."""

    chunk_size: int = 64
    """Tokens per chunk (m in the paper)."""

    num_neighbors: int = 2
    """Neighbors stored for each chunk (k in the paper)."""

    vocab_size: int | None = None
    """Tokens of the byte-level BPE tokenizer; None keeps the one there is, else chooses by size."""

    encoder: str | None = None
    """Hub name or folder of the frozen encoder for keys; None is the bundled MiniLM."""

    validation_fraction: float = 0.05
    """Share of documents held out of the retrieval database, at least one document."""

    exclusion: Exclusion = Exclusion.AUTO
    """Which chunks may not be neighbors of a chunk."""

    exclusion_window: int = 2048
    """Tokens of the same document on either side that ``WINDOW`` excludes."""

    index_kind: IndexKind = IndexKind.AUTO
    """Structure of the index."""

    tokenizer: str | None = None
    """Model whose tokenizer cuts the text: ``smollm2-135m``, a folder, or a name on the Hub. None
    keeps the one there is, else trains one."""

    seed: int = 0
    """Seed of the choice of validation documents and of index training."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        check_integer(self, "chunk_size", 2, 4096)
        check_integer(self, "num_neighbors", 1, MOST_NEIGHBORS)
        if self.vocab_size is not None:
            check_integer(self, "vocab_size", 258, 1_000_000)
        check_optional_place(self, "encoder")
        check_optional_place(self, "tokenizer")
        if self.tokenizer is not None and self.vocab_size is not None:
            raise ConfigError(
                f"vocab_size follows from the tokenizer of {self.tokenizer}, got "
                f"{self.vocab_size}. Leave one of them out."
            )
        check_number(self, "validation_fraction", 0.0, 0.5)
        check_choice(self, "exclusion", Exclusion)
        check_integer(self, "exclusion_window", 1, LARGEST_INTEGER)
        check_choice(self, "index_kind", IndexKind)
        check_integer(self, "seed", 0, LARGEST_INTEGER)


def identifying(
    settings: Mapping[str, object], config_type: type[CorpusConfig]
) -> dict[str, object]:
    """Return the settings that a corpus is identified by.

    A setting that was added later counts only where it is not its default: a corpus that was
    built before there was such a setting is still the same.

    Args:
        settings: Setting name to value, as in a manifest.
        config_type: Where the defaults come from.
    """
    defaults = {field.name: field.default for field in fields(config_type)}
    return {
        name: value
        for name, value in settings.items()
        if name in ALWAYS_IDENTIFYING or value != defaults.get(name)
    }
