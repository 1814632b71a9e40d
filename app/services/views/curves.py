"""What the routes that show several runs side by side answer."""

from typing import Any, Literal

from pydantic import ConfigDict

from app.services.views.base import View
from app.services.views.run_examples import COMPARISON, CURVES
from jobs.store.states import RunState


class Curve(View):
    """What was measured under one name; both lists are equally long."""

    steps: list[int]
    """Optimizer steps, rising."""
    values: list[float]
    """The value at each of them."""


class RunCurves(View):
    """The curves of a run."""

    id: str
    """Id of the run."""
    name: str
    """Its name."""
    state: RunState
    """Where it stands."""
    step: int
    """Optimizer steps it has taken."""
    total_steps: int
    """Its last step."""
    job_id: str | None
    """Its newest job."""
    curves: dict[str, Curve]
    """Curves by the name of what was measured. Losses are in nats per token, and ``val_loss_gap``
    is the validation loss without retrieval minus that with it."""


class Curves(View):
    """The curves of several runs."""

    model_config = ConfigDict(json_schema_extra={"example": CURVES})

    runs: list[RunCurves]
    """The runs, in the order of the ids."""


class ComparedRun(View):
    """What came of a run."""

    id: str
    """Id of the run."""
    name: str
    """Its name."""
    state: RunState
    """Where it stands."""
    step: int
    """Optimizer steps it has taken."""
    total_steps: int
    """Its last step."""
    preset: str | None
    """Size of the model that its settings start from."""
    parameters: int | None
    """Weights of its model."""
    corpus_id: str
    """Corpus that it learns and retrieves from."""
    corpus_name: str
    """Name of that corpus."""
    corpus_version: int | None
    """Version of the corpus that it is trained on, counted from 1; null until it has begun."""
    tags: list[str]
    """Words to find it by, in alphabetical order."""
    train_loss: float | None
    """Newest training loss, in nats per token; null, like the next ones, before the first."""
    val_loss_on: float | None
    """Newest validation loss with retrieval, in nats per token."""
    val_loss_off: float | None
    """Newest validation loss without retrieval, in nats per token."""
    val_loss_gap: float | None
    """``val_loss_off`` minus ``val_loss_on``: what retrieval gains, in nats per token."""
    best_val_loss_on: float | None
    """Lowest validation loss with retrieval, in nats per token."""
    best_step: int | None
    """Optimizer step of that."""
    tokens_per_second: float | None
    """Newest speed of its training."""
    seconds: float | None
    """How long jobs worked on it, seconds; null before the first started."""


class ComparedSetting(View):
    """A setting, and its value in each run."""

    group: Literal["run", "training", "model"]
    """What it is a setting of; ``run`` has the preset alone."""
    name: str
    """Its name."""
    values: list[Any]
    """Its value in each run, in the order of ``runs``; null where a run lacks it."""
    differs: bool
    """Whether the runs have different values."""


class Comparison(View):
    """Results and settings of several runs side by side."""

    model_config = ConfigDict(json_schema_extra={"example": COMPARISON})

    runs: list[ComparedRun]
    """The runs, in the order of the ids."""
    settings: list[ComparedSetting]
    """Their settings, those that differ first."""
    metrics: list[str]
    """Names of what any of them measured, in alphabetical order."""
