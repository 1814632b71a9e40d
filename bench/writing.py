"""A model with initial weights that writes from a real corpus, timed token by token."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bench.sample_text import SAMPLE
from retro import RETRO
from retro.config.checks import config_to_dict
from retro.config.corpus import CorpusConfig
from retro.config.sampling import SamplingConfig
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.corpus.ingest import ingest_folder
from retro.data.samples import sample_documents
from retro.data.tokenizer import Tokenizer
from retro.device import default_device
from retro.generation.events import TokenEvent
from retro.generation.generate import Generator
from retro.model.retro.presets import resolve_preset
from retro.retrieval.embedder import MakeEmbedder

NUM_NEIGHBORS = 2
MOST_SEEDS = 100


@dataclass(frozen=True)
class Timeline:
    """When each token came, in seconds after the call."""

    arrivals: list[float]

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        return self.arrivals[0]

    @property
    def last(self) -> float:
        """Seconds to the last token."""
        return self.arrivals[-1]

    def gaps(self, start: int, stop: int) -> list[float]:
        """Return the seconds that tokens ``start`` to ``stop - 1`` took, each from the one before.

        Args:
            start: First token, counted from 0; at least 1.
            stop: Token after the last.
        """
        return [self.arrivals[i] - self.arrivals[i - 1] for i in range(start, stop)]


def write_sample(folder: Path, characters: int | None = None) -> None:
    """Write the documents of the sample to a folder, until so many characters are written."""
    folder.mkdir(parents=True)
    written = 0
    for document in sample_documents(SAMPLE):
        if characters is None or written < characters:
            (folder / document.path).write_text(document.text, encoding="utf-8")
            written += len(document.text)


def open_built(
    texts: Path, corpus_dir: Path, config: CorpusConfig, embedder: "MakeEmbedder | None" = None
) -> Corpus:
    """Build a corpus from a folder of text and open it; None is the bundled encoder."""
    ingest_folder(texts, corpus_dir)
    build_corpus(corpus_dir, config, embedder=embedder)
    return Corpus.open(corpus_dir)


def preset_generator(preset: str, corpus: Corpus, window: int) -> Generator:
    """Return a model of a preset's sizes with initial weights, ready to write from a corpus."""
    config, _ = resolve_preset(
        preset,
        model={},
        training={"sequence_length": window},
        num_tokens=corpus.tokenizer.vocab_size,
        chunk_size=corpus.database.chunk_size,
        num_neighbors=NUM_NEIGHBORS,
    )
    torch.manual_seed(0)
    model = RETRO(**config_to_dict(config)).to(default_device()).eval()
    return Generator(model, corpus.tokenizer, corpus)


def timed(
    generator: Generator, prompt: str, config: SamplingConfig, *, retrieval: bool = True
) -> Timeline:
    """Write a text and return when its tokens came."""
    begun = time.perf_counter()
    arrivals = [
        time.perf_counter() - begun
        for event in generator.generate(prompt, config, retrieval=retrieval)
        if isinstance(event, TokenEvent)
    ]
    return Timeline(arrivals)


def with_whole_text(
    generator: Generator, prompt: str, config: SamplingConfig, *, retrieval: bool = True
) -> SamplingConfig:
    """Return the settings with a seed whose texts do not end early; this also warms up.

    A model with initial weights draws the end token as often as any other.
    """
    wanted = config.max_new_tokens * config.num_samples
    for seed in range(0, MOST_SEEDS * config.num_samples, config.num_samples):
        seeded = replace(config, seed=seed)
        if len(timed(generator, prompt, seeded, retrieval=retrieval).arrivals) == wanted:
            return seeded
    raise RuntimeError(f"None of {MOST_SEEDS} seeds gave {wanted} tokens.")


def prompt_of(tokenizer: Tokenizer, texts: Sequence[str], num_tokens: int) -> str:
    """Return a text of exactly so many tokens, taken from one of the texts.

    Raises:
        ValueError: None of them begins with such a text.
    """
    for text in texts:
        _, spans_N2 = tokenizer.encode_with_spans(text)
        prompt = text[: spans_N2[num_tokens - 1, 1]] if len(spans_N2) >= num_tokens else ""
        if len(tokenizer.encode(prompt)) == num_tokens:
            return prompt
    raise ValueError(f"No text begins with a text of {num_tokens} tokens.")


def sample_prompts(tokenizer: Tokenizer, counts: Sequence[int]) -> dict[int, str]:
    """Return a prompt of the sample for each number of tokens."""
    texts = [document.text for document in sample_documents(SAMPLE)]
    return {count: prompt_of(tokenizer, texts, count) for count in counts}
