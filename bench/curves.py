"""Loss curves in float32 and bfloat16, and how far two seeds are apart.

``python -m bench.curves [FOLDER]`` trains on a folder of text instead of the sample.
"""

import statistics
import sys
import tempfile
from pathlib import Path

from bench.sample_text import write_copies
from bench.timing import is_quick, print_table
from retro.config.corpus import CorpusConfig
from retro.config.training import Precision
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.corpus.ingest import ingest_folder
from retro.device import default_device
from retro.progress import no_progress
from retro.run import create_run, resolved_run
from retro.training.trainer import SilentListener, Trainer, corpus_facts

STEPS = 200
WINDOW = 50
BATCH_SIZE = 2
RUNS = {
    "float32": (Precision.FLOAT32, 0),
    "bfloat16": (Precision.BFLOAT16, 0),
    "float32, seed 1": (Precision.FLOAT32, 1),
}


class Curve(SilentListener):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_metrics(self, step: int, values: dict[str, float]) -> None:  # noqa: ARG002
        if "train_loss" in values:
            self.losses.append(values["train_loss"])


def main(folder: Path | None = None) -> None:
    steps = 8 if is_quick() else STEPS
    window = min(WINDOW, steps // 4)
    with tempfile.TemporaryDirectory() as name:
        texts, corpus = folder or Path(name) / "texts", Path(name) / "corpus"
        if folder is None:
            write_copies(texts, 1)
        ingest_folder(texts, corpus)
        build_corpus(corpus, CorpusConfig())
        curves = {
            run: losses(Path(name) / run, corpus, steps, precision, seed)
            for run, (precision, seed) in RUNS.items()
        }
    rows: list[list[object]] = []
    for start in range(0, steps, window):
        means = [statistics.mean(curve[start : start + window]) for curve in curves.values()]
        of_format, of_seed = means[1] - means[0], means[2] - means[0]
        cells = [f"{mean:.4f}" for mean in means]
        rows.append(
            [f"{start + 1}-{start + window}", *cells, f"{of_format:+.4f}", f"{of_seed:+.4f}"]
        )
    print_table(["steps", *curves, "bfloat16 - float32", "seed 1 - seed 0"], rows)
    within = "within" if abs(of_format) <= abs(of_seed) else "beyond"
    print(
        f"\nLast {window} steps: bfloat16 differs by {abs(of_format):.4f} nats, "
        f"{within} the {abs(of_seed):.4f} between two seeds."
    )


def losses(
    run_dir: Path, corpus_dir: Path, steps: int, precision: Precision, seed: int
) -> list[float]:
    """Train the preset ``small`` and return the loss of each step.

    The seed is that of the weights; the data come in the same order in every run.
    """
    training = {
        "batch_size": BATCH_SIZE,
        "max_steps": steps,
        "warmup_steps": steps // 10,
        "log_every": 1,
        "eval_every": steps,
        "eval_sequences": 1,
        "checkpoint_every": steps,
        "precision": precision,
        "seed": seed,
    }
    run = create_run(run_dir, corpus_dir, preset="small", training=training)
    corpus = Corpus.open(corpus_dir)
    facts = corpus_facts(corpus, corpus_dir)
    trainer = Trainer(resolved_run(run, facts), corpus, default_device())
    trainer.order.seed = 0
    curve = Curve()
    trainer.train(curve, lambda: False, no_progress)
    return curve.losses


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
