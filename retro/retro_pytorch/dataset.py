"""Training sequences from the raw files of RETRO-pytorch.

Shape suffixes: L chunks of a sequence, M tokens per chunk, K neighbors per chunk, R tokens
per retrieved value, T tokens, C chunks of the corpus, N any number of rows. W = M + 1: a
stored row is a chunk and the token after it.
"""

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from retro.data.database import NO_NEIGHBOR
from retro.errors import ArtifactMismatchError, ConfigError
from retro.retro_pytorch.arguments import checks_arguments, count
from retro.retro_pytorch.files import as_path, open_rows

MEMMAP_EOS_ID = 102
"""[SEP] of BERT base cased."""
MEMMAP_PAD_ID = 0


class RETRODataset(Dataset[tuple[Tensor, Tensor]]):
    """Sequences and their retrieved values, from files that are only read.

    An item is ``(seq, retrieved)``, both int64: (seq_len + 1,) and (seq_len // chunk_size,
    num_neighbors, 2 * chunk_size), without continuations (..., chunk_size). After the first
    end token a sequence is padding, and so are the retrieved values of chunks wholly after
    it: a sequence holds one document. A continuation ends with its document.

    Files are opened when a process reads its first item, so the dataset can be sent to
    worker processes.

    Args:
        num_chunks: Rows of the chunks file and of the neighbors file.
        chunk_size: Tokens per chunk.
        seq_len: Tokens per sequence, a multiple of ``chunk_size``.
        num_sequences: Rows of the sequences file.
        num_neighbors: Neighbors stored for each chunk.
        chunk_memmap_path: int32, (num_chunks, chunk_size + 1); the last column is the token
            after the chunk.
        chunk_nn_memmap_path: int32, (num_chunks, num_neighbors), -1 where there is none.
        seq_memmap_path: int32, (num_sequences,), first chunk of each sequence.
        eos_id: Token id that ends a document.
        pad_id: Token id that stands for nothing.
        add_continuations: Follow each neighbor by the chunk after it.

    Raises:
        ConfigError: A number is outside its range, or an argument is unknown.
        ArtifactMissingError: A file is not there.
        ArtifactMismatchError: A file is smaller than said, or holds ids of no chunk.
    """

    @checks_arguments
    def __init__(
        self,
        *,
        num_chunks: int,
        chunk_size: int,
        seq_len: int,
        num_sequences: int,
        num_neighbors: int,
        chunk_memmap_path: str | os.PathLike[str],
        chunk_nn_memmap_path: str | os.PathLike[str],
        seq_memmap_path: str | os.PathLike[str],
        eos_id: int = MEMMAP_EOS_ID,
        pad_id: int = MEMMAP_PAD_ID,
        add_continuations: bool = True,
    ) -> None:
        super().__init__()
        self.num_chunks = count("num_chunks", num_chunks, 1)
        self.chunk_size = count("chunk_size", chunk_size, 2)
        self.num_sequences = count("num_sequences", num_sequences, 1)
        self.num_neighbors = count("num_neighbors", num_neighbors, 1)
        self.seq_num_chunks = chunks_per_sequence(seq_len, chunk_size)
        self.eos_id = count("eos_id", eos_id, 0)
        self.pad_id = count("pad_id", pad_id, 0)
        self.add_continuations = add_continuations
        self._paths = tuple(
            as_path(name, path).absolute()
            for name, path in (
                ("chunk_memmap_path", chunk_memmap_path),
                ("chunk_nn_memmap_path", chunk_nn_memmap_path),
                ("seq_memmap_path", seq_memmap_path),
            )
        )
        self._files: tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None = None
        starts_N = self._open()[2]
        check_ids(starts_N, 0, self.num_chunks, f"{self._paths[2].name}, first chunks of sequences")

    def __len__(self) -> int:
        return self.num_sequences

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not -self.num_sequences <= index < self.num_sequences:
            raise IndexError(f"The dataset has {self.num_sequences} sequences, got {index}.")
        chunks_CW, neighbors_CK, starts_N = self._open()
        start = int(starts_N[index])
        stop = min(start + self.seq_num_chunks, self.num_chunks)
        seq_T, num_own = self._sequence(np.asarray(chunks_CW[start:stop]))
        neighbors_LK = np.full((self.seq_num_chunks, self.num_neighbors), NO_NEIGHBOR, np.int64)
        neighbors_LK[:num_own] = neighbors_CK[start : start + num_own]
        check_ids(neighbors_LK, NO_NEIGHBOR, self.num_chunks, f"{self._paths[1].name}, neighbors")
        retrieved_LKR = retrieved_rows(
            chunks_CW,
            neighbors_LK,
            eos_id=self.eos_id,
            pad_id=self.pad_id,
            add_continuations=self.add_continuations,
        )
        return torch.from_numpy(seq_T), torch.from_numpy(retrieved_LKR)

    def _sequence(self, rows_LW: NDArray[np.int32]) -> tuple[NDArray[np.int64], int]:
        """Return the sequence and how many of its chunks are of its document."""
        size = self.chunk_size
        seq_T = np.full(self.seq_num_chunks * size + 1, self.pad_id, dtype=np.int64)
        num_rows = len(rows_LW)
        seq_T[: num_rows * size] = rows_LW[:, :-1].reshape(-1)
        if num_rows == self.seq_num_chunks:
            seq_T[-1] = rows_LW[-1, -1]
        is_eos_LW = rows_LW == self.eos_id
        ending = np.flatnonzero(is_eos_LW.any(axis=1))
        if len(ending) == 0:
            return seq_T, num_rows
        # The token after a chunk may be the end token, with no row of its own.
        last = int(ending[0])
        column = int(is_eos_LW[last].argmax())
        end = last * size + column
        seq_T[end] = self.eos_id
        seq_T[end + 1 :] = self.pad_id
        has_row = column == size and last + 1 < num_rows and is_eos_LW[last + 1, 0]
        return seq_T, last + 2 if has_row else last + 1

    def _open(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        if self._files is None:
            chunks, neighbors, sequences = self._paths
            counts = {"counted": "num_chunks"}
            self._files = (
                open_rows(chunks, np.int32, self.num_chunks, (self.chunk_size + 1,), **counts),
                open_rows(neighbors, np.int32, self.num_chunks, (self.num_neighbors,), **counts),
                open_rows(sequences, np.int32, self.num_sequences, (), counted="num_sequences"),
            )
        return self._files

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": None}


def retrieved_rows(
    chunks_CW: NDArray[Any],
    neighbors_LK: NDArray[Any],
    *,
    eos_id: int,
    pad_id: int,
    add_continuations: bool = True,
) -> NDArray[np.int64]:
    """Return each neighbor, followed by the chunk after it in its document.

    Args:
        chunks_CW: Stored rows, (chunks, chunk_size + 1).
        neighbors_LK: Rows of neighbors, (chunks, neighbors), -1 where there is none.
        eos_id: Token id that ends a document; a row with it has no continuation.
        pad_id: Stands where there is no neighbor or no continuation.
        add_continuations: Without, only the neighbor itself.

    Returns:
        Token ids, (chunks, neighbors, 2 * chunk_size), without continuations (...,
        chunk_size).
    """
    neighbors_LK = np.asarray(neighbors_LK, dtype=np.int64)
    exists_LK = neighbors_LK >= 0
    rows_LKW = np.asarray(chunks_CW[np.where(exists_LK, neighbors_LK, 0)], dtype=np.int64)
    values_LKM = rows_LKW[..., :-1].copy()
    values_LKM[~exists_LK] = pad_id
    if not add_continuations:
        return values_LKM
    ends_LK = (rows_LKW == eos_id).any(axis=-1) | (neighbors_LK + 1 >= len(chunks_CW))
    continues_LK = exists_LK & ~ends_LK
    next_LKM = np.asarray(chunks_CW[np.where(continues_LK, neighbors_LK + 1, 0)], dtype=np.int64)
    next_LKM = next_LKM[..., :-1]
    next_LKM = np.where(continues_LK[..., None], next_LKM, pad_id)
    return np.concatenate((values_LKM, next_LKM), axis=-1)


def chunks_per_sequence(seq_len: int, chunk_size: int) -> int:
    """Return the chunks of a sequence.

    Raises:
        ConfigError: A sequence does not consist of whole chunks.
    """
    seq_len = count("seq_len", seq_len, 1)
    chunk_size = count("chunk_size", chunk_size, 2)
    if seq_len % chunk_size != 0:
        raise ConfigError(
            f"seq_len must be a multiple of chunk_size, got {seq_len} and {chunk_size}. "
            f"Choose for example {max(1, seq_len // chunk_size) * chunk_size}."
        )
    return seq_len // chunk_size


def check_ids(ids: NDArray[Any], minimum: int, stop: int, where: str) -> None:
    """Refuse ids outside a range.

    Raises:
        ArtifactMismatchError: An id is below ``minimum`` or not below ``stop``.
    """
    if ids.size and not (minimum <= ids.min() and ids.max() < stop):
        wrong = ids[(ids < minimum) | (ids >= stop)]
        raise ArtifactMismatchError(
            f"{where}: ids must be at least {minimum} and below num_chunks = {stop}, "
            f"got {int(wrong.reshape(-1)[0])}. Make the file again for these chunks."
        )
