"""The measurements of ``bench/gpu.py``, on the CPU and in tiny sizes."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench import gpu
from bench.flops import PEAK_BFLOAT16, forward_flops, peak_flops
from retro import RETRO
from retro.config.checks import config_to_dict
from retro.config.model import ModelConfig
from retro.model import linear

CPU = torch.device("cpu")
SIZES = dataclasses.replace(gpu.TINY, ways=("eager",), new_tokens=66)
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("cross", [None, (1,)])
def test_counted_operations_are_those_that_run(
    monkeypatch: pytest.MonkeyPatch, cross: tuple[int, ...] | None
) -> None:
    # torch does not count what oneDNN computes.
    monkeypatch.setattr(linear, "HAS_ONEDNN", False)
    config = ModelConfig(
        num_tokens=300,
        max_seq_len=256,
        chunk_size=16,
        enc_dim=48,
        enc_depth=2,
        enc_cross_attn_layers=cross,
        dec_dim=64,
        dec_depth=4,
        dec_cross_attn_layers=(2, 4),
        heads=2,
        dim_head=16,
    )
    model = RETRO(**config_to_dict(config))
    seq, retrieved = torch.randint(1, 300, (1, 256)), torch.randint(1, 300, (1, 16, 2, 32))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(seq, retrieved)

    counted = forward_flops(config, 256, 2, causal_share=1.0)

    assert counted.linear + counted.attention == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_causal_attention_counts_half_and_training_three_forward_passes() -> None:
    config = ModelConfig(dec_cross_attn_layers=(), dec_depth=2, heads=2, dim_head=32)

    half, full = (forward_flops(config, 128, 2, causal_share=share) for share in (0.5, 1.0))

    assert full.attention == 2 * 2 * 2 * (2 * 32) * 128 * 128 * 2 / 2
    assert half.attention == full.attention / 2
    assert half.training == 3 * (half.linear + half.attention)


@pytest.mark.parametrize("part", [name for name, _ in PEAK_BFLOAT16])
def test_no_card_is_taken_for_another(part: str) -> None:
    assert peak_flops(f"NVIDIA {part}") == dict(PEAK_BFLOAT16)[part]


def test_an_unknown_card_has_no_utilization() -> None:
    assert peak_flops("Voodoo 2") is None
    assert gpu.utilization(3e12, CPU) == "3.0 TFLOP/s, unknown peak"


class LimitedTraining(gpu.Training):
    """Runs out of memory beyond two sequences."""

    def step(self, model: object, seq: Tensor, retrieved: Tensor) -> None:  # noqa: ARG002
        if len(seq) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")


def test_the_batch_is_halved_until_it_fits() -> None:
    sizes = dataclasses.replace(SIZES, largest_batch=16)

    assert LimitedTraining("tiny", sizes, CPU).fitting_batch() == 2


@pytest.mark.slow
def test_every_part_gives_a_positive_rate() -> None:
    cells = list(gpu.measure(SIZES, CPU))

    parts = [str(row[0]).split(",")[0] for row in cells]
    assert parts == ["training tiny", "keys", "2 neighbors", "2 neighbors", "generation tiny"]
    for row in cells:
        value, unit = str(row[2]).split(" ")
        assert float(value.replace(",", "")) > 0
        assert unit in {"tokens/s", "chunks/s", "queries/s"}
    assert "100.00% as the first" in str(cells[3][1])


def test_a_part_that_fails_says_why_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_keys(*_: object) -> None:
        raise RuntimeError("the encoder is too large\nat line 7")

    monkeypatch.setattr(gpu, "encoder_rows", no_keys)
    sizes = dataclasses.replace(SIZES, presets=(), writers=())

    cells = list(gpu.measure(sizes, CPU))

    assert cells[0] == ["keys", "the encoder is too large", "failed", ""]
    assert len(cells) == 3


def test_writing_reads_the_neighbors_of_every_finished_chunk() -> None:
    config, _ = gpu.settings_of("tiny", SIZES)
    model = RETRO(**config_to_dict(config)).eval()
    given: list[int] = []
    read = model.read

    def noted(seq: Tensor, cache: object, retrieved: Tensor | None = None) -> Tensor:
        if retrieved is not None:
            given.append(cache.num_tokens + 1)  # type: ignore[attr-defined]
        return read(seq, cache, retrieved)  # type: ignore[arg-type]

    model.read = noted  # type: ignore[method-assign, assignment]

    assert len(gpu.write(model, 128, 2)) == 128
    assert given == [64, 128]


def test_array_keys_come_in_blocks_that_cover_them_once() -> None:
    keys = gpu.ArrayKeys(np.arange(20, dtype=np.float32).reshape(10, 2))

    blocks = list(keys.blocks(0, 10, 4))

    assert [first for first, _ in blocks] == [0, 4, 8]
    assert np.array_equal(np.concatenate([part for _, part in blocks]), keys.keys_NZ)


@pytest.mark.slow
def test_without_a_gpu_it_says_so_and_succeeds() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "gpu.py")],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "no GPU\n")
