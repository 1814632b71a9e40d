"""What is told of a text that a stop string may end, token by token."""

import random

import pytest

from retro.generation.events import ChunkEvent, ChunkStart, TokenEvent
from retro.generation.writer import ChunkDraft, SampleWriter
from tests.fakes import ByteTokenizer

CHUNK = 4


@pytest.mark.parametrize("seed", range(60))
def test_what_is_told_ends_in_front_of_the_stop_string(seed: int) -> None:
    rng = random.Random(seed)
    tokenizer = ByteTokenizer()
    text = "".join(rng.choice("abé🙂") for _ in range(30))
    start = rng.randint(0, 20)
    stop = text[start : start + rng.randint(1, 4)]
    writer = SampleWriter(0, tokenizer, [], [stop])
    told: list[ChunkStart | TokenEvent | ChunkEvent] = []

    for token in tokenizer.encode(text):
        if writer.draft is None:
            writer.begin(ChunkDraft(len(writer.tokens) // CHUNK, []))
        writer.write(token, -1.0, None)
        if writer.hit_stop:
            break
        if len(writer.tokens) % CHUNK == 0:
            writer.end_chunk()
        told += writer.tell()
    if writer.draft is not None:
        writer.end_chunk()
    told += writer.tell(is_last=True)

    expected = text[: text.index(stop)]
    chunks = [event.chunk for event in told if isinstance(event, ChunkEvent)]
    tokens = [event for event in told if isinstance(event, TokenEvent)]
    assert "".join(event.text for event in tokens) == expected
    assert "".join(chunk.text for chunk in chunks) == expected
    ids = [event.token_id for event in tokens]
    assert [id for chunk in chunks for id in chunk.token_ids] == ids
    # The tokens are those of the text: none of what only begins the stop string.
    assert ids == tokenizer.encode(expected)
    assert writer.num_written == len(ids)
    assert [event.index for event in told if isinstance(event, ChunkStart)] == [
        chunk.index for chunk in chunks
    ]
