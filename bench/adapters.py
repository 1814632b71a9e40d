"""What training adds to the bundled pretrained model, and what retrieval is worth afterwards.

On the text of ``bench.pretrained``: the gates alone, the matrices of ``lora``, and the same ones
trained without retrieval, which is the honest baseline. The same windows of held-out documents
are read by each, with retrieval on and off.

    RETRO_BENCH_TEXT=FOLDER python -m bench adapters          # RETRO_BENCH_STEPS=120
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bench.pretrained import CPU, Losses, make_corpus, measure
from bench.timing import is_quick, print_table
from retro.config.training import Precision
from retro.corpus.corpus import Corpus
from retro.device import autocast_dtype
from retro.model.language_model import Retrieved, TokenRows
from retro.model.open import settle_settings
from retro.model.pretrained.bundled import BUNDLED_NAME
from retro.model.pretrained.model import PretrainedModel
from retro.run import create_run, resolved_run
from retro.training.listener import SilentListener
from retro.training.trainer import Trainer, corpus_facts

STEPS_VARIABLE = "RETRO_BENCH_STEPS"
GATE_STEPS = 60


class Speed(SilentListener):
    """Remembers how fast the steps were."""

    def __init__(self) -> None:
        self.tokens_per_second: list[float] = []

    def on_metrics(self, step: int, values: dict[str, float]) -> None:
        if step and "tokens_per_second" in values:
            self.tokens_per_second.append(values["tokens_per_second"])


def main() -> None:
    most = 3 if is_quick() else 24
    steps = 2 if is_quick() else int(os.environ.get(STEPS_VARIABLE, "120"))
    gates = 2 if is_quick() else GATE_STEPS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_corpus(folder / "corpus")
        corpus = Corpus.open(folder / "corpus")
        print(
            f"Products in {autocast_dtype(CPU, Precision.AUTO) or torch.float32} while training.\n"
        )
        rows: list[list[object]] = []
        base: Losses | None = None
        plain: Losses | None = None
        for label, mode, count, retrieval in (
            ("none", None, 0, True),
            ("gates", "gates", gates, True),
            ("lora without retrieval", "lora", steps, False),
            ("lora", "lora", steps, True),
        ):
            began, speed = time.perf_counter(), Speed()
            trainer = _trainer(folder / label.replace(" ", "-"), corpus, mode or "gates", count)
            if not retrieval:
                _without_retrieval(trainer)
            if mode is not None:
                trainer.train(speed, lambda: False, lambda *_: None)
            seconds = time.perf_counter() - began
            trainer.network.eval()
            losses = measure(trainer.model, corpus, most)
            base = base or losses
            plain = losses if not retrieval else plain
            pace = float(np.median(speed.tokens_per_second)) if speed.tokens_per_second else 0.0
            rows.append(_row(label, count, seconds, pace, losses, base, plain))
        print_table(
            ["trained", "steps", "minutes", "tokens/s", "off, against the base's off",
             "on, against the base's off", "on, against its own off",
             "on, against lora without retrieval"],
            rows,
        )  # fmt: skip


def _trainer(run_dir: Path, corpus: Corpus, mode: str, steps: int) -> Trainer:
    """Return the trainer of a new run that is measured at its end alone."""
    steps = max(1, steps)
    run = create_run(
        run_dir,
        corpus.folder,
        preset=mode,
        model={"base": BUNDLED_NAME},
        training={
            "max_steps": steps, "eval_every": steps, "eval_sequences": 1, "sample_tokens": 0,
            "checkpoint_every": steps,
        },
    )  # fmt: skip
    run = resolved_run(run, corpus_facts(corpus, corpus.folder))
    assert run.model is not None
    return Trainer(replace(run, model=settle_settings(run.kind, run.model)), corpus, CPU)


def _without_retrieval(trainer: Trainer) -> None:
    """Let the model learn from the same text, reading no neighbors."""
    model = trainer.model
    assert isinstance(model, PretrainedModel)
    learn: Callable[[TokenRows, Retrieved | None], torch.Tensor] = model.mean_loss
    object.__setattr__(model, "mean_loss", lambda rows, _retrieved: learn(rows, None))


def _row(
    label: str,
    steps: int,
    seconds: float,
    speed: float,
    losses: Losses,
    base: Losses,
    plain: Losses | None,
) -> list[object]:
    against = replace(losses, off=base.off)
    own = losses.change(losses.on)
    against_plain = "" if plain is None else replace(losses, off=plain.off).change(losses.on)
    return [
        label,
        str(steps),
        f"{seconds / 60:.1f}",
        f"{speed:.0f}" if speed else "",
        against.change(losses.off),
        against.change(losses.on),
        own,
        against_plain,
    ]
