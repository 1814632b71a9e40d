"""The retrieval database: all chunks of a corpus, read-only.

Chunk ids below ``num_retrievable`` can be found; the ids after them are held out for
validation. The chunks of a document have consecutive ids, also where the border between
the two regions lies inside the document.

Shape suffixes: C chunks, M tokens per chunk, R = 2M tokens per retrieved value,
Q queries, K neighbors, N any number of rows. A trailing 2 is (first character, character
after the last).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from retro.artifacts import read_manifest
from retro.data.splits import Split
from retro.errors import ArtifactMismatchError
from retro.json_files import read_list
from retro.whole_files import open_array

DATABASE_KIND = "database"
RECORDS_NAME = "documents.json"
NO_NEIGHBOR = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentRecord:
    """One document of the retrieval database; its row is its document id."""

    path: str
    """Relative path of the stored text."""

    characters: int
    """Length of the text."""

    bytes: int
    """Length of the text in UTF-8."""

    sha256: str
    """Hash of the text in UTF-8."""

    split: Split
    """What the document is used for."""

    num_chunks: int
    """Chunks of the document, held-out ones included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalDatabase:
    """Chunks with their documents; every array is a read-only memory map."""

    chunks_CM: NDArray[np.int32]
    """Token ids, padded at the end of each document."""

    documents_C: NDArray[np.int32]
    """Document id of each chunk, never falling."""

    spans_C2: NDArray[np.int64]
    """Characters of its document that each chunk covers."""

    documents: list[DocumentRecord]
    """The row is the document id."""

    num_retrievable: int
    """Chunks that can be found; they come first."""

    num_tokens: int
    """Tokens of text, without padding."""

    pad_id: int
    """Token id that stands for no text."""

    eos_id: int
    """Token id that marks the end of a document in training sequences."""

    vocab_size: int
    """Tokens of the tokenizer."""

    fingerprint: str
    """Identity of the content."""

    tokenizer_fingerprint: str
    """Identity of the tokenizer."""

    @classmethod
    def open(cls, folder: Path) -> "RetrievalDatabase":
        """Open the ``database`` folder of a corpus.

        Raises:
            ArtifactMissingError: It has not been built.
            ArtifactMismatchError: Its files do not belong together or are damaged.
        """
        manifest = read_manifest(folder, DATABASE_KIND)
        try:
            settings = manifest.settings
            database = cls(
                chunks_CM=open_array(folder / "chunks.npy"),
                documents_C=open_array(folder / "documents.npy"),
                spans_C2=open_array(folder / "spans.npy"),
                documents=read_records(folder),
                num_retrievable=settings["num_retrievable"],
                num_tokens=settings["num_tokens"],
                pad_id=settings["pad_id"],
                eos_id=settings["eos_id"],
                vocab_size=settings["vocab_size"],
                fingerprint=manifest.fingerprint,
                tokenizer_fingerprint=settings["tokenizer"],
            )
            num_chunks, chunk_size = settings["num_chunks"], settings["chunk_size"]
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactMismatchError(
                f"{folder.parent.name}/{folder.name} is incomplete ({error!r}). "
                f"Build the corpus again."
            ) from error
        check_array("chunks.npy", database.chunks_CM, np.int32, (num_chunks, chunk_size))
        check_array("documents.npy", database.documents_C, np.int32, (num_chunks,))
        check_array("spans.npy", database.spans_C2, np.int64, (num_chunks, 2))
        return database

    @property
    def num_chunks(self) -> int:
        """All chunks, held-out ones included."""
        return len(self.chunks_CM)

    @property
    def chunk_size(self) -> int:
        """Tokens per chunk."""
        return int(self.chunks_CM.shape[1])

    def continuation_ids(self, ids_N: NDArray[Any]) -> NDArray[np.int64]:
        """Return the id of the chunk after each chunk in its document.

        Args:
            ids_N: Chunk ids of any shape, -1 where there is none.

        Returns:
            Chunk ids of the same shape; -1 where the document ends, where the held-out
            part begins, and where there was no chunk.
        """
        ids_N = np.asarray(ids_N, dtype=np.int64)
        exists_N = ids_N >= 0
        first_N = np.where(exists_N, ids_N, 0)
        next_N = np.minimum(first_N + 1, self.num_chunks - 1)
        continues_N = (
            exists_N
            & (next_N != first_N)
            & (next_N != self.num_retrievable)
            & (self.documents_C[next_N] == self.documents_C[first_N])
        )
        return np.where(continues_N, next_N, NO_NEIGHBOR)

    def retrieved_values(self, ids_QK: NDArray[Any]) -> NDArray[np.int32]:
        """Return each neighbor followed by its continuation.

        Args:
            ids_QK: Chunk ids, (queries, neighbors), -1 where there is none. Further
                dimensions in front are kept.

        Returns:
            Token ids, (queries, neighbors, 2 * chunk_size), padding where there is no
            neighbor or no continuation.
        """
        ids_QK = np.asarray(ids_QK, dtype=np.int64)
        both_QK2 = np.stack([ids_QK, self.continuation_ids(ids_QK)], axis=-1)
        exists_QK2 = both_QK2 >= 0
        values_QK2M = self.chunks_CM[np.where(exists_QK2, both_QK2, 0)]
        values_QK2M[~exists_QK2] = self.pad_id
        return values_QK2M.reshape(*ids_QK.shape, 2 * self.chunk_size)

    def document_chunks(self, document_id: int) -> tuple[range, range]:
        """Return the ids of a document's retrievable and of its held-out chunks."""
        first, stop = self._first_chunk(document_id), self._first_chunk(document_id + 1)
        border = min(max(first, self.num_retrievable), stop)
        return range(first, border), range(border, stop)

    def chunk_position(self, chunk_id: int) -> tuple[int, int]:
        """Return a chunk's index in its document, from 0, and the document's chunks."""
        document_id = int(self.documents_C[chunk_id])
        first = self._first_chunk(document_id)
        return chunk_id - first, self.documents[document_id].num_chunks

    def _first_chunk(self, document_id: int) -> int:
        # A number of another type would make a converted copy of the whole array.
        return int(np.searchsorted(self.documents_C, np.int32(document_id)))

    def sequence_starts(
        self, chunks_per_sequence: int, split: Literal["train", "validation"]
    ) -> NDArray[np.int64]:
        """Return the first chunk of every sequence; sequences do not overlap.

        A sequence lies in one document and on one side of ``num_retrievable``. The last
        one of a document may have fewer chunks.

        Args:
            chunks_per_sequence: Most chunks in a sequence.
            split: The retrievable chunks, or the held-out ones.

        Returns:
            Chunk ids, rising.
        """
        start, stop = (
            (0, self.num_retrievable)
            if split == "train"
            else (self.num_retrievable, self.num_chunks)
        )
        documents_N = self.documents_C[start:stop]
        ids_N = np.arange(len(documents_N))
        first_N = np.searchsorted(documents_N, documents_N)
        starts_N: NDArray[np.int64] = ids_N[(ids_N - first_N) % chunks_per_sequence == 0] + start
        return starts_N


def check_array(name: str, array: NDArray[Any], dtype: DTypeLike, shape: tuple[int, ...]) -> None:
    """Refuse an array of a corpus that is not what its manifest says.

    Raises:
        ArtifactMismatchError: It has another type or shape.
    """
    if array.shape != shape or array.dtype != dtype:
        raise ArtifactMismatchError(
            f"{name} must hold {np.dtype(dtype)} of shape {shape}, got {array.dtype} of shape "
            f"{array.shape}. Build the corpus again."
        )


def read_records(folder: Path) -> list[DocumentRecord]:
    """Return the documents of a database alone, by document id.

    Raises:
        ArtifactError: There is no list of them.
        TypeError: It holds something else.
        ValueError: It names no split.
    """
    records: list[dict[str, Any]] = read_list(folder / RECORDS_NAME)
    return [DocumentRecord(**{**values, "split": Split(values["split"])}) for values in records]
