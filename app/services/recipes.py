"""A run as a command line and as Python: the same training without the app."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pprint import pformat
from typing import Any

from retro.model.choices import BASE, kind_of
from retro.model.kinds import PRETRAINED_KIND

OPTIONS = ("max_steps", "batch_size", "learning_rate", "sequence_length", "seed")
"""Settings of training that have an option of their own."""

SCRIPT = """from pathlib import Path

from retro.run import CONFIG_NAME, create_run
from retro.training.trainer import train

CORPUS = Path({corpus!r})
RUN = Path({run!r})

if __name__ == "__main__":
    if not (RUN / CONFIG_NAME).exists():
        create_run(
            RUN,
            CORPUS,
            preset={preset!r},
            model={model},
            training={training},
        )
    result = train(RUN)
    print(f"step {{result.step}}: validation loss {{result.val_loss_on}}")
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What is needed to train a run again."""

    name: str
    corpus_dir: Path
    preset: str
    model: Mapping[str, Any]
    training: Mapping[str, Any]

    @property
    def run_dir(self) -> str:
        """A folder named like the run."""
        words = re.sub(r"[^A-Za-z0-9]+", "-", self.name).strip("-").lower()
        return f"runs/{words[:60] or 'run'}"


def as_command(recipe: Recipe) -> str:
    """Return the command line, one setting per line."""
    lines = [
        f"python -m retro train {shlex.quote(str(recipe.corpus_dir))}",
        f"--out {shlex.quote(recipe.run_dir)}",
        *_kind_options(recipe),
    ]
    for name in OPTIONS:
        if name in recipe.training:
            lines.append(f"--{name.replace('_', '-')} {_assigned(recipe.training[name])}")
    for name, value in recipe.training.items():
        if name not in OPTIONS:
            lines.append(f"--training {shlex.quote(f'{name}={_plain(value)}')}")
    for name, value in recipe.model.items():
        if name in (BASE, "revision"):
            continue
        lines.append(f"--model {shlex.quote(f'{name}={_plain(value)}')}")
    return " \\\n  ".join(lines)


def _kind_options(recipe: Recipe) -> list[str]:
    """Return the options that say what is trained: RETRO of a size, or a pretrained model."""
    if kind_of(recipe.model) != PRETRAINED_KIND:
        return [f"--preset {shlex.quote(recipe.preset)}"]
    named = [
        f"--{name} {_assigned(recipe.model[name])}"
        for name in (BASE, "revision")
        if name in recipe.model
    ]
    return [*named, f"--mode {shlex.quote(recipe.preset)}"]


def as_python(recipe: Recipe) -> str:
    """Return a script; processes that prepare batches can import it again."""
    return SCRIPT.format(
        corpus=str(recipe.corpus_dir),
        run=recipe.run_dir,
        preset=recipe.preset,
        model=_as_dict(recipe.model),
        training=_as_dict(recipe.training),
    )


def _as_dict(values: Mapping[str, Any]) -> str:
    shown = pformat(dict(values), sort_dicts=False, width=76)
    return shown.replace("\n", "\n" + " " * 12)


def _assigned(value: Any) -> str:
    return shlex.quote(_plain(value))


def _plain(value: Any) -> str:
    """Return a value as the command line reads it: JSON, or text that is no JSON."""
    return value if isinstance(value, str) else json.dumps(value)
