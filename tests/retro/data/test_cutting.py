"""Cutting a document into chunks."""

import numpy as np
import pytest

from retro.data.cutting import split_into_chunks
from tests.fakes import ByteTokenizer

SIZE = 4


@pytest.mark.parametrize("length", [0, 1, SIZE - 1, SIZE, SIZE + 1, 5 * SIZE])
def test_every_token_appears_once_in_order(length: int) -> None:
    tokens_N = np.arange(10, 10 + length, dtype=np.int32)
    spans_N2 = np.stack([np.arange(length), np.arange(length) + 1], axis=1)

    chunks_CM, spans_C2 = split_into_chunks(tokens_N, spans_N2, SIZE, pad_id=0)

    assert chunks_CM.dtype == np.int32
    assert chunks_CM.shape == ((length + SIZE - 1) // SIZE, SIZE)
    assert chunks_CM[chunks_CM != 0].tolist() == tokens_N.tolist()
    assert chunks_CM.reshape(-1)[length:].tolist() == [0] * (chunks_CM.size - length)
    assert spans_C2.tolist() == [
        [start, min(start + SIZE, length)] for start in range(0, length, SIZE)
    ]


def test_a_character_cut_by_a_border_belongs_to_the_first_chunk() -> None:
    text = "ab\U0001f600\u00e9cd"
    tokens_N, spans_N2 = ByteTokenizer().encode_with_spans(text)

    _, spans_C2 = split_into_chunks(tokens_N, spans_N2, 4, pad_id=0)

    # Bytes: a b F0 9F | 98 80 C3 A9 | c d
    assert [text[start:end] for start, end in spans_C2.tolist()] == ["ab\U0001f600", "\u00e9", "cd"]
