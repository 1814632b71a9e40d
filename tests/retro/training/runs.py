"""What several tests of training need: short runs, and listeners that remember."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from retro.checkpoints import CheckpointRecord, checkpoint_name
from retro.run import Run, create_run
from retro.training.alerts import Alert
from retro.training.trainer import SilentListener, TrainResult, train
from tests.conftest import TINY_MODEL, TINY_TRAINING

CPU = torch.device("cpu")


class Recorder(SilentListener):
    """Keeps everything it hears, in the order in which it came."""

    def __init__(self) -> None:
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.events: list[tuple[str, int]] = []
        self.alerts: list[Alert] = []

    def on_metrics(self, step: int, values: dict[str, float]) -> None:
        self.metrics.append((step, values))

    def on_checkpoint(self, record: CheckpointRecord) -> None:
        self.events.append(("saved", record.step))

    def on_checkpoint_deleted(self, step: int) -> None:
        self.events.append(("deleted", step))

    def on_resume(self, step: int) -> None:
        self.events.append(("resumed", step))

    def on_alert(self, alert: Alert) -> None:
        self.alerts.append(alert)
        self.events.append((alert.kind, alert.step))

    def steps(self, event: str) -> list[int]:
        return [step for name, step in self.events if name == event]

    def values(self, name: str) -> list[tuple[int, float]]:
        return [(step, values[name]) for step, values in self.metrics if name in values]

    def measured(self) -> list[tuple[int, dict[str, float]]]:
        """Return all that was measured but the speed, which differs from run to run."""
        return [(step, without_speed(values)) for step, values in self.metrics]


def without_speed(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if name != "tokens_per_second"}


class StopAfter:
    """Asks for a stop after a number of steps; it is asked once before the first."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def make_run(folder: Path, corpus_dir: Path, **training: object) -> Run:
    """Return a run with dropout, so that its random states matter."""
    return create_run(
        folder,
        corpus_dir,
        model={**TINY_MODEL, "dec_ff_dropout": 0.1},
        training={**TINY_TRAINING, **training},
    )


def go(
    run: Run,
    listener: SilentListener | None = None,
    stop: Callable[[], bool] = lambda: False,
    *,
    max_steps: int | None = None,
) -> TrainResult:
    return train(run.path, device=CPU, listener=listener, should_stop=stop, max_steps=max_steps)


def checkpoint_content(run: Run, step: int) -> dict[str, object]:
    """Return everything a checkpoint holds, bit for bit, as values that can be compared.

    The bytes of ``trainer.pt`` differ with the identity of equal strings in the process.
    """
    path = run.checkpoints_dir / checkpoint_name(step)
    return {
        "weights": (path / "model.safetensors").read_bytes(),
        "settings": json.loads((path / "manifest.json").read_bytes())["settings"],
        **dict(_leaves("", torch.load(path / "trainer.pt", weights_only=True))),
    }


def _leaves(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{name}/{key}", item)
    elif isinstance(value, torch.Tensor):
        yield name, (value.dtype, tuple(value.shape), value.numpy().tobytes())
    else:
        yield name, value


def folder_content(folder: Path) -> dict[str, bytes]:
    """Return path to content of all files below a folder but the lock."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "training.lock"
    }
