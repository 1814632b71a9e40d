"""Writing with preset `small`: time by position and to the first token, several samples, cache.

The model has initial weights and the window 512; the corpus is the sample with the bundled
encoder. Every number but those of the last table is of ``Generator.generate`` as people use it:
retrieval, drawing and comparing with the neighbors included.
"""

import statistics
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from bench.timing import alternate, is_quick, medians, print_table, rounds
from bench.writing import (
    Timeline,
    open_built,
    preset_generator,
    sample_prompts,
    timed,
    with_whole_text,
    write_sample,
)
from retro.config.corpus import CorpusConfig
from retro.config.sampling import SamplingConfig
from retro.generation.generate import Generator
from retro.model.retro.model import RETRO

GOAL_GROWTH = 1.5
GOAL_FIRST_S = 0.3
NUM_SAMPLES = (1, 4, 8)
RETRIEVAL = {"on": True, "off": False}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured; the window has eight chunks."""

    preset: str = "small"
    chunk_size: int = 64
    vocab_size: int = 4096
    characters: int | None = None
    """Of the sample that becomes the corpus; None is all."""

    @property
    def window(self) -> int:
        return 8 * self.chunk_size

    @property
    def positions(self) -> tuple[int, ...]:
        """Tokens around which is measured: 64, 128, 256 and 512 of a window of 512."""
        return tuple(self.window // part for part in (8, 4, 2, 1))

    @property
    def prompts(self) -> tuple[int, ...]:
        """Tokens of the prompts: 1, 64 and 448 of a window of 512."""
        return (1, self.chunk_size, self.window - self.chunk_size)


TINY = Sizes(preset="tiny", chunk_size=16, vocab_size=512, characters=10_000)


def main() -> None:
    sizes = TINY if is_quick() else Sizes()
    with tempfile.TemporaryDirectory() as folder:
        generator = make_generator(Path(folder), sizes)
        model = generator.model
        assert isinstance(model, RETRO)
        count = sum(parameter.numel() for parameter in model.parameters())
        print(
            f"{generator.device.type}, preset {sizes.preset}, {count / 1e6:.1f} M parameters, "
            f"{torch.get_num_threads()} threads\n"
        )
        by_position(generator, sizes)
        to_first_token(generator, sizes)
        several_samples(generator, sizes)
    cached_or_recomputed(model, sizes)


def make_generator(folder: Path, sizes: Sizes) -> Generator:
    write_sample(folder / "texts", sizes.characters)
    config = CorpusConfig(chunk_size=sizes.chunk_size, vocab_size=sizes.vocab_size)
    corpus = open_built(folder / "texts", folder / "corpus", config)
    return preset_generator(sizes.preset, corpus, sizes.window)


def by_position(generator: Generator, sizes: Sizes) -> None:
    """Write a whole window after one token; each bin has one chunk's tokens and one retrieval."""
    prompt = sample_prompts(generator.tokenizer, [1])[1]
    written: dict[str, list[Timeline]] = {name: [] for name in RETRIEVAL}
    configs = {
        name: with_whole_text(
            generator, prompt, SamplingConfig(max_new_tokens=sizes.window), retrieval=retrieval
        )
        for name, retrieval in RETRIEVAL.items()
    }
    for _ in range(rounds(5)):
        for name, retrieval in RETRIEVAL.items():
            written[name].append(timed(generator, prompt, configs[name], retrieval=retrieval))
    print_table(
        ["retrieval", "ms per token", *map(str, sizes.positions), "last / first", "goal"],
        [
            _growth_row(name, statistic, timelines, sizes)
            for name, timelines in written.items()
            for statistic in ("mean", "median")
        ],
    )
    print()
    for name, timelines in written.items():
        tokens_per_s = sizes.window / statistics.median(line.last for line in timelines)
        print(f"Retrieval {name}: {tokens_per_s:.0f} tokens/s over {sizes.window} tokens")
    print()


def position_bin(position: int, sizes: Sizes) -> tuple[int, int]:
    """Return first and last-but-one token of one chunk's length around a position."""
    half = sizes.chunk_size // 2
    stop = min(position + half, sizes.window)
    return stop - 2 * half, stop


def _growth_row(name: str, statistic: str, timelines: list[Timeline], sizes: Sizes) -> list[object]:
    # The median leaves out the token that waits for retrieval, the mean has it in every bin.
    summary = {"mean": statistics.mean, "median": statistics.median}[statistic]
    values = [
        statistics.median(summary(line.gaps(*position_bin(position, sizes))) for line in timelines)
        for position in sizes.positions
    ]
    growth = values[-1] / values[0]
    return [
        name,
        statistic,
        *(f"{value * 1000:.2f}" for value in values),
        f"{growth:.2f}",
        f"at most {GOAL_GROWTH}: {_met(growth <= GOAL_GROWTH)}",
    ]


def to_first_token(generator: Generator, sizes: Sizes) -> None:
    """Time from the call to the first token, the model and the encoder being loaded."""
    prompts = sample_prompts(generator.tokenizer, sizes.prompts)
    measured = {}
    for count, prompt in prompts.items():
        for name, retrieval in RETRIEVAL.items():
            config = with_whole_text(
                generator, prompt, SamplingConfig(max_new_tokens=1), retrieval=retrieval
            )
            measured[count, name] = partial(_first, generator, prompt, config, retrieval)
    seconds = alternate(measured, rounds(15))
    print_table(
        ["tokens of the prompt", "retrieval", "ms to the first token", "goal"],
        [
            [
                *name,
                f"{value * 1000:.1f}",
                f"below {GOAL_FIRST_S * 1000:.0f}: {_met(value < GOAL_FIRST_S)}",
            ]
            for name, value in seconds.items()
        ],
    )
    print()


def _first(generator: Generator, prompt: str, config: SamplingConfig, retrieval: bool) -> float:
    return timed(generator, prompt, config, retrieval=retrieval).first


def several_samples(generator: Generator, sizes: Sizes) -> None:
    """Tokens of all samples per second; two chunks of each are written."""
    length = 2 * sizes.chunk_size
    prompt = sample_prompts(generator.tokenizer, [sizes.chunk_size])[sizes.chunk_size]
    measured = {}
    for number in NUM_SAMPLES:
        for name, retrieval in RETRIEVAL.items():
            config = SamplingConfig(max_new_tokens=length, num_samples=number)
            config = with_whole_text(generator, prompt, config, retrieval=retrieval)
            measured[number, name] = partial(_last, generator, prompt, config, retrieval)
    seconds = alternate(measured, rounds(3))
    print_table(
        ["samples", "retrieval", "tokens/s", "to one sample"],
        [
            [
                number,
                name,
                f"{number * length / value:.0f}",
                f"{number * seconds[1, name] / value:.2f}",
            ]
            for (number, name), value in seconds.items()
        ],
    )
    print()


def _last(generator: Generator, prompt: str, config: SamplingConfig, retrieval: bool) -> float:
    return timed(generator, prompt, config, retrieval=retrieval).last


def cached_or_recomputed(model: RETRO, sizes: Sizes) -> None:
    """``RETRO.read`` alone, with a cache, and reading everything again for each token."""
    size, num_tokens = sizes.chunk_size, 2 * sizes.chunk_size
    device = model.token_embedding.weight.device
    vocab_size = model.config.num_tokens
    seq = torch.randint(1, vocab_size, (1, num_tokens), device=device)
    retrieved = torch.randint(1, vocab_size, (1, 2, 2, 2 * size), device=device)

    @torch.inference_mode()
    def cached() -> None:
        cache = model.new_cache(1)
        for t in range(num_tokens):
            ends = (t + 1) % size == 0
            model.read(seq[:, t : t + 1], cache, retrieved[:, t // size][:, None] if ends else None)

    @torch.inference_mode()
    def recomputed() -> None:
        for t in range(num_tokens):
            model(seq[:, : t + 1], retrieved[:, : (t + 1) // size])

    seconds = medians({"cached": cached, "recomputed": recomputed}, rounds=rounds(3))
    print_table(
        ["model alone", "tokens/s", "ratio"],
        [
            [name, f"{num_tokens / value:.0f}", f"{seconds['recomputed'] / value:.1f}"]
            for name, value in seconds.items()
        ],
    )


def _met(is_met: bool) -> str:
    return "met" if is_met else "missed"
