"""Cutting a document into chunks.

Shape suffixes: N tokens of one document, C chunks, M tokens per chunk. A trailing 2 is
(first character, character after the last).
"""

import math

import numpy as np
from numpy.typing import NDArray


def split_into_chunks(
    tokens_N: NDArray[np.int32], spans_N2: NDArray[np.int64], chunk_size: int, pad_id: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Cut one document into chunks.

    A character whose bytes lie in two chunks belongs to the chunk in which it starts, so
    the spans of consecutive chunks touch and never overlap.

    Args:
        tokens_N: Token ids of the document.
        spans_N2: Characters that each token covers, (tokens, 2).
        chunk_size: Tokens per chunk.
        pad_id: Fills the last chunk.

    Returns:
        Chunks, (chunks, chunk_size), and the characters they cover, (chunks, 2). A
        document without tokens has no chunks.
    """
    num_tokens = len(tokens_N)
    num_chunks = math.ceil(num_tokens / chunk_size)
    chunks_CM = np.full((num_chunks, chunk_size), pad_id, dtype=np.int32)
    chunks_CM.reshape(-1)[:num_tokens] = tokens_N
    if num_chunks == 0:
        return chunks_CM, np.zeros((0, 2), dtype=np.int64)

    first_C = np.arange(num_chunks) * chunk_size
    last_C = np.minimum(first_C + chunk_size, num_tokens) - 1
    spans_C2 = np.stack([spans_N2[first_C, 0], spans_N2[last_C, 1]], axis=1)
    spans_C2[1:, 0] = np.maximum(spans_C2[1:, 0], spans_C2[:-1, 1])
    return chunks_CM, spans_C2
