"""Everything that matters on one CUDA device, in one table: ``python bench/gpu.py``.

Prints "no GPU" where there is none.
"""

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a file, not only as a module

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.flops import forward_flops, peak_flops
from bench.sample_text import corpus_chunks
from bench.timing import print_table, seconds
from retro import RETRO
from retro.config.checks import config_to_dict
from retro.config.corpus import IndexKind
from retro.config.model import ModelConfig
from retro.config.training import TrainingConfig
from retro.model.retro.presets import resolve_preset
from retro.retrieval.embedder import ChunkEmbedder, TextEncoder
from retro.retrieval.exact import exact_search
from retro.retrieval.index import Index
from retro.training.optimizer import make_optimizer

CHUNK_SIZE = 64
WARM_UPS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How much is measured."""

    presets: tuple[str, ...] = ("retro-172m", "retro-425m")
    sequence_length: int = 2048
    vocabulary: int = 32_000
    num_neighbors: int = 2
    largest_batch: int = 32
    rounds: int = 7
    ways: tuple[str, ...] = ("eager", "compiled")
    chunks: int = 20_000
    keys: int = 1_000_000
    key_width: int = 384
    queries: int = 4096
    writers: tuple[str, ...] = ("retro-172m", "small")
    new_tokens: int = 256


TINY = Sizes(
    presets=("tiny",),
    sequence_length=128,
    vocabulary=300,
    largest_batch=2,
    rounds=1,
    chunks=8,
    keys=500,
    queries=16,
    writers=("tiny",),
    new_tokens=70,
)
"""Shows on any machine that everything runs."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    part: str
    settings: str
    value: float
    unit: str
    utilization: str = ""

    def cells(self) -> list[object]:
        return [self.part, self.settings, f"{self.value:,.0f} {self.unit}", self.utilization]


class ArrayKeys:
    """Keys in memory."""

    def __init__(self, keys_NZ: NDArray[np.float32]) -> None:
        self.keys_NZ = keys_NZ
        self.width: int = keys_NZ.shape[1]

    def gather(self, ids: NDArray[Any]) -> NDArray[np.float32]:
        gathered: NDArray[np.float32] = self.keys_NZ[ids]
        return gathered

    def blocks(self, start: int, stop: int, size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for first in range(start, stop, size):
            yield first, self.keys_NZ[first : min(first + size, stop)]


class Training:
    """Training steps of one preset with bfloat16 autocast."""

    def __init__(self, preset: str, sizes: Sizes, device: torch.device) -> None:
        self.sizes, self.device = sizes, device
        self.config, training = settings_of(preset, sizes)
        self.model = RETRO(**config_to_dict(self.config)).to(device).train()
        self.optimizer = make_optimizer(self.model, training)

    def step(self, model: Callable[..., Tensor], seq: Tensor, retrieved: Tensor) -> None:
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = model(seq, retrieved, return_loss=True)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        length, vocabulary = self.sizes.sequence_length, self.sizes.vocabulary
        shape = (size, length // CHUNK_SIZE, self.sizes.num_neighbors, 2 * CHUNK_SIZE)
        seq = torch.randint(1, vocabulary, (size, length + 1), device=self.device)
        return seq, torch.randint(1, vocabulary, shape, device=self.device)

    def fitting_batch(self) -> int:
        """Return the largest power of two of sequences that fits into memory."""
        size = self.sizes.largest_batch
        while not self.fits(size):
            self.optimizer.zero_grad()
            free_memory()
            size //= 2
        return size

    def fits(self, size: int) -> bool:
        try:
            self.step(self.model, *self.batch(size))
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            return False
        return True

    def seconds(self, model: Callable[..., Tensor], size: int) -> float:
        """Return the median seconds of a step."""
        batch = self.batch(size)
        for _ in range(WARM_UPS):
            self.step(model, *batch)
        return statistics.median(
            timed(lambda: self.step(model, *batch), self.device) for _ in range(self.sizes.rounds)
        )


def training_rows(preset: str, sizes: Sizes, device: torch.device) -> Iterator[Row]:
    """Yield tokens per second of a preset, as it is and compiled."""
    training = Training(preset, sizes, device)
    size = training.fitting_batch()
    tokens = size * sizes.sequence_length
    flops = (
        size * forward_flops(training.config, sizes.sequence_length, sizes.num_neighbors).training
    )
    for way in sizes.ways:
        free_memory()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        model = training.model if way == "eager" else torch.compile(training.model)
        needed = training.seconds(model, size)
        yield Row(
            f"training {preset}, {way}",
            f"batch {size} x {sizes.sequence_length}{peak_memory(device)}",
            tokens / needed,
            "tokens/s",
            utilization(flops / needed, device),
        )


def encoder_rows(sizes: Sizes, device: torch.device) -> Iterator[Row]:
    """Yield chunks per second of the bundled encoder, from token ids to keys."""
    tokenizer, chunks_NM = corpus_chunks(sizes.chunks, CHUNK_SIZE)
    encoder = TextEncoder.open(None, device)
    embedder = ChunkEmbedder(encoder, tokenizer)
    embedder.embed(chunks_NM[: min(512, sizes.chunks)])
    needed = statistics.median(
        timed(lambda: embedder.embed(chunks_NM), device) for _ in range(min(3, sizes.rounds))
    )
    settings = f"{encoder.name}, chunks of {CHUNK_SIZE} tokens"
    yield Row("keys", settings, sizes.chunks / needed, "chunks/s")


def neighbor_rows(sizes: Sizes, device: torch.device) -> Iterator[Row]:
    """Yield queries per second of exact search, ours and that of FAISS."""
    rng = np.random.default_rng(0)
    keys_NZ = rng.standard_normal((sizes.keys, sizes.key_width), dtype=np.float32)
    queries_QZ = rng.standard_normal((sizes.queries, sizes.key_width), dtype=np.float32)
    keys, wanted = ArrayKeys(keys_NZ), sizes.num_neighbors
    flat = faiss.IndexFlatL2(sizes.key_width)
    flat.add(keys_NZ)
    index = Index(flat, IndexKind.FLAT)
    on = "GPU" if getattr(faiss, "get_num_gpus", int)() else "CPU"
    ways: dict[str, Callable[[], tuple[NDArray[np.int64], NDArray[np.float32]]]] = {
        "exact_search": lambda: exact_search(queries_QZ, keys, sizes.keys, wanted, device=device),
        f"FAISS flat index on the {on}": lambda: index.search(queries_QZ, wanted),
    }
    found: list[NDArray[np.int64]] = []
    for name, search in ways.items():
        ids_QK, _ = search()
        found.append(ids_QK)
        needed = statistics.median(timed(search, device) for _ in range(min(3, sizes.rounds)))
        same = (ids_QK == found[0]).mean()
        settings = f"{sizes.keys:,} keys of width {sizes.key_width}, {same:.2%} as the first"
        yield Row(f"{wanted} neighbors, {name}", settings, sizes.queries / needed, "queries/s")


def generation_rows(preset: str, sizes: Sizes, device: torch.device) -> Iterator[Row]:
    """Yield tokens per second of one text, with neighbors given for every chunk."""
    config, _ = settings_of(preset, sizes)
    model = RETRO(**config_to_dict(config)).to(device).eval()
    write(model, min(sizes.new_tokens, CHUNK_SIZE + 1), sizes.num_neighbors)
    needed = statistics.median(
        timed(lambda: write(model, sizes.new_tokens, sizes.num_neighbors), device)
        for _ in range(min(3, sizes.rounds))
    )
    settings = f"one text, {sizes.new_tokens} tokens, with cache"
    yield Row(f"generation {preset}", settings, sizes.new_tokens / needed, "tokens/s")


@torch.inference_mode()
def write(model: RETRO, num_tokens: int, num_neighbors: int) -> list[int]:
    """Write the likeliest tokens; each goes to the CPU, as where people read along."""
    device = next(model.parameters()).device
    cache = model.new_cache(1, max_tokens=num_tokens)
    shape = (1, 1, num_neighbors, 2 * CHUNK_SIZE)
    retrieved = torch.randint(1, model.config.num_tokens, shape, device=device)
    tokens = [1]
    for position in range(1, num_tokens + 1):
        ends_chunk = position % CHUNK_SIZE == 0
        seq = torch.tensor([tokens[-1:]], device=device)
        logits_BV = model.read(seq, cache, retrieved if ends_chunk else None)
        tokens.append(int(logits_BV[0].argmax()))
    return tokens[1:]


def settings_of(preset: str, sizes: Sizes) -> tuple[ModelConfig, TrainingConfig]:
    """Return the settings of a preset in these sizes."""
    return resolve_preset(
        preset,
        model={},
        training={"sequence_length": sizes.sequence_length},
        num_tokens=sizes.vocabulary,
        chunk_size=CHUNK_SIZE,
        num_neighbors=sizes.num_neighbors,
    )


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a call, until the device has finished."""

    def finished() -> None:
        run()
        wait_for(device)

    wait_for(device)
    return seconds(finished)


def wait_for(device: torch.device) -> None:
    """Return when the device has done everything it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def utilization(flops_per_second: float, device: torch.device) -> str:
    """Return the share of the device's peak, as a text."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    peak = peak_flops(name)
    rate = f"{flops_per_second / 1e12:.1f} TFLOP/s"
    return f"{rate}, unknown peak" if peak is None else f"{rate}, {flops_per_second / peak:.1%}"


def peak_memory(device: torch.device) -> str:
    """Return the largest memory in use since it was last reset, as a text."""
    if device.type != "cuda":
        return ""
    return f", {torch.cuda.max_memory_allocated() / 2**30:.0f} GiB"


def free_memory() -> None:
    """Give memory that nothing holds back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def measure(sizes: Sizes, device: torch.device) -> Iterator[list[object]]:
    """Yield the cells of all rows; a part that fails gives its reason instead."""
    parts: dict[str, Callable[[], Iterator[Row]]] = {}
    for name in sizes.presets:
        parts[f"training {name}"] = partial(training_rows, name, sizes, device)
    parts["keys"] = partial(encoder_rows, sizes, device)
    parts["neighbors"] = partial(neighbor_rows, sizes, device)
    for name in sizes.writers:
        parts[f"generation {name}"] = partial(generation_rows, name, sizes, device)
    for name, rows in parts.items():
        torch.manual_seed(0)
        begun = time.perf_counter()
        try:
            yield from (row.cells() for row in rows())
        except RuntimeError as error:  # out of memory, or no compiler
            yield [name, str(error).splitlines()[0][:200], "failed", ""]
        torch.compiler.reset()  # it holds on to the model
        free_memory()
        print(f"{name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)


def main(sizes: Sizes | None = None) -> None:
    if sizes is None and not torch.cuda.is_available():
        print("no GPU")
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}\n")
    rows = list(measure(sizes or Sizes(), device))
    print_table(["part", "settings", "result", "model FLOP utilization"], rows)


if __name__ == "__main__":
    main(TINY if "--tiny" in sys.argv[1:] else None)
