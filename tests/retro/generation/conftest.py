"""A model that learned a little on the small corpus, and what its events are asked for."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from retro.config.sampling import SamplingConfig
from retro.generation.events import ChunkEvent, ChunkStart, Event, FinishEvent, TokenEvent
from retro.generation.generate import Generator
from retro.run import Run, create_run
from retro.training.trainer import train
from tests.conftest import TINY_MODEL, TINY_TRAINING

CPU = torch.device("cpu")
PROMPT = "The climate of Arland"


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory, corpus_dir: Path) -> Run:
    """Return a finished run. Tests must not change it."""
    run = create_run(
        tmp_path_factory.mktemp("runs") / "run",
        corpus_dir,
        model=TINY_MODEL,
        training={**TINY_TRAINING, "max_steps": 40, "learning_rate": 1e-2},
    )
    train(run.path, device=CPU)
    return run


@pytest.fixture(scope="session")
def generator(trained_run: Run) -> Generator:
    """Return a generator whose texts never end by themselves. Tests must not change it."""
    made = Generator.open(trained_run.path, device=CPU)
    never_ends(made)
    return made


def never_ends(generator: Generator) -> None:
    """Take no token for the end of the text, so that lengths are known."""
    generator.tokenizer.eos_id = -1


@dataclass
class Sample:
    """The events of one text."""

    starts: list[ChunkStart] = field(default_factory=list)
    tokens: list[TokenEvent] = field(default_factory=list)
    chunks: list[ChunkEvent] = field(default_factory=list)
    finish: FinishEvent | None = None

    @property
    def ids(self) -> list[int]:
        return [event.token_id for event in self.tokens]

    @property
    def text(self) -> str:
        return "".join(event.chunk.text for event in self.chunks if not event.chunk.is_prompt)

    @property
    def stored(self) -> list[dict[str, Any]]:
        """The chunks as a database keeps them."""
        return [event.chunk.to_dict() for event in self.chunks]

    @property
    def reason(self) -> str:
        assert self.finish is not None
        return self.finish.reason


def sampling(**changes: object) -> SamplingConfig:
    values = {"max_new_tokens": 20, "seed": 3, "temperature": 1.0, "top_p": 1.0, **changes}
    return SamplingConfig(**values)  # type: ignore[arg-type]


def by_sample(events: Iterable[Event], number: int = 1) -> list[Sample]:
    """Sort events by the text they belong to."""
    samples = [Sample() for _ in range(number)]
    for event in events:
        sample = samples[event.sample]
        if isinstance(event, ChunkStart):
            sample.starts.append(event)
        elif isinstance(event, TokenEvent):
            sample.tokens.append(event)
        elif isinstance(event, ChunkEvent):
            sample.chunks.append(event)
        else:
            assert sample.finish is None
            sample.finish = event
    return samples


def write(generator: Generator, prompt: Any = PROMPT, **options: Any) -> Sample:
    """Write one text; settings of the sampling are told apart by name."""
    names = set(SamplingConfig.__dataclass_fields__)
    settings = {name: options.pop(name) for name in list(options) if name in names}
    return by_sample(generator.generate(prompt, sampling(**settings), **options))[0]
