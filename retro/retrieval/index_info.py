"""Facts about an index that are known without loading it."""

from dataclasses import dataclass

from retro.config import IndexKind

LARGEST_FLAT = 65_536
"""Keys up to which exact search is used: it takes some milliseconds per query."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexInfo:
    """How keys are searched."""

    kind: IndexKind
    """Never ``AUTO``."""

    num_keys: int
    """Keys in the index."""

    recall: float
    """Share of the true nearest keys that it finds, measured; 1 for exact search."""

    recall_at: int
    """Nearest keys the recall was measured for."""

    effort: int
    """Lists probed (``IVF``) or candidates kept (``HNSW``) per query; 0 for exact search."""

    @property
    def is_exact(self) -> bool:
        """Whether it finds what brute force finds."""
        return self.kind is IndexKind.FLAT


def choose_kind(kind: IndexKind, num_keys: int) -> IndexKind:
    """Return a kind of index for so many keys, never ``AUTO``."""
    if kind is not IndexKind.AUTO:
        return kind
    return IndexKind.FLAT if num_keys <= LARGEST_FLAT else IndexKind.IVF
