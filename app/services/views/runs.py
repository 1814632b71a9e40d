"""What the routes of one training run answer."""

from typing import Annotated, Literal

from pydantic import ConfigDict

from app.services.views.base import Json, Stored, View, left_out
from app.services.views.run_examples import (
    CHECKPOINT,
    ESTIMATE,
    POINT,
    RECIPE,
    RUN,
    RUN_SUMMARY,
    SAMPLE_TEXT,
    TRAINED_BASE,
)
from app.services.views.system import Device
from jobs.store.states import RunState
from retro.config.model import ModelConfig
from retro.config.pretrained import PretrainedConfig
from retro.config.training import TrainingConfig


class ResolvedSettings(View):
    """All settings that a run is trained with."""

    model_config = ConfigDict(json_schema_extra={"examples": [TRAINED_BASE]})

    model: ModelConfig | PretrainedConfig
    """Sizes of its model, or which pretrained model it is and what is trained in it."""
    training: TrainingConfig
    """How it is trained."""


class RunSettings(View):
    """What was asked for when a run was made, and what it came to."""

    preset: str
    """Size of the model that the other settings start from, or mode of a pretrained model."""
    model: Json
    """Fields of the model that replace those of the preset, by name; any of ``resolved.model``."""
    training: Json
    """Fields of the training that replace those of the preset, by name; any of
    ``resolved.training``."""
    parameters: int
    """Weights of the model."""
    resolved: ResolvedSettings = left_out()
    """All settings; only from the beginning of the training on."""


class RunSummary(View):
    """A training run without its checkpoints."""

    model_config = ConfigDict(json_schema_extra={"example": RUN_SUMMARY})

    id: str
    """Id of the run."""
    name: str
    """Its name, for people."""
    corpus_id: str
    """Corpus that it learns and retrieves from."""
    corpus_name: str
    """Name of that corpus."""
    settings: Annotated[Json, Stored(RunSettings)]
    """What it is trained with."""
    state: RunState
    """Where it stands, as its newest job does; ``paused`` and ``interrupted`` can be resumed."""
    step: int
    """Optimizer steps it has taken."""
    total_steps: int
    """Its last step."""
    job_id: str | None
    """Its newest job."""
    parent_id: str | None
    """Run whose settings it took over; that one may be deleted."""
    tags: list[str]
    """Words to find it by, in alphabetical order."""
    corpus_version: int | None
    """Version of the corpus that it is trained on, counted from 1; null until it has begun."""
    message: str
    """What there is to know about it, for people; may be empty."""
    created_at: float
    """When it was made, UTC seconds."""
    updated_at: float
    """When it last changed, UTC seconds."""


class Checkpoint(View):
    """A checkpoint of a run."""

    model_config = ConfigDict(json_schema_extra={"example": CHECKPOINT})

    step: int
    """Optimizer steps that it was written after."""
    val_loss_on: float | None
    """Validation loss with retrieval, in nats per token; null where none was measured then."""
    val_loss_off: float | None
    """The same without retrieval."""
    bytes: int
    """Bytes of its files."""
    is_best: bool
    """Whether its validation loss with retrieval is the lowest of all."""
    is_pinned: bool
    """Whether it is kept when newer ones come."""
    created_at: float
    """When it was recorded, UTC seconds."""


class Alert(View):
    """Something about the training of a run that a person should know."""

    kind: str
    """``nan``: a value is not finite, which ends the run; ``plateau``: the validation loss no
    longer falls; ``rising``: it rises; ``damaged``: a checkpoint was set aside."""
    step: int
    """Optimizer step, counted from 1."""
    message: str
    """The rule, the value found and the next step, for people."""
    at: float
    """When it was noticed, UTC seconds."""


class WritableRun(RunSummary):
    """A training run that can write, with its checkpoints."""

    checkpoints: list[Checkpoint]
    """Its checkpoints, by step."""


class Run(WritableRun):
    """A training run with its checkpoints."""

    model_config = ConfigDict(json_schema_extra={"example": RUN})

    notes: str
    """What a person wrote about it, plain text."""
    alerts: list[Alert]
    """What a person should know, the oldest first."""


class Runs(View):
    """Runs, the newest first."""

    runs: list[RunSummary]
    """The runs."""


class Point(View):
    """One measured value."""

    model_config = ConfigDict(json_schema_extra={"example": POINT})

    name: str
    """What was measured. Losses (``train_loss``, ``val_loss_on``, ``val_loss_off``,
    ``val_loss_shuffled`` and, of a pretrained model before its training, ``val_loss_base``) are
    in nats per token."""
    step: int
    """Optimizer step after which it was measured."""
    value: float
    """The value."""


class Points(View):
    """Measured values, by name and step."""

    points: list[Point]
    """The values."""


class SampleText(View):
    """What the model of a run wrote after some steps."""

    model_config = ConfigDict(json_schema_extra={"example": SAMPLE_TEXT})

    step: int
    """Optimizer steps taken."""
    prompt: str
    """The beginning of a held-out document, the same at every step."""
    text: str
    """What the model wrote behind it, always with the same seed."""
    num_neighbors: int
    """Neighbors that its chunks read."""


class SampleTexts(View):
    """Sample texts of a run, by step."""

    samples: list[SampleText]
    """The texts."""


class TrainingMemory(View):
    """Bytes of memory that training needs at its peak."""

    weights: int
    """The weights."""
    gradients: int
    """Their gradients."""
    moments: int
    """The two moments of AdamW."""
    activations: int
    """Inner states that are kept for the gradient, and what is computed from them."""
    program: int
    """Python and its libraries."""
    total: int
    """All of it."""


class EstimateBasis(View):
    """Where the speed of an estimate comes from."""

    kind: Literal["measured", "rough"]
    """``measured`` on this host by a run much like it, or ``rough`` from figures of the device."""
    run: str | None
    """Name of the run that measured it; null for a rough figure."""
    flops_per_second: float
    """Floating-point operations per second that training reaches."""
    text: str
    """The same for people, as the end of a sentence."""


class Estimate(View):
    """What a run would need."""

    model_config = ConfigDict(json_schema_extra={"example": ESTIMATE})

    parameters: int
    """Weights of the model."""
    trained: int
    """Those that training changes, what it adds included."""
    memory: TrainingMemory
    """Memory without gradient checkpointing."""
    memory_checkpointed: TrainingMemory
    """Memory with gradient checkpointing."""
    needed_bytes: int
    """Bytes of memory with the wanted settings: the total of one of these two."""
    checkpoint_bytes: int
    """Most bytes that its checkpoints take up on the disk at a time."""
    device: Device
    """What it would be trained on: the first device of this host."""
    fits: bool | None
    """Whether the device has the memory; null where it does not report how much it has."""
    seconds: float
    """Time of the whole training, seconds."""
    tokens_per_second: float
    """Speed of the training."""
    basis: EstimateBasis
    """Where that speed comes from."""


class Recipe(View):
    """How to train a run again without the app."""

    model_config = ConfigDict(json_schema_extra={"example": RECIPE})

    command: str
    """A command line, in several lines."""
    python: str
    """A Python script."""
