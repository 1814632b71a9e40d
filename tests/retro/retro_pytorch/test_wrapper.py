"""The wrapper makes what training needs, makes it again when needed, and generates."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from retro import RETRO, TrainingWrapper
from retro.errors import ConfigError, InputError, ShapeError
from retro.retro_pytorch import folder as memmap_folder
from retro.retro_pytorch.encoder import TokenEmbedder
from retro.retro_pytorch.wrapper import top_k
from retro.training.optimizer import parameter_groups
from tests.small_bert import CLS, SEP, write_prose

M, MAX_SEQ_LEN = 16, 64
VOCAB = 2000


def make_model(**changes: Any) -> RETRO:
    torch.manual_seed(0)
    sizes = {
        "num_tokens": VOCAB + 100, "chunk_size": M, "max_seq_len": MAX_SEQ_LEN, "enc_dim": 16,
        "enc_depth": 1, "dec_dim": 24, "dec_depth": 2, "dec_cross_attn_layers": (1, 2),
        "heads": 2, "dim_head": 8, "dec_attn_dropout": 0.25, "dec_ff_dropout": 0.25,
    }  # fmt: skip
    return RETRO(**{**sizes, **changes})


def make_wrapper(place: Path, encoder: Path, **changes: Any) -> TrainingWrapper:
    arguments = {
        "retro": make_model(),
        "chunk_size": M,
        "documents_path": place / "text",
        "knn": 2,
        "chunks_memmap_path": place / "train.chunks.dat",
        "seqs_memmap_path": place / "train.seq.dat",
        "doc_ids_memmap_path": str(place / "train.doc_ids.dat"),
        "processed_stats_json_path": place / "stats.json",
        "encoder": encoder,
    }
    return TrainingWrapper(**{**arguments, **changes})


@pytest.fixture(scope="module")
def wrapper(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> TrainingWrapper:
    place = tmp_path_factory.mktemp("wrapper")
    write_prose(place / "text", 8, 900)
    return make_wrapper(place, bert_folder)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_prose(tmp_path / "text", 4, 500)
    return tmp_path


@pytest.fixture
def processed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows when the folder is cut into chunks."""
    calls: list[int] = []
    whole = memmap_folder.text_folder_to_chunks_

    def count(**arguments: Any) -> dict[str, int]:
        calls.append(1)
        return whole(**arguments)

    monkeypatch.setattr(memmap_folder, "text_folder_to_chunks_", count)
    return calls


# ------------------------------------------------------------------ what training needs


def test_batches_train_the_model(wrapper: TrainingWrapper) -> None:
    loader = wrapper.get_dataloader(batch_size=2, shuffle=True, num_workers=0)
    optimizer = wrapper.get_optimizer(lr=3e-3, wd=0.01)
    seq, retrieved = next(iter(loader))
    assert seq.shape == (2, MAX_SEQ_LEN + 1)
    assert retrieved.shape == (2, MAX_SEQ_LEN // M, 2, 2 * M)
    assert wrapper.stats["docs"] == 8
    assert len(wrapper.ds) == wrapper.stats["seqs"]
    before = [parameter.detach().clone() for parameter in wrapper.retro.parameters()]

    wrapper(seq, retrieved, return_loss=True).backward()
    optimizer.step()

    assert any(
        not torch.equal(old, new)
        for old, new in zip(before, wrapper.retro.parameters(), strict=True)
    )
    optimizer.zero_grad()


def test_sequences_hold_the_documents_and_neighbors_of_others(wrapper: TrainingWrapper) -> None:
    seq, retrieved = wrapper.ds[0]

    assert seq[0] == CLS
    own = {tuple(chunk) for chunk in seq[:-1].view(-1, M).tolist()}
    assert not any(tuple(value[:M].tolist()) in own for value in retrieved[:, 0] if value.any())
    assert retrieved[0].any()


def test_the_optimizer_keeps_the_order_of_parameters(wrapper: TrainingWrapper) -> None:
    decayed, plain = wrapper.get_optimizer(lr=1e-3, wd=0.3).param_groups
    place_of = {id(parameter): row for row, parameter in enumerate(wrapper.retro.parameters())}

    assert (decayed["weight_decay"], plain["weight_decay"], plain["lr"]) == (0.3, 0.0, 1e-3)
    for group in (decayed, plain):
        order = [place_of[id(parameter)] for parameter in group["params"]]
        assert order == sorted(order)
    assert len(decayed["params"]) + len(plain["params"]) == len(place_of)
    frozen = make_model()
    frozen.token_embedding.requires_grad_(False)
    groups = parameter_groups(frozen, 0.1, only_trainable=True)
    assert all(parameter.requires_grad for group in groups for parameter in group["params"])
    assert sum(len(group["params"]) for group in groups) == len(place_of) - 1


def test_unknown_options_are_refused(wrapper: TrainingWrapper) -> None:
    with pytest.raises(ConfigError, match=r"no argument 'batchsize'\. Did you mean 'batch_size'"):
        wrapper.get_dataloader(batchsize=2)
    with pytest.raises(ConfigError, match="no argument 'dataset'"):
        wrapper.get_dataloader(dataset=[])
    with pytest.raises(ConfigError, match="no argument 'learning_rate'"):
        wrapper.get_optimizer(learning_rate=1)
    with pytest.raises(ConfigError, match=r"no argument 'filter_thresh'\. Did you mean"):
        wrapper.generate(filter_thresh=0.9)


def test_what_does_not_fit_the_model_is_refused_before_any_work(
    place: Path, bert_folder: Path
) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"retro": torch.nn.Linear(1, 1)}, "retro must be a RETRO model, got Linear"),
        ({"chunk_size": 32}, "chunk_size must be that of the model, 16, got 32"),
        ({"knn": 0}, "knn must be a whole number between 1 and 100, got 0"),
        ({"knn": 101}, "knn must be a whole number between 1 and 100, got 101"),
        ({"knn_extra_neighbors": -1}, "knn_extra_neighbors must be a whole number between 0"),
        ({"retro": make_model(num_tokens=VOCAB - 1)}, "num_tokens of the model must be at least"),
        ({"retro": make_model(pad_id=1)}, "pad_id of the model must be 0"),
        ({"max_index_memory_usage": "lots"}, "max_index_memory_usage must be a size"),
        ({"faiss_index_filename": "a/b"}, "index_file must be a file name"),
        ({"max_chunks": 3}, "max_chunks must be at least"),
    ]
    for changes, message in wrong:
        with pytest.raises(ConfigError, match=message):
            make_wrapper(place, bert_folder, **changes)
    assert [path.name for path in place.iterdir() if path.suffix == ".dat"] == []


def test_what_was_made_is_kept_until_the_folder_or_a_setting_changes(
    place: Path, bert_folder: Path, processed: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stats = make_wrapper(place, bert_folder).stats
    assert make_wrapper(place, bert_folder).stats == stats
    assert len(processed) == 1

    # The same size and time, another text.
    path = next((place / "text").rglob("*.txt"))
    path.write_text(path.read_text()[::-1])
    caplog.clear()
    make_wrapper(place, bert_folder)
    assert len(processed) == 2
    assert "the text, the encoder or a setting has changed" in caplog.text
    (place / "text" / "new.txt").write_text("one more document about sequences")
    assert make_wrapper(place, bert_folder).stats["docs"] == stats["docs"] + 1
    make_wrapper(place, bert_folder, retro=make_model(max_seq_len=32))
    assert len(processed) == 4
    (place / "train.seq.dat").write_bytes(b"\0" * 400)
    caplog.clear()
    make_wrapper(place, bert_folder, retro=make_model(max_seq_len=32))
    assert len(processed) == 5
    assert "not the ones that were made" in caplog.text


def test_stats_of_unknown_origin_are_not_believed(
    place: Path, bert_folder: Path, processed: list[int]
) -> None:
    (place / "stats.json").write_text(json.dumps({"chunks": 1, "docs": 1, "seqs": 1}))

    stats = make_wrapper(place, bert_folder).stats

    assert stats["docs"] == 4
    assert len(processed) == 1


@pytest.mark.parametrize(("value", "again"), [("1", True), ("true", True), ("0", False)])
def test_reprocess_makes_everything_again(
    place: Path,
    bert_folder: Path,
    processed: list[int],
    monkeypatch: pytest.MonkeyPatch,
    value: str,
    again: bool,
) -> None:
    make_wrapper(place, bert_folder)
    embedded: list[int] = []
    whole = TokenEmbedder.embed

    def count(self: TokenEmbedder, chunks: NDArray[np.int32]) -> NDArray[np.float32]:
        embedded.append(len(chunks))
        return whole(self, chunks)

    monkeypatch.setattr(TokenEmbedder, "embed", count)
    monkeypatch.setenv("REPROCESS", value)
    make_wrapper(place, bert_folder)

    assert len(processed) == (2 if again else 1)
    assert bool(embedded) == again


def test_another_place_has_its_own_files(
    place: Path, tmp_path_factory: pytest.TempPathFactory, bert_folder: Path
) -> None:
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(place / "text", other / "text")
    (other / "text" / "extra.txt").write_text("more text")
    make_wrapper(place, bert_folder)
    before = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}

    make_wrapper(other, bert_folder)

    assert {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()} == before


# ---------------------------------------------------------------------------- generation


@pytest.fixture
def searched(wrapper: TrainingWrapper, monkeypatch: pytest.MonkeyPatch) -> list[list[list[int]]]:
    """Return a list that grows by the chunks of every search."""
    calls: list[list[list[int]]] = []
    whole = wrapper.search.retrieved

    def listen(chunks: NDArray[Any]) -> NDArray[np.int64]:
        calls.append(chunks.tolist())
        return whole(chunks)

    monkeypatch.setattr(wrapper.search, "retrieved", listen)
    return calls


def prompts(batch: int, length: int) -> Tensor:
    return torch.randint(104, VOCAB, (batch, length), generator=torch.Generator().manual_seed(1))


def literal_greedy(wrapper: TrainingWrapper, prompt: Tensor, padding: int) -> Tensor:
    """Write the likeliest tokens with whole forward passes and a search for every chunk."""
    model = wrapper.retro
    model.eval()
    tokens = prompt
    while tokens.shape[1] < MAX_SEQ_LEN:
        grid = torch.nn.functional.pad(tokens, (padding, 0))
        whole = grid.shape[1] // M
        retrieved = None
        if whole:
            chunks = grid[:, : whole * M].reshape(-1, M).numpy()
            values = torch.from_numpy(wrapper.search.retrieved(chunks))
            retrieved = values.view(len(prompt), whole, *values.shape[1:])
        with torch.no_grad():
            logits = model(tokens, retrieved, left_padding=padding)[:, -1]
        logits[:, 0] = float("-inf")
        logits[:, wrapper.search.made.encoder.vocab_size :] = float("-inf")
        ended = ((tokens == SEP) & (torch.arange(tokens.shape[1]) >= prompt.shape[1])).any(1)
        tokens = torch.cat((tokens, torch.where(ended, 0, logits.argmax(-1))[:, None]), 1)
    return tokens


@pytest.mark.slow
@pytest.mark.parametrize("length", [3, M - 1, M, 2 * M, 2 * M + 5])
def test_writing_with_a_cache_is_writing_without(wrapper: TrainingWrapper, length: int) -> None:
    prompt = prompts(2, length)
    expected = literal_greedy(wrapper, prompt, -length % M)

    written = wrapper.generate(prompt, temperature=0)

    assert written.dtype == torch.int64
    assert torch.equal(written, expected[:, : written.shape[1]])
    assert not expected[:, written.shape[1] :].any()


def test_without_a_prompt_cls_begins_and_the_first_chunk_reads_nothing(
    wrapper: TrainingWrapper, searched: list[list[list[int]]]
) -> None:
    written = wrapper.generate(temperature=0)

    assert written.shape == (1, MAX_SEQ_LEN)
    assert written[0, 0] == CLS
    assert torch.equal(written, literal_greedy(wrapper, torch.tensor([[CLS]]), 0))
    first = searched[0]
    assert first == [written[0, :M].tolist()]


def test_each_chunk_is_searched_for_once(
    wrapper: TrainingWrapper, searched: list[list[list[int]]]
) -> None:
    prompt = prompts(2, M + 3)

    written = wrapper.generate(prompt, temperature=0)

    padding = M - 3
    grid = torch.nn.functional.pad(written, (padding, 0))
    assert [len(call) for call in searched] == [4, 2, 2][: len(searched)]
    assert searched[0] == grid[:, : 2 * M].reshape(-1, M).tolist(), "a short prompt retrieves too"
    assert searched[1] == grid[:, 2 * M : 3 * M].tolist()


def test_given_neighbors_are_read_instead(
    wrapper: TrainingWrapper, searched: list[list[list[int]]]
) -> None:
    prompt = prompts(1, M + 2)
    one = torch.full((1, 1, 3, 2 * M), 500)
    other = torch.full((1, 1, 3, 2 * M), 900)

    def first_logits(retrieved: Tensor) -> Tensor:
        seen: list[Tensor] = []

        def listen(logits: Tensor, thres: float) -> Tensor:  # noqa: ARG001
            seen.append(logits)
            return logits

        wrapper.generate(prompt, retrieved, filter_fn=listen)
        return seen[1]

    assert not torch.equal(first_logits(one), first_logits(other))
    assert torch.equal(first_logits(one), first_logits(one.clone()))
    assert searched[0] != [prompt[0, :M].tolist()], "the prompt is not searched for"
    with pytest.raises(ShapeError, match=r"the 1 complete chunks of start, got \(1, 2, 3, 32\)"):
        wrapper.generate(prompt, one.expand(1, 2, 3, 2 * M))


def ends_at(rows: dict[int, int]) -> Callable[..., Tensor]:
    """Return a filter that lets sequence ``row`` end with its n-th token, and no other end."""
    drawn = 0

    def filter_fn(logits: Tensor, thres: float) -> Tensor:  # noqa: ARG001
        nonlocal drawn
        if logits.shape[-1] < SEP:
            return logits
        drawn += 1
        logits = logits.clone()
        logits[:, SEP] = float("-inf")
        for row, number in rows.items():
            if number == drawn:
                logits[row] = float("-inf")
                logits[row, SEP] = 0
        return logits

    return filter_fn


def test_a_sequence_goes_on_as_padding_after_its_own_end(wrapper: TrainingWrapper) -> None:
    prompt = prompts(2, 5)
    prompt[0, 2] = SEP  # an end token in the prompt ends nothing

    written = wrapper.generate(prompt, filter_fn=ends_at({0: 4, 1: 20}), seed=0)

    assert written.shape == (2, 25), "ends when all have ended"
    assert torch.equal(written[:, :5], prompt)
    assert written[0, 8] == SEP
    assert not written[0, 9:].any()
    assert written[0, 5:8].all()
    assert written[1, 24] == SEP
    assert written[1, 5:24].all()


@pytest.mark.slow
def test_seeds_repeat_and_temperature_zero_needs_none(wrapper: TrainingWrapper) -> None:
    prompt = prompts(1, 8)

    one = wrapper.generate(prompt, seed=1)
    assert torch.equal(one, wrapper.generate(prompt, seed=1))
    assert torch.equal(one, wrapper.generate(prompt, generator=torch.Generator().manual_seed(1)))
    assert not torch.equal(one, wrapper.generate(prompt, seed=2))
    assert torch.equal(
        wrapper.generate(prompt, temperature=0, seed=1),
        wrapper.generate(prompt, temperature=0, seed=2),
    )
    greedy = wrapper.generate(prompt, temperature=0)
    assert torch.equal(greedy, wrapper.generate(prompt, filter_fn=top_k, filter_thres=1))


def test_only_tokens_of_the_tokenizer_are_drawn(wrapper: TrainingWrapper) -> None:
    vocab = wrapper.search.made.encoder.vocab_size
    assert vocab < wrapper.retro.config.num_tokens

    written = wrapper.generate(prompts(8, 4), filter_thres=1.0, temperature=50.0, seed=0)

    for row in written[:, 4:]:
        ended = (row == SEP).nonzero()
        own = row[: int(ended[0])] if len(ended) else row
        assert own.min() > 0
        assert own.max() < vocab

    def without_padding(logits: Tensor, thres: float) -> Tensor:  # noqa: ARG001
        if logits.shape[-1] > 2:
            assert (logits[:, 0] == float("-inf")).all()
        return logits

    wrapper.generate(prompts(1, 60), filter_fn=without_padding)


def test_modes_come_back_and_results_can_be_trained_on(wrapper: TrainingWrapper) -> None:
    model = wrapper.retro
    model.train()
    model.decoder.layers[0].eval()
    modes = [module.training for module in model.modules()]

    written = wrapper.generate(prompts(1, 4), seed=0)

    assert [module.training for module in model.modules()] == modes
    assert not written.requires_grad
    model.train()
    model(written, return_loss=True).backward()
    model.zero_grad()
    with pytest.raises(KeyboardInterrupt):
        wrapper.generate(prompts(1, 4), filter_fn=interrupt)
    assert model.training


def interrupt(logits: Tensor, thres: float) -> Tensor:  # noqa: ARG001
    if logits.shape[-1] > 2:
        raise KeyboardInterrupt
    return logits


def test_a_prompt_that_fills_the_window_comes_back(wrapper: TrainingWrapper) -> None:
    prompt = prompts(2, MAX_SEQ_LEN)

    assert torch.equal(wrapper.generate(prompt), prompt)


def test_prompts_and_settings_that_cannot_be_used_are_refused(wrapper: TrainingWrapper) -> None:
    with pytest.raises(InputError, match=r"1 to max_seq_len = 64 tokens, got \(1, 65\)"):
        wrapper.generate(prompts(1, MAX_SEQ_LEN + 1))
    for shape in ((1, 0), (0, 4)):
        with pytest.raises(InputError, match="at least one sequence of 1"):
            wrapper.generate(torch.zeros(shape, dtype=torch.int64))
    for ids in ([[VOCAB + 100]], [[-1]]):
        with pytest.raises(InputError, match="token ids of at least 0 and below num_tokens = 2100"):
            wrapper.generate(torch.tensor(ids))
    for wrong in (torch.zeros(3, dtype=torch.int64), torch.zeros(1, 3), "text"):
        with pytest.raises(ShapeError, match=r"integers, \(batch, tokens\)"):
            wrapper.generate(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"whole number of tokens.*filter_fn=top_p"):
        wrapper.generate(filter_fn=top_k, filter_thres=0.9)
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        wrapper.generate(filter_thres=2)
    for temperature in (-1, float("nan"), "hot"):
        with pytest.raises(ConfigError, match="temperature must be a number of at least 0"):
            wrapper.generate(temperature=temperature)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="retrieved must be a tensor"):
        wrapper.generate(prompts(1, 4), 5)  # type: ignore[arg-type]
    for wrong_rate in ("fast", -1, float("nan")):
        with pytest.raises(ConfigError, match="lr must be a number of at least 0"):
            wrapper.get_optimizer(lr=wrong_rate)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="got both"):
        wrapper.generate(seed=1, generator=torch.Generator())
