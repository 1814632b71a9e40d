"""What the command line shows while it works."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from tqdm import tqdm

from retro.checkpoints import CheckpointRecord
from retro.errors import ConfigError
from retro.json_files import parse_json
from retro.places import check_place
from retro.run_samples import SampleWriter
from retro.training.alerts import Alert

Subparsers: TypeAlias = "argparse._SubParsersAction[OneLineParser]"
"""What a command adds its parser to; argparse has no public name for it."""
if TYPE_CHECKING:
    from retro.model.language_model import LanguageModel

METRICS_NAME = "metrics.jsonl"
LONGEST_MESSAGE = 500


class OneLineParser(argparse.ArgumentParser):
    """Reports a wrong argument in one line and exits with 1."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit."""
        # It may repeat what was given, with its line breaks.
        line = " ".join(message.split())[:LONGEST_MESSAGE].rstrip(".")
        sys.stderr.write(f"{self.prog}: {line}. See {self.prog} --help.\n")
        raise SystemExit(1)


def place(text: str) -> Path:
    """Return an argument that names a file or a folder."""
    return _checked(text, is_new=False)


def new_place(text: str) -> Path:
    """Return an argument that names a file or a folder that may have to be made."""
    return _checked(text, is_new=True)


def place_or_name(text: str) -> str:
    """Return an argument that names a folder or something on the Hub, as it was given."""
    _checked(text, is_new=False)
    return text


def _checked(text: str, *, is_new: bool) -> Path:
    try:
        return check_place("it", text, is_new=is_new)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class Bars:
    """Shows one progress bar per stage; where there is no terminal, one line per stage."""

    def __init__(self) -> None:
        self.bar: tqdm[Any] | None = None
        self.stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show where a stage is."""
        if stage != self.stage:
            self.close()
            self.stage = stage
            if not sys.stderr.isatty():
                sys.stderr.write(f"{stage} ...\n")
                sys.stderr.flush()
        if self.bar is None:
            self.bar = tqdm(desc=stage, disable=None, file=sys.stderr, dynamic_ncols=True)
        self.bar.total = total
        self.bar.n = done
        self.bar.refresh()

    def close(self) -> None:
        """End the present bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class MetricsFile:
    """Prints measurements and keeps them beside the run, one JSON object per line.

    Sample texts are printed and kept as well.

    Args:
        run_dir: Folder of the run.
        corpus_dir: Folder of its corpus.
        note: What to print once the run goes on.
    """

    def __init__(self, run_dir: Path, corpus_dir: Path, note: str | None = None) -> None:
        self.path = run_dir / METRICS_NAME
        self.samples = SampleWriter(run_dir, corpus_dir)
        self.note = note

    def on_resume(self, step: int) -> None:
        """Drop what lies after the checkpoint: it is measured again."""
        if step:
            tqdm.write(f"going on after step {step}")
        if self.note is not None:
            tqdm.write(self.note)
        self.samples.forget_after(step)
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in lines if _step_of(line) <= step]
        self.path.write_text("".join(f"{line}\n" for line in kept))

    def on_metrics(self, step: int, values: dict[str, float]) -> None:
        """Print and keep measurements."""
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if "val_loss_on" in values:
            tqdm.write(
                f"step {step}: validation loss {values['val_loss_on']:.3f} with retrieval, "
                f"{values['val_loss_off']:.3f} without, "
                f"{values['val_loss_shuffled']:.3f} with the neighbors of other chunks"
            )
        elif step % 25 == 0:
            tqdm.write(
                f"step {step}: training loss {values['train_loss']:.3f}, "
                f"{values['tokens_per_second']:.0f} tokens/s"
            )

    def on_validated(self, step: int, model: "LanguageModel") -> None:
        """Print and keep a sample text."""
        if (sample := self.samples.write(step, model)) is not None:
            tqdm.write(f"step {step} writes: {' '.join(sample.text.split())}")

    def on_saving(self, step: int) -> None:
        """Nothing is left to store: each measurement is written at once."""

    def on_checkpoint(self, record: CheckpointRecord) -> None:
        """Print where a checkpoint is."""
        tqdm.write(f"checkpoint {record.path.name}, {record.size_bytes / 2**20:.0f} MB")

    def on_checkpoint_deleted(self, step: int) -> None:
        """Stay silent: old checkpoints go as announced."""

    def on_alert(self, alert: Alert) -> None:
        """Print what a person should hear; an error that follows is printed by itself."""
        if alert.kind != "nan":
            tqdm.write(f"warning: {alert.message}", file=sys.stderr)


def _step_of(line: str) -> int:
    try:
        return int(parse_json(line)["step"])
    except (ValueError, KeyError, TypeError):
        # The last line of a process that was killed while writing it.
        return sys.maxsize
