"""The whole way on a CUDA device: ``make test-gpu``."""

from pathlib import Path

import numpy as np
import pytest
import torch

from retro import RETRO
from retro.checkpoints import list_checkpoints
from retro.config.corpus import CorpusConfig
from retro.config.sampling import SamplingConfig
from retro.config.training import Precision
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.device import autocast_dtype, default_device
from retro.generation.events import ChunkEvent, OutputChunk
from retro.generation.generate import Generator
from retro.model.packing import Packing
from retro.run import create_run
from retro.training.trainer import SilentListener, train
from tests.conftest import TINY_MODEL, TINY_TRAINING, country_texts
from tests.fakes import store_texts

pytestmark = pytest.mark.gpu


@pytest.fixture
def device() -> torch.device:
    device = default_device()
    assert device.type == "cuda", "these tests need a CUDA device"
    return device


@pytest.mark.parametrize("left_padding", [0, 3])
def test_the_model_computes_the_same_as_on_the_cpu(device: torch.device, left_padding: int) -> None:
    torch.manual_seed(0)
    model = RETRO(num_tokens=50, max_seq_len=32, chunk_size=8, enc_dim=16, dec_dim=24, dec_depth=2,
                  dec_cross_attn_layers=(1, 2), heads=2, dim_head=16)  # fmt: skip
    seq = torch.randint(1, 50, (2, 29))
    retrieved = torch.randint(1, 50, (2, (29 + left_padding) // 8, 2, 16))
    retrieved[1, 1] = 0
    expected = model(seq, retrieved, left_padding=left_padding)

    found = model.to(device)(seq.to(device), retrieved.to(device), left_padding=left_padding)

    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)


def test_packed_rows_and_the_blockwise_loss_are_those_of_the_cpu(device: torch.device) -> None:
    torch.manual_seed(0)
    model = RETRO(num_tokens=50, max_seq_len=32, chunk_size=8, enc_dim=16, dec_dim=24, dec_depth=2,
                  dec_cross_attn_layers=(1, 2), heads=2, dim_head=16)  # fmt: skip
    seq, labels = torch.randint(1, 50, (2, 29)), torch.randint(0, 50, (2, 29))
    pieces = (torch.arange(29) >= 17).long().expand(2, 29).contiguous()
    starts = torch.tensor([0, 8, 17, 29, 37, 46])
    retrieved = torch.randint(0, 50, (6, 2, 16))

    def gradients(place: torch.device) -> list[torch.Tensor]:
        moved = model.to(place)
        moved.zero_grad()
        packing = Packing(pieces.to(place), starts.to(place))
        inputs = (seq.to(place), retrieved.to(place))
        moved(*inputs, return_loss=True, labels=labels.to(place), packing=packing).backward()
        return [p.grad.cpu().clone() for p in moved.parameters() if p.grad is not None]

    expected = gradients(torch.device("cpu"))

    torch.testing.assert_close(gradients(device), expected, rtol=1e-3, atol=1e-4)


def test_a_compiled_run_learns(device: torch.device, tmp_path: Path, corpus_dir: Path) -> None:
    settings = {**TINY_TRAINING, "compile": True, "precision": "auto", "learning_rate": 1e-2}
    run = create_run(tmp_path / "run", corpus_dir, model=TINY_MODEL, training=settings)

    assert train(run.path, device=device).state == "finished"


def test_bfloat16_is_chosen_where_the_device_computes_with_it(device: torch.device) -> None:
    native = torch.cuda.is_bf16_supported(including_emulation=False)

    assert autocast_dtype(device, Precision.AUTO) == (torch.bfloat16 if native else None)


def test_keys_and_neighbors_agree_with_the_cpu(
    device: torch.device, tmp_path: Path, corpus: Corpus
) -> None:
    folder = tmp_path / "countries"
    store_texts(folder, country_texts())
    build_corpus(folder, CorpusConfig(chunk_size=8, vocab_size=400), device=device)

    built = Corpus.open(folder)

    agreement = np.mean(np.array(built.neighbors_CK) == np.array(corpus.neighbors_CK))
    assert agreement > 0.9
    ids, distances = built.retriever(device).search_chunks(
        built.database.chunks_CM[: built.database.num_retrievable], 1
    )
    # Squared distances of unit vectors; bfloat16 keys differ in the third digit.
    assert (distances[:, 0] < 1e-2).all()
    assert ids.shape[1] == 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_resumes_and_generation_shows_neighbors(
    device: torch.device, tmp_path: Path, corpus_dir: Path, precision: str
) -> None:
    settings = {**TINY_TRAINING, "max_steps": 40, "learning_rate": 1e-2, "precision": precision}
    run = create_run(tmp_path / "run", corpus_dir, model=TINY_MODEL, training=settings)
    asked = 0

    def stop_once() -> bool:
        nonlocal asked
        asked += 1
        return asked == 20

    class Losses(SilentListener):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_metrics(self, step: int, values: dict[str, float]) -> None:
            assert step > 0
            self.seen += [value for name, value in values.items() if name == "train_loss"]

    losses = Losses()
    stopped = train(run.path, device=device, listener=losses, should_stop=stop_once)
    finished = train(run.path, device=device, listener=losses)

    assert (stopped.state, finished.state, finished.step) == ("stopped", "finished", 40)
    assert losses.seen[-1] < losses.seen[0] - 1
    assert list_checkpoints(run.path)[-1].step == 40
    generator = Generator.open(run.path, device=device)
    events = generator.generate("The capital", SamplingConfig(max_new_tokens=20))
    chunks = [event.chunk for event in events if isinstance(event, ChunkEvent)]
    assert any(chunk.neighbors for chunk in chunks)


def test_texts_and_shares_are_those_of_the_cpu(
    device: torch.device, tmp_path: Path, corpus_dir: Path
) -> None:
    run = create_run(
        tmp_path / "run",
        corpus_dir,
        model=TINY_MODEL,
        training={**TINY_TRAINING, "max_steps": 40, "learning_rate": 1e-2},
    )
    train(run.path, device=device)
    config = SamplingConfig(max_new_tokens=60, temperature=0, num_samples=2)

    def write(place: torch.device) -> list[OutputChunk]:
        generator = Generator.open(run.path, device=place)
        generator.tokenizer.eos_id = -1
        events = generator.generate("The climate of Arland", config, score_other=True)
        return [event.chunk for event in events if isinstance(event, ChunkEvent)]

    for found, expected in zip(write(device), write(torch.device("cpu")), strict=True):
        assert found.token_ids == expected.token_ids
        assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-3)
        assert found.other_logprobs == pytest.approx(expected.other_logprobs, abs=1e-3)
        shares = [[one.attention_share for one in chunk.neighbors] for chunk in (found, expected)]
        assert shares[0] == pytest.approx(shares[1], abs=1e-3)
