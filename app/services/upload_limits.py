"""How much may be sent."""

from dataclasses import dataclass

from retro.data.documents import LARGEST_DOCUMENT_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadLimits:
    """How much may be sent."""

    request_files: int = 5_000
    """Files in one request; larger folders are sent in several."""

    request_bytes: int = 4 << 30
    """Bytes of one request."""

    file_bytes: int = LARGEST_DOCUMENT_BYTES
    """Bytes of one file, unpacked."""

    file_lines: int = 1_000_000
    """Lines of one JSON Lines file, empty ones included."""

    line_bytes: int = 16 << 20
    """Bytes of one line of it: nothing else runs while a line is parsed."""

    line_values: int = 100_000
    """Values of one line, where it is long; each costs many times its bytes when it is parsed."""

    folders: int = 32
    """Folders that one document may lie in; each is made and flushed."""

    corpus_files: int = 500_000
    """Documents of one corpus."""

    corpus_bytes: int = 200 << 30
    """Text of one corpus, in bytes."""

    zip_files: int = 10_000
    """Members of one zip file."""

    zip_ratio: int = 100
    """Unpacked bytes for each byte of a zip or gzip file as it was sent."""

    zip_free_bytes: int = 10 << 20
    """Unpacked bytes beyond that, for all packed files of a request together."""

    seconds_per_mb: float = 0.5
    """Processor time that each megabyte sent may take to unpack and parse."""

    free_seconds: float = 60.0
    """Processor time beyond that, for all files of a request together."""

    free_disk: int = 1 << 30
    """Bytes of the disk that stay free."""
