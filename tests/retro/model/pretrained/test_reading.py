"""Pretrained models read neighbors as one pass with a mask would, and are themselves without."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from retro.config.pretrained import PretrainedConfig, TrainingMode
from retro.model.language_model import Retrieved, TokenRows
from retro.model.pretrained.attention import ATTENTION_NAME
from retro.model.pretrained.base import Base
from retro.model.pretrained.model import PretrainedModel
from tests.support.small_models import ABSOLUTE, FAMILIES, POSITIONS, VOCAB_SIZE, small_model

pytestmark = pytest.mark.slow

SIZE, NEIGHBORS, BOS = 8, 2, 1
PADDING, NUM_TOKENS = 5, 43
WIDTH = 2 * SIZE
FIRST = 1 + WIDTH


def reading(base: PreTrainedModel, mode: TrainingMode = TrainingMode.NONE) -> PretrainedModel:
    model = copy.deepcopy(base)
    model.set_attn_implementation(ATTENTION_NAME)
    config = PretrainedConfig(base="small", chunk_size=SIZE, window=128, mode=mode)
    return PretrainedModel(config, Base(model, Path("small"), POSITIONS, BOS)).eval()


def tokens(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCAB_SIZE, shape, generator=generator)


def neighbors_of(num_chunks: int, rows: int = 1, seed: int = 1) -> Retrieved:
    """Return neighbors of different lengths, one of them empty."""
    ids = tokens(rows, num_chunks, NEIGHBORS, WIDTH, seed=seed)
    exists = torch.ones_like(ids, dtype=torch.bool)
    exists[:, :, :, 5:SIZE] = tokens(rows, num_chunks, NEIGHBORS, SIZE - 5, seed=seed + 1) % 2 == 0
    exists[:, 1, 1] = False
    return Retrieved(ids * exists, exists)


def logits(model: PretrainedModel, text: Tensor, retrieved: Retrieved | None) -> Tensor:
    """Return the logits after every token, read at once."""
    cache = model.new_cache(len(text), left_padding=PADDING, retrieval=retrieved is not None)
    states, _ = model._states(text, cache, retrieved)
    made: Tensor = model.to_logits(states)
    return made


def in_one_pass(base: PreTrainedModel, text: Tensor, retrieved: Retrieved) -> Tensor:
    """Return the logits of one plain pass over all neighbors and the text, with a block mask."""
    ids, positions, blocks = list[int](), list[int](), list[tuple[int, int]]()
    for chunk in range(retrieved.ids.shape[1]):
        for number in range(NEIGHBORS):
            kept = retrieved.ids[0, chunk, number][retrieved.exists[0, chunk, number]].tolist()
            ids += [BOS, *kept]
            positions += range(len(kept) + 1)
            blocks += [(chunk, number)] * (len(kept) + 1)
    before = len(ids)
    ids += text[0].tolist()
    positions += range(FIRST, FIRST + text.shape[1])
    may = torch.zeros(len(ids), len(ids), dtype=torch.bool)
    for row in range(len(ids)):
        for column in range(row + 1):
            if row < before:
                may[row, column] = blocks[row] == blocks[column]
            elif column >= before:
                may[row, column] = True
            else:
                group = (PADDING + row - before + 1) // SIZE - 1
                may[row, column] = blocks[column][0] == group and positions[column] > 0
    mask = torch.zeros(1, 1, *may.shape).masked_fill(~may, -torch.inf)
    out = base(
        input_ids=torch.tensor([ids]),
        position_ids=torch.tensor([positions]),
        attention_mask=mask,
        use_cache=False,
    )
    made: Tensor = out.logits[:, before:]
    return made


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_reading_equals_one_pass_and_off_is_the_model_itself(family: str) -> None:
    base, text = small_model(family), tokens(1, NUM_TOKENS)
    model = reading(base)
    num_chunks = (PADDING + NUM_TOKENS) // SIZE
    retrieved = neighbors_of(num_chunks)

    on, off = logits(model, text, retrieved), logits(model, text, None)

    assert torch.equal(off, base(text).logits)
    assert torch.allclose(on, in_one_pass(base, text, retrieved), atol=1e-5)
    assert (on - off).abs().max() > 0.05
    positions = torch.arange(FIRST, FIRST + NUM_TOKENS)[None]
    moved = base(text, position_ids=positions).logits if family in ABSOLUTE else off
    # The last token of the first chunk is the first to read.
    first = SIZE - PADDING - 1
    assert torch.allclose(on[:, :first], moved[:, :first], atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@torch.inference_mode()
def test_the_text_of_a_greedy_writer_is_that_of_transformers(family: str) -> None:
    base, text = small_model(family), tokens(1, 20)
    expected = base.generate(
        text, attention_mask=torch.ones_like(text), max_new_tokens=12, do_sample=False,
        pad_token_id=0,
    )[0, 20:].tolist()  # fmt: skip
    model = reading(base)
    cache = model.new_cache(1, retrieval=False)
    written, ids = list[int](), text
    while len(written) < len(expected):
        token = int(model.predict(ids, cache, None).logits_NV.argmax())
        written.append(token)
        ids = torch.tensor([[token]])

    assert written == expected


@pytest.mark.parametrize("cut", [1, 3, 7, 11, 40])
@torch.inference_mode()
def test_reading_in_pieces_equals_reading_at_once(cut: int) -> None:
    model, text = reading(small_model("llama")), tokens(1, NUM_TOKENS)
    retrieved = neighbors_of((PADDING + NUM_TOKENS) // SIZE)
    at_once = logits(model, text, retrieved)
    cache = model.new_cache(1, left_padding=PADDING)
    parts, done = [], 0

    for number in [cut, *[1] * (NUM_TOKENS - cut)]:
        first, last = ((PADDING + place) // SIZE for place in (done, done + number))
        found = Retrieved(retrieved.ids[:, first:last], retrieved.exists[:, first:last])
        some = found if last > first else None
        parts.append(model.to_logits(model._states(text[:, done : done + number], cache, some)[0]))
        done += number

    assert torch.allclose(torch.cat(parts, 1), at_once, atol=2e-5)


@torch.inference_mode()
def test_a_changed_neighbor_changes_nothing_before_its_chunk_ends() -> None:
    model, text = reading(small_model("llama")), tokens(1, NUM_TOKENS)
    retrieved = neighbors_of((PADDING + NUM_TOKENS) // SIZE)
    changed = retrieved.ids.clone()
    changed[:, 2] = tokens(1, NEIGHBORS, WIDTH, seed=9) * retrieved.exists[:, 2]
    order = [1, 0]
    swapped = Retrieved(retrieved.ids[:, :, order], retrieved.exists[:, :, order])

    before, after = (
        logits(model, text, one) for one in (retrieved, Retrieved(changed, retrieved.exists))
    )

    last = 3 * SIZE - PADDING - 1
    assert torch.equal(before[:, :last], after[:, :last])
    assert not torch.allclose(before[:, last], after[:, last], atol=1e-3)
    assert torch.allclose(before, logits(model, text, swapped), atol=1e-5)


@torch.inference_mode()
def test_texts_side_by_side_never_see_each_others_neighbors() -> None:
    model, text = reading(small_model("qwen2")), tokens(2, NUM_TOKENS)
    num_chunks = (PADDING + NUM_TOKENS) // SIZE
    retrieved = neighbors_of(num_chunks, rows=2)

    together = logits(model, text, retrieved)

    for row in range(2):
        own = Retrieved(retrieved.ids[row : row + 1], retrieved.exists[row : row + 1])
        alone = logits(reading(small_model("qwen2")), text[row : row + 1], own)
        assert torch.allclose(together[row], alone[0], atol=1e-5)


@torch.inference_mode()
def test_shares_are_of_all_attention_and_losses_are_those_of_the_logits() -> None:
    model, text = reading(small_model("llama")), tokens(1, 4 * SIZE)
    retrieved = neighbors_of(4)
    cache = model.new_cache(1, keeps_shares=True)

    said = model.predict(text, cache, retrieved, num_scored=4 * SIZE - 1)

    assert said.share_NTK2 is not None
    shares = said.share_NTK2.sum((-1, -2))[0]
    assert torch.all(shares[: SIZE - 1] == 0)
    assert torch.all((shares[SIZE - 1 :] > 0.01) & (shares[SIZE - 1 :] < 1))
    # An empty neighbor gets nothing.
    assert torch.all(said.share_NTK2[0, 2 * SIZE - 1 : 3 * SIZE - 1, 1] == 0)
    labels = torch.cat([text[:, 1:], text[:, :1]], dim=1)
    counted = torch.ones_like(text, dtype=torch.bool)
    counted[:, -1] = False
    losses = model.losses(TokenRows(text, labels, counted), retrieved)
    assert torch.allclose(losses[:, :-1], -said.logprob_NT.double(), atol=1e-5)
    assert losses[0, -1] == 0


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
@pytest.mark.parametrize("retrieval", [True, False])
@torch.inference_mode()
def test_single_tokens_are_read_as_the_model_reads_them(family: str, retrieval: bool) -> None:
    model, text = reading(small_model(family)), tokens(1, NUM_TOKENS)
    retrieved = neighbors_of((PADDING + NUM_TOKENS) // SIZE)
    step = model.token_reader()
    assert step is not None
    caches = [
        model.new_cache(1, left_padding=PADDING, keeps_shares=True, retrieval=retrieval)
        for _ in range(2)
    ]
    read = 10
    first = Retrieved(retrieved.ids[:, :1], retrieved.exists[:, :1]) if retrieval else None
    for cache in caches:
        model.predict(text[:, :read], cache, first)
    fast = step.take_over(caches[1])

    for place in range(read, NUM_TOKENS):
        chunk, after = (PADDING + place) // SIZE, (PADDING + place + 1) // SIZE
        found = None
        if retrieval and after > chunk:
            found = Retrieved(retrieved.ids[:, chunk:after], retrieved.exists[:, chunk:after])
        said = model.predict(text[:, place : place + 1], caches[0], found)
        logits_V = fast.read(int(text[0, place]), found)
        assert torch.allclose(torch.from_numpy(logits_V), said.logits_NV[0], atol=1e-4)
        shares = fast.shares()
        assert (shares is None) is (said.share_NTK2 is None)
        if shares is not None and said.share_NTK2 is not None:
            assert torch.allclose(torch.from_numpy(shares), said.share_NTK2[0, 0], atol=1e-5)


@torch.inference_mode()
def test_weights_of_eight_bits_say_nearly_the_same() -> None:
    model, text = reading(small_model("llama")), tokens(1, NUM_TOKENS)
    exact, fast = model.token_reader(), model.token_reader(fast=True)
    assert exact is not None
    assert fast is not None
    sides = []
    for step in (exact, fast):
        cache = model.new_cache(1, retrieval=False)
        model.predict(text[:, :10], cache, None)
        side = step.take_over(cache)
        sides.append(torch.tensor(np.array([side.read(int(id)) for id in text[0, 10:]])))

    difference = (sides[0] - sides[1]).abs().max()
    assert 1e-5 < difference < 0.1 * sides[0].abs().max()
    assert (sides[0].argmax(-1) == sides[1].argmax(-1)).float().mean() > 0.8


@pytest.mark.parametrize("family", ["qwen3", "gpt2", "olmo2", "phi3"])
def test_models_that_are_built_otherwise_read_single_tokens_themselves(family: str) -> None:
    assert reading(small_model(family)).token_reader() is None
