"""One training step as both libraries take it: the same sizes, tokens and measurements.

This module runs in the environment of either library and knows neither.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SIZES: dict[str, Any] = {
    "num_tokens": 8192,
    "max_seq_len": 512,
    "chunk_size": 64,
    "enc_dim": 256,
    "enc_depth": 2,
    "dec_dim": 256,
    "dec_depth": 6,
    "dec_cross_attn_layers": (3, 5),
    "heads": 8,
    "dim_head": 32,
}
BATCH_SIZE = 4
NUM_NEIGHBORS = 2
KEPT_SHARE = 0.1
"""Of the vocabulary: each token is drawn from so many of the likeliest."""
MEMORY_STEPS = 4

MakeModel = Callable[[], nn.Module]
MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def random_batch(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the same sequences and retrieved tokens in every process, no padding."""
    randomness = torch.Generator().manual_seed(0)
    length, chunk_size, vocabulary = (
        SIZES[name] for name in ("max_seq_len", "chunk_size", "num_tokens")
    )
    shape = (BATCH_SIZE, length // chunk_size, NUM_NEIGHBORS, 2 * chunk_size)
    seq = torch.randint(1, vocabulary, (BATCH_SIZE, length + 1), generator=randomness)
    retrieved = torch.randint(1, vocabulary, shape, generator=randomness)
    return seq.to(device), retrieved.to(device)


class TrainingStep:
    """A model that takes the same step again and again, in one or more ways.

    A way is ``float32`` or ``bfloat16`` (autocast), or either with ``compiled`` after it.
    """

    def __init__(self, make_model: MakeModel, make_optimizer: MakeOptimizer) -> None:
        self.device = default_device()
        torch.manual_seed(0)
        self.model = make_model().to(self.device).train()
        self.optimizer = make_optimizer(self.model)
        self.batch = random_batch(self.device)
        self.compiled: Callable[..., Tensor] | None = None

    @property
    def checksum(self) -> int:
        """Number that is the same where the tokens are."""
        weighted = (part.flatten() * torch.arange(part.numel()) for part in map(_cpu, self.batch))
        return sum(int(part.sum()) for part in weighted)

    def run(self, way: str) -> float:
        """Return the loss before one step of forward, backward and optimizer."""
        dtype, _, compiled = way.partition(" ")
        model: Callable[..., Tensor] = self._compile() if compiled else self.model
        with torch.autocast(self.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = model(*self.batch, return_loss=True)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def seconds(self, way: str) -> float:
        """Return how long one step takes; the loss is read, so the device has finished."""
        begun = time.perf_counter()
        self.run(way)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    def _compile(self) -> Callable[..., Tensor]:
        if self.compiled is None:
            self.compiled = torch.compile(self.model)
        return self.compiled


def peak_bytes(
    way: str, make_model: MakeModel, make_optimizer: MakeOptimizer, steps: int = MEMORY_STEPS
) -> int:
    """Return the largest growth of memory while a model is made and takes some steps.

    For a fresh process. On a CPU it is resident memory beyond that before the model was made;
    what the first optimizer of a process imports is loaded before, on both sides.
    """
    tiny = nn.Linear(8, 8)
    tiny(torch.zeros(1, 8)).sum().backward()
    make_optimizer(tiny).step()
    cuda = default_device().type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_bytes("VmRSS")
    step = TrainingStep(make_model, make_optimizer)
    for _ in range(steps):
        step.run(way)
    after = torch.cuda.max_memory_allocated() if cuda else _status_bytes("VmHWM")
    return after - before


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}; peak memory is measured on Linux.")


def _cpu(tensor: Tensor) -> Tensor:
    return tensor.cpu()


def commands(
    make_model: MakeModel, make_optimizer: MakeOptimizer
) -> dict[str, Callable[..., object]]:
    """Return what a worker can be asked about training; see ``bench.peer.worker``."""
    made: list[TrainingStep] = []

    def prepare() -> dict[str, object]:
        made.append(TrainingStep(make_model, make_optimizer))
        count = sum(parameter.numel() for parameter in _once(made[0].model.parameters()))
        return {"checksum": made[0].checksum, "parameters": count}

    return {
        "prepare": prepare,
        "step": lambda way: made[0].seconds(way),
        "memory": lambda way: peak_bytes(way, make_model, make_optimizer),
    }


def _once(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return list({id(parameter): parameter for parameter in parameters}.values())
