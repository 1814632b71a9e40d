"""Sample texts of a run: the same beginning and seed at every measurement, side by side.

They lie beside the checkpoints as ``samples.jsonl``, one object a line. Importing this module
does not import torch.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retro.config.sampling import SamplingConfig
from retro.corpus.corpus import Corpus
from retro.data.splits import Split
from retro.errors import RetroError
from retro.json_files import parse_json
from retro.run import open_run

if TYPE_CHECKING:
    from retro.model.language_model import LanguageModel

logger = logging.getLogger(__name__)

SAMPLES_NAME = "samples.jsonl"
PROMPT_CHARACTERS = 160
MOST_DOCUMENTS = 20
"""Held-out documents that are looked at for a beginning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleText:
    """What a run's model wrote after some steps."""

    step: int
    """Optimizer steps taken."""
    prompt: str
    """The beginning of a held-out document, the same at every step."""
    text: str
    """What the model wrote behind it."""
    num_neighbors: int
    """Neighbors that its chunks read."""


class SampleWriter:
    """Writes a sample text whenever it is asked to; a text that fails never ends the training.

    Args:
        run_dir: Folder of the run, whose training has begun.
        corpus_dir: Folder of the corpus it is trained on.
    """

    def __init__(self, run_dir: Path, corpus_dir: Path) -> None:
        self.path = run_dir / SAMPLES_NAME
        self._run_dir = run_dir
        self._corpus_dir = corpus_dir
        self._corpus: Corpus | None = None
        self._prompt = ""

    def forget_after(self, step: int) -> None:
        """Drop what lies after the checkpoint that a run goes on from: it is written again."""
        if not self.path.exists():
            return
        kept = [sample for sample in read_samples(self._run_dir) if sample.step <= step]
        self.path.write_text("".join(_line(sample) for sample in kept), encoding="utf-8")

    def write(self, step: int, model: "LanguageModel") -> SampleText | None:
        """Write a text and keep it.

        Args:
            step: Optimizer steps taken.
            model: In evaluation mode.

        Returns:
            The text; None where it could not be written, which is logged.
        """
        try:
            sample = self._write(step, model)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(sample))
        except (RetroError, OSError) as error:
            logger.warning("no sample text after step %d: %s", step, error)
            return None
        return sample

    def _write(self, step: int, model: "LanguageModel") -> SampleText:
        from retro.generation.events import ChunkEvent  # noqa: PLC0415  # imports torch
        from retro.generation.generate import Generator  # noqa: PLC0415

        run = open_run(self._run_dir)
        assert run.training is not None
        if self._corpus is None:
            self._corpus = Corpus.open(self._corpus_dir)
            self._prompt = beginning_of_held_out(self._corpus)
        config = SamplingConfig(
            max_new_tokens=run.training.sample_tokens, num_neighbors=run.training.num_neighbors
        )
        generator = Generator(model, self._corpus.tokenizer, self._corpus)
        chunks = [
            event.chunk
            for event in generator.generate(self._prompt, config)
            if isinstance(event, ChunkEvent) and not event.chunk.is_prompt
        ]
        return SampleText(
            step=step,
            prompt=self._prompt,
            text="".join(chunk.text for chunk in chunks),
            num_neighbors=sum(len(chunk.neighbors) for chunk in chunks),
        )


def read_samples(run_dir: Path) -> list[SampleText]:
    """Return the sample texts of a run by step; what cannot be read is left out."""
    try:
        lines = (run_dir / SAMPLES_NAME).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return sorted(_samples(lines), key=lambda sample: sample.step)


def _samples(lines: list[str]) -> Iterator[SampleText]:
    for line in lines:
        try:
            yield SampleText(**parse_json(line))
        except (ValueError, TypeError):
            # The last line of a process that was killed while writing it.
            continue


def _line(sample: SampleText) -> str:
    return json.dumps(asdict(sample)) + "\n"


def beginning_of_held_out(corpus: Corpus) -> str:
    """Return the beginning of a held-out document, which is a fair thing to continue."""
    database = corpus.database
    records = list(enumerate(database.documents))
    held_out = [place for place, record in records if record.split is Split.VALIDATION]
    found = ""
    for place in (held_out or [place for place, _ in records])[:MOST_DOCUMENTS]:
        chunks = np.flatnonzero(database.documents_C == place)[:2]
        ids = database.chunks_CM[chunks].reshape(-1)
        text = corpus.tokenizer.decode(ids[ids != database.pad_id].tolist()).strip()
        found = found or beginning(text)
        if len(text) >= PROMPT_CHARACTERS:
            return beginning(text)
    return found


def beginning(text: str) -> str:
    """Return the start of a text, cut between words."""
    if len(text) <= PROMPT_CHARACTERS:
        return text
    cut = text[:PROMPT_CHARACTERS]
    last = max(cut.rfind(" "), cut.rfind("\n"))
    return cut[:last].rstrip() if last > PROMPT_CHARACTERS // 2 else cut
