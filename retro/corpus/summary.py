"""What a finished corpus holds, in plain values."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusSummary:
    """What a finished corpus holds."""

    num_documents: int
    """Documents, held-out ones included."""

    num_validation_documents: int
    """Documents of which chunks are held out."""

    num_chunks: int
    """Chunks, held-out ones included."""

    num_retrievable: int
    """Chunks that can be found."""

    num_tokens: int
    """Tokens of text, without padding."""

    num_bytes: int
    """Size of the text in UTF-8."""

    chunk_size: int
    """Tokens per chunk."""

    num_neighbors: int
    """Neighbors stored for each chunk."""

    num_short: int
    """Chunks with fewer neighbors than that."""

    vocab_size: int
    """Tokens of the tokenizer."""

    index_kind: str
    """Structure of the index."""

    recall: float
    """Share of the true nearest keys that the index finds."""

    exclusion: str
    """Which chunks may not be neighbors of a chunk: ``document`` or ``window``."""

    exclusion_window: int
    """Tokens on either side that ``window`` excludes."""

    encoder: str
    """Name of the encoder for keys."""

    tokenizer_origin: str
    """``trained`` on the documents as they are, ``kept`` from before, or ``taken``."""

    tokenizer_source: str | None
    """Where it was taken from."""

    fingerprint: str
    """Identity of everything that training reads."""

    num_embedded: int | None = None
    """Chunks whose keys this build computed; None where this was not recorded."""

    num_reused: int | None = None
    """Chunks whose keys were there before."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return asdict(self)
