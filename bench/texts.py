"""Texts of the bundled pretrained model, with retrieval on and off, none of them chosen.

Of each folder the beginning of its first held-out document is continued, with seeds 0 to 4 and the
settings that the app has for such a model.

    RETRO_BENCH_TEXT=FOLDER python -m bench texts         # the built-in sample without it
"""

import os
import tempfile
from pathlib import Path

from bench.pretrained import CPU, TEXT_VARIABLE, make_corpus
from bench.timing import is_quick, print_table
from retro.config.sampling import SamplingConfig, defaults_of
from retro.generation.events import ChunkEvent
from retro.generation.generate import Generator
from retro.model.pretrained.bundled import BUNDLED_NAME
from retro.run_samples import beginning_of_held_out

SEEDS = range(5)
NUM_TOKENS = 64


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        corpus_dir = Path(name) / "corpus"
        make_corpus(corpus_dir)
        generator = Generator.open(BUNDLED_NAME, corpus_dir=corpus_dir, device=CPU)
        assert generator.corpus is not None
        prompt = beginning_of_held_out(generator.corpus)
        text = Path(os.environ.get(TEXT_VARIABLE) or "python-docs").name
        print(f"`{text}`, after \u201c{_line(prompt)}\u201d:\n")
        rows: list[list[object]] = []
        for seed in list(SEEDS)[: 1 if is_quick() else None]:
            on, off = (_write(generator, prompt, seed, retrieval=on) for on in (True, False))
            rows.append([seed, on, off])
        print_table(["seed", "retrieval on", "off"], rows)


def _write(generator: Generator, prompt: str, seed: int, *, retrieval: bool) -> str:
    values = {**defaults_of(is_pretrained=True), "max_new_tokens": NUM_TOKENS, "seed": seed}
    events = generator.generate(prompt, SamplingConfig(**values), retrieval=retrieval)
    chunks = (event.chunk for event in events if isinstance(event, ChunkEvent))
    return _line("".join(chunk.text for chunk in chunks if not chunk.is_prompt))


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
