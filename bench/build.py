"""Building a whole folder, against the encoder's forward pass alone on the same batches."""

import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.sample_text import write_copies
from bench.timing import is_quick, print_table, rounds, seconds
from retro.config.corpus import CorpusConfig
from retro.corpus.build import build_corpus
from retro.corpus.ingest import ingest_folder
from retro.data.tokenizer import Tokenizer
from retro.retrieval.embedder import ChunkEmbedder, TextEncoder

COPIES = 10
GOAL = 1.25
LOADING = "load the encoder"
TOTAL = "whole build"
ALONE, INSIDE = "forward pass alone, afterwards", "forward pass during the build"


class Stages:
    """Seconds of each stage, told by the progress of a build."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stage: str | None = None
        self._begun = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:  # noqa: ARG002
        self.begin(stage)

    def begin(self, stage: str | None) -> None:
        now = time.perf_counter()
        if self._stage is not None:
            self.seconds[self._stage] += now - self._begun
        self._stage, self._begun = stage, now


class RecordedEncoder:
    """Makes the embedder of a build, keeps what its network is given and times it."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._begun = 0.0
        self.seconds_inside = 0.0
        """Seconds in the network while the corpus was built; only what a CPU computes at once."""

    def make(self, tokenizer: Tokenizer) -> ChunkEmbedder:
        self._stages.begin(LOADING)
        encoder = TextEncoder.open()
        self._network = next(part for part in vars(encoder).values() if isinstance(part, nn.Module))
        self._hooks = (
            self._network.register_forward_pre_hook(self._before, with_kwargs=True),
            self._network.register_forward_hook(self._after),
        )
        return ChunkEmbedder(encoder, tokenizer)

    def _before(self, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._calls.append((arguments, named))
        self._begun = time.perf_counter()

    def _after(self, *_: object) -> None:
        self.seconds_inside += time.perf_counter() - self._begun

    def seconds_alone(self) -> float:
        """Return how long the network takes, after the build, for all it was given."""
        assert self._calls, "the build did not call the network"
        for hook in self._hooks:
            hook.remove()
        return seconds(self._forward)

    @torch.inference_mode()
    def _forward(self) -> None:
        for arguments, named in self._calls:
            self._network(*arguments, **named)
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def main() -> None:
    measure(1)  # loads libraries
    copies = 1 if is_quick() else COPIES
    measured = [measure(copies) for _ in range(rounds(3))]
    median = {name: statistics.median(row[name] for row in measured) for name in measured[0]}
    chunks = int(median.pop("chunks"))
    print(f"Sample x {copies}, {chunks} chunks, median of {len(measured)}\n")
    print_table(
        ["part", "seconds", "share of the whole"],
        [[name, f"{value:.2f}", f"{value / median[TOTAL]:.1%}"] for name, value in median.items()],
    )
    print()
    for forward in (ALONE, INSIDE):
        if forward in median:
            ratio = statistics.median(row[TOTAL] / row[forward] for row in measured)
            met = "met" if ratio <= GOAL else "missed"
            print(f"{TOTAL} / {forward}: {ratio:.2f} (goal {GOAL}: {met})")


def measure(copies: int) -> dict[str, float]:
    """Build once, then run the forward passes alone; return the seconds of each part."""
    with tempfile.TemporaryDirectory() as name:
        texts, corpus = Path(name) / "texts", Path(name) / "corpus"
        write_copies(texts, copies)
        stages = Stages()
        recorded = RecordedEncoder(stages)
        begun = time.perf_counter()
        ingest_folder(texts, corpus, stages)
        summary = build_corpus(corpus, CorpusConfig(), on_progress=stages, embedder=recorded.make)
        stages.begin(None)
        total = time.perf_counter() - begun
    parts = {**stages.seconds, TOTAL: total, ALONE: recorded.seconds_alone()}
    if not torch.cuda.is_available():
        parts[INSIDE] = recorded.seconds_inside
    return {**parts, "chunks": float(summary.num_chunks)}
