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
    """Bytes of one file, or of one line with a document, unpacked."""

    corpus_files: int = 500_000
    """Documents of one corpus."""

    corpus_bytes: int = 200 << 30
    """Text of one corpus, in bytes."""

    zip_files: int = 10_000
    """Members of one zip file."""

    zip_ratio: int = 100
    """Unpacked bytes per packed byte of a zip or gzip file, above ``zip_free_bytes``."""

    zip_free_bytes: int = 10 << 20
    """Bytes of a packed file that are unpacked whatever their ratio."""

    free_disk: int = 1 << 30
    """Bytes of the disk that stay free."""
