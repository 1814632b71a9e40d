"""What the routes of a corpus's documents, uploads, chunks and neighbors answer."""

from typing import Literal

from pydantic import ConfigDict

from app.services.views.base import View, left_out
from app.services.views.examples import (
    ACCEPTED_FILE,
    CHUNK,
    DOCUMENT,
    DOCUMENT_TEXT,
    NEIGHBOR,
    SKIPPED_FILE,
    UPLOAD_COUNTS,
)
from retro.data.splits import Split


class Document(View):
    """A document of a corpus, and what the last build made of it."""

    model_config = ConfigDict(json_schema_extra={"example": DOCUMENT})

    path: str
    """Relative path, with slashes."""
    bytes: int
    """Size of its text in UTF-8, in bytes."""
    encoding: str
    """How its file was read, such as ``utf-8``; it is kept as UTF-8."""
    note: str | None
    """What a person should know about that; null where there is nothing."""
    num_chunks: int | None
    """Its chunks in the last build; null where that did not have it."""
    is_held_out: bool
    """Whether the last build holds its chunks, or the last ones, out of the retrieval database."""
    is_changed: bool
    """Whether the last build had another text of it."""


class DocumentPage(View):
    """Some documents of a corpus, and how many it has."""

    documents: list[Document]
    """The documents, by path."""
    total: int
    """Documents there are, of those with the wanted part in their path."""


class DocumentChunk(View):
    """A chunk on a page of a document."""

    chunk_id: int
    """Id of the chunk in the corpus, counted from 0."""
    chunk_index: int
    """Position of the chunk in its document, counted from 0."""
    start: int
    """Position of its first character in the document, counted from 0."""
    end: int
    """Position of the character after its last one."""
    num_tokens: int
    """Tokens of it, without padding."""
    is_held_out: bool
    """Whether it is held out of the retrieval database, so that it is never retrieved."""
    text: str
    """Its text."""


class DocumentText(View):
    """A page of a document, with its chunks where the text is that of the last build."""

    model_config = ConfigDict(json_schema_extra={"example": DOCUMENT_TEXT})

    path: str
    """Relative path, with slashes."""
    bytes: int
    """Size of its text in UTF-8, in bytes."""
    encoding: str | None
    """How its file was read; null where it was removed."""
    note: str | None
    """What a person should know about that; null where there is nothing."""
    is_stored: bool
    """Whether the corpus has it now; false where only the last build has it."""
    is_changed: bool
    """Whether the last build had another text of it, or it was removed since."""
    split: Split | None
    """What the last build uses it for: ``train`` is retrieved, ``validation`` is held out, ``both``
    has only its last chunks held out; null where that did not have it."""
    num_chunks: int | None
    """Its chunks in the last build; null where that did not have it."""
    num_characters: int
    """Characters of the whole text. That is the present one, but that of the last build if the
    document was removed, or was changed and a chunk or a character is asked for."""
    page: int
    """Number of the page, counted from 1."""
    num_pages: int
    """Pages of the document."""
    start: int
    """Position of the page's first character in the document, counted from 0."""
    text: str
    """Text of the page."""
    chunks: list[DocumentChunk]
    """Its chunks; empty where the text is not that of the last build."""


class AcceptedFile(View):
    """A file, or a line of one, that is now a document."""

    model_config = ConfigDict(json_schema_extra={"example": ACCEPTED_FILE})

    path: str
    """Relative path of the document."""
    bytes: int
    """Size of its text in UTF-8, in bytes."""
    encoding: str
    """How the file was read, such as ``utf-8``; it is kept as UTF-8."""
    change: Literal["added", "replaced", "unchanged"]
    """What that did to the corpus; ``unchanged`` had the same text before."""
    note: str = left_out()
    """What a person should know about the reading; only where there is something."""


class SkippedFile(View):
    """A file that was left out, and why."""

    model_config = ConfigDict(json_schema_extra={"example": SKIPPED_FILE})

    path: str
    """Path as it was sent; for parts of a file, followed by the line or the name inside."""
    reason: str
    """Why, for people."""


class UploadCounts(View):
    """How many files or lines became what."""

    model_config = ConfigDict(json_schema_extra={"example": UPLOAD_COUNTS})

    added: int
    """Documents that are new."""
    replaced: int
    """Documents that have another text now."""
    unchanged: int
    """Documents that were there with the same text."""
    skipped: int
    """Files and lines that were left out."""
    bytes: int
    """Bytes of the text of all that were accepted, in UTF-8."""


class UploadReport(View):
    """What became of each file of an upload."""

    accepted: list[AcceptedFile]
    """What became documents; the first 10,000."""
    skipped: list[SkippedFile]
    """What was left out; the first 10,000."""
    counts: UploadCounts
    """How many there were of each, those not listed included."""


class Neighbor(View):
    """A chunk that was found, with the text after it."""

    model_config = ConfigDict(json_schema_extra={"example": NEIGHBOR})

    rank: int
    """Position among the neighbors, counted from 1; the nearest is first."""
    chunk_id: int
    """Id of the chunk in the corpus, counted from 0."""
    document: str
    """Path of its document."""
    start: int
    """Position of its first character in the document, counted from 0."""
    end: int
    """Position of the character after its last one."""
    distance: float
    """Squared L2 distance between the keys; lower is nearer."""
    text: str
    """Text of the chunk."""
    continuation: str
    """Text of the chunk after it; empty where its document, or the retrievable part of that,
    ends."""
    chunk_index: int
    """Position of the chunk in its document, counted from 0."""
    num_chunks: int
    """Chunks of the document."""


class Neighbors(View):
    """Chunks that were found, the nearest first."""

    neighbors: list[Neighbor]
    """The chunks."""
    seconds: float
    """Time that the search took, seconds."""


class CorpusChunk(View):
    """A chunk of a corpus with its place and its neighbors."""

    model_config = ConfigDict(json_schema_extra={"example": CHUNK})

    chunk_id: int
    """Id of the chunk in the corpus, counted from 0."""
    document: str
    """Path of its document."""
    start: int
    """Position of its first character in the document, counted from 0."""
    end: int
    """Position of the character after its last one."""
    text: str
    """Text of the chunk."""
    continuation: str
    """Text of the chunk after it; empty where its document, or the retrievable part of that,
    ends."""
    chunk_index: int
    """Position of the chunk in its document, counted from 0."""
    num_chunks: int
    """Chunks of the document."""
    num_tokens: int
    """Tokens of the chunk, without padding."""
    is_retrievable: bool
    """Whether it can be found; the others are held out for validation."""
    neighbors: list[Neighbor]
    """The neighbors that were stored with it, the nearest first. By the setting ``exclusion`` none
    is of the same document, or none is near it there."""
