"""However a text is cut into readings, the window and what the model says are the same."""

import random

import numpy as np
import pytest
import torch

from retro import RETRO
from retro.generation.reader import Reader, Reading, Values, Window
from retro.model.retro.token_step import TokenStep

CHUNK = 4
LENGTH = 45


@pytest.fixture(scope="module")
def model() -> RETRO:
    return make_model(16)


def make_model(max_seq_len: int) -> RETRO:
    torch.manual_seed(0)
    return RETRO(
        num_tokens=50,
        max_seq_len=max_seq_len,
        chunk_size=CHUNK,
        enc_dim=16,
        enc_depth=1,
        dec_dim=24,
        dec_depth=2,
        dec_cross_attn_layers=(1, 2),
        heads=2,
        dim_head=8,
    ).eval()


class Text:
    """A random text with the retrieved values of its chunks: one, two, three or none."""

    def __init__(self, seed: int, padding: int) -> None:
        rng = np.random.default_rng(seed)
        self.padding = padding
        self.tokens: list[int] = rng.integers(1, 50, LENGTH).tolist()
        self.values: list[Values] = [
            rng.integers(1, 50, (1 + number % 3, 2 * CHUNK)).astype(np.int32)
            if number % 4 != 2
            else None
            for number in range((padding + LENGTH) // CHUNK)
        ]

    def read(self, reader: Reader, stop: int) -> Reading:
        """Read on up to a token."""
        start = reader.num_tokens
        chunks = slice((self.padding + start) // CHUNK, (self.padding + stop) // CHUNK)
        return reader.read([self.tokens[start:stop]], [self.values[chunks]], scored=True)


@torch.inference_mode()
def expected_reading(model: RETRO, text: Text, stop: int) -> Reading:
    """Return what the model says after all tokens that the window holds."""
    window = Window.of(model).start(text.padding + stop - 1, text.padding)
    first = max(0, window - text.padding)
    cache = model.new_cache(
        1, max_tokens=99, left_padding=0 if window else text.padding, keeps_shares=True
    )
    values = text.values[window // CHUNK : (text.padding + stop) // CHUNK]
    stacked = np.zeros((1, len(values), 3, 2 * CHUNK), np.int64)
    for row, item in enumerate(values):
        if item is not None:
            stacked[0, row, : len(item)] = item
    retrieved = torch.from_numpy(stacked) if values else None
    ids = torch.tensor([text.tokens[first:stop]])
    logits = model.read(ids, cache, retrieved, all_logits=True)
    shares = cache.share_BTK2
    logprobs = logits.double().log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    return Reading(
        logits[:, -1].numpy(), logprobs.numpy(), None if shares is None else shares.numpy()
    )


def assert_ends_like(found: Reading, whole: Reading, num_tokens: int) -> None:
    held = min(num_tokens, whole.logprob_NT.shape[1] + 1)
    np.testing.assert_allclose(found.logits_NV, whole.logits_NV, atol=1e-4)
    assert found.logprob_NT.shape[1] == min(num_tokens - 1, whole.logprob_NT.shape[1])
    scored = whole.logprob_NT[:, whole.logprob_NT.shape[1] - found.logprob_NT.shape[1] :]
    np.testing.assert_allclose(found.logprob_NT, scored, atol=1e-4)
    if found.share_NTK2 is None:
        assert whole.share_NTK2 is None or not whole.share_NTK2[:, -held:].any()
    else:
        assert found.share_NTK2.shape[1] == held
        assert whole.share_NTK2 is not None
        share_NTK2 = np.zeros_like(whole.share_NTK2[:, -held:])
        share_NTK2[:, :, : found.share_NTK2.shape[2]] = found.share_NTK2
        np.testing.assert_allclose(share_NTK2, whole.share_NTK2[:, -held:], atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
@torch.inference_mode()
def test_a_text_read_in_parts_is_read_as_a_whole(model: RETRO, seed: int) -> None:
    rng = random.Random(seed)
    padding = seed % CHUNK
    text = Text(seed, padding)
    reader = Reader(model, None, left_padding=padding, keeps_shares=True)
    slid = False
    while reader.num_tokens < LENGTH:
        start = reader.num_tokens
        # A part ends with its chunk at the latest, but for the first one.
        most = rng.randint(1, 30) if start == 0 else CHUNK - (padding + start) % CHUNK
        stop = min(LENGTH, start + (most if start == 0 else rng.randint(1, most)))

        found = text.read(reader, stop)

        assert_ends_like(found, expected_reading(model, text, stop), stop - start)
        slid = slid or stop > 16
        assert reader.slid == slid


@pytest.mark.parametrize("given", [1, 9, 20])
@torch.inference_mode()
def test_token_by_token_and_side_by_side_nothing_changes(model: RETRO, given: int) -> None:
    text = Text(given, 2)
    fast = Reader(model, TokenStep(model), left_padding=2, keeps_shares=True)
    first = Reader(model, None, left_padding=2, keeps_shares=True)
    text.read(fast, given)
    text.read(first, given)
    both = first.rows([0, 0])
    assert both.slid == first.slid == (given == 20)

    for t in range(given, LENGTH):
        whole = expected_reading(model, text, t + 1)
        assert_ends_like(text.read(fast, t + 1), whole, 1)
        # The other text says something else, and finds nothing.
        ends = (2 + t + 1) % CHUNK == 0
        values: list[list[Values]] = [[text.values[(2 + t) // CHUNK]], [None]] if ends else [[], []]
        pair = both.read([[text.tokens[t]], [t % 49 + 1]], values)
        share_NTK2 = pair.share_NTK2
        alone = Reading(
            pair.logits_NV[:1],
            pair.logprob_NT[:1],
            None if share_NTK2 is None else share_NTK2[:1],
        )
        assert_ends_like(alone, whole, 1)
    assert not np.allclose(pair.logits_NV[0], pair.logits_NV[1])


def test_the_window_moves_by_whole_chunks_and_depends_on_the_place_alone() -> None:
    window = Window.of(make_model(16))

    starts = [window.start(place, 0) for place in range(40)]

    assert starts == [0] * 16 + [8] * 8 + [16] * 8 + [24] * 8
    # Places without a token take no room.
    padded = [window.start(place, 3) for place in range(40)]
    assert padded == [0] * 19 + [8] * 5 + [16] * 8 + [24] * 8
    # A model of a single chunk sees two, so that a chunk has one before it.
    single = Window.of(make_model(4))
    assert [single.start(place, 0) for place in range(16)] == [0] * 8 + [4] * 4 + [8] * 4


def test_a_reader_tells_when_its_window_moves(model: RETRO) -> None:
    text = Text(0, 3)
    reader = Reader(model, None, left_padding=3)
    with torch.inference_mode():
        text.read(reader, 13)

        # Sixteen tokens fit; the next window ends a place on the grid later.
        assert [reader.num_before_move(most) for most in (1, 3, 4, 9)] == [1, 3, 3, 3]
        text.read(reader, 16)
        assert [reader.num_before_move(most) for most in (1, 5, 6, 9)] == [1, 5, 5, 5]
