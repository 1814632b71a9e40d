"""What programs can do with training runs."""

from typing import Annotated, Any, Literal

from fastapi import Path, Query

from app.programs.body import Body, Items
from app.programs.operation import Family
from app.services.services import Services
from app.services.views import curves as curve_views
from app.services.views import runs as views
from app.services.views.examples import CORPUS_ID
from app.services.views.generations import Generation

FAMILY = Family("runs", "/runs")
StepNumber = Annotated[int, Path(ge=0, le=2**53)]
SinceStep = Annotated[int, Query(ge=0, le=2**53, description="Only points of this step and later.")]
WITHOUT_NUL = r"^[^\x00]*$"
"""PostgreSQL cannot compare text with NUL in it."""
RunIds = Annotated[
    str,
    Query(max_length=400, pattern=WITHOUT_NUL, description="Ids of runs, with commas between."),
]
RunAction = Literal["pause", "resume", "stop"]
SETTINGS_EXAMPLE = {
    "corpus_id": CORPUS_ID,
    "preset": "tiny",
    "training": {"max_steps": 2000, "batch_size": 16},
}


class Settings(Body):
    """What a run would be trained with."""

    corpus_id: str
    preset: str | None = None
    base: str | None = None
    revision: str | None = None
    mode: str | None = None
    model: dict[str, Any] | None = None
    training: dict[str, Any] | None = None


class NewRun(Settings):
    """Starts a training run."""

    name: str
    after: str | None = None
    priority: int = 0
    parent_id: str | None = None


class Duplicate(Body):
    """Starts a run with the settings of another one; what is given replaces them by name."""

    name: str | None = None
    model: dict[str, Any] | None = None
    training: dict[str, Any] | None = None


class Extension(Body):
    """Lets a run go on to a later last step."""

    max_steps: int


class CheckpointChange(Body):
    """Keeps a checkpoint, or lets it go when newer ones come."""

    pinned: bool


class RunChange(Body):
    """Changes what is said about a run; what is left out stays as it is."""

    name: str | None = None
    tags: Items[str] | None = None
    notes: str | None = None


@FAMILY.get("", view=views.Runs, items="runs")
def list_(
    services: Services,
    tag: Annotated[
        str | None, Query(pattern=WITHOUT_NUL, description="Only runs with this tag.")
    ] = None,
) -> Any:
    """All runs, or those with a tag, the newest first, without checkpoints and notes."""
    return services.runs.list_runs(tag)


@FAMILY.post("", status=202, view=views.Run, example={"name": "First model", **SETTINGS_EXAMPLE})
def create(services: Services, body: NewRun) -> Any:
    """Make a run and submit its training, which waits for a build that is under way.

    The presets are at /api/v1/presets; `model` and `training` replace their fields by name. With
    `base` (smollm2-135m, a name on the Hub or a folder) a pretrained model is trained, in the
    `mode` gates, lora or full; where the corpus was not cut by its tokenizer, a copy is built. With
    `after`, it waits until that run has succeeded.
    """
    return services.runs.create(**body.model_dump())


@FAMILY.post("/estimate", view=views.Estimate, reads=True, example=SETTINGS_EXAMPLE)
def estimate(services: Services, body: Settings) -> Any:
    """Parameters, memory and time of a run, without making it.

    `memory` is in bytes, part by part, and `memory_checkpointed` the same with
    `gradient_checkpointing`. `basis` says where the speed behind `seconds` comes from.
    """
    return services.estimates.estimate(**body.model_dump())


@FAMILY.get("/curves", view=curve_views.Curves, items="runs")
def curves(
    services: Services,
    ids: RunIds,
    names: Annotated[
        str | None,
        Query(max_length=400, pattern=WITHOUT_NUL, description="Names with commas between."),
    ] = None,
    since_step: SinceStep = 0,
    max_points: Annotated[int, Query(ge=2, le=1500)] = 1500,
) -> Any:
    """What up to 8 runs measured, as lists of steps and values.

    Beside what is measured there is `val_loss_gap`: the validation loss with retrieval off minus
    on. Long curves are thinned; both ends and all extremes stay.
    """
    return services.curves.curves(
        _parts(ids),
        names=None if names is None else _parts(names),
        since_step=since_step,
        max_points=max_points,
    )


@FAMILY.get("/compare", view=curve_views.Comparison)
def compare(services: Services, ids: RunIds) -> Any:
    """Results and settings of up to 8 runs side by side.

    `settings` has one row per setting with the value in each run, and whether they differ.
    """
    return services.comparison.compare(_parts(ids))


@FAMILY.get("/{run_id}", view=views.Run, function_name="get_run", tool="get_run")
def get(services: Services, run_id: str) -> Any:
    """One training run with its settings, checkpoints, alerts, tags and notes.

    States: queued, starting, running, paused, succeeded, failed, canceled, interrupted.
    """
    return services.runs.get(run_id)


@FAMILY.patch(
    "/{run_id}",
    view=views.Run,
    example={"name": "baseline", "tags": ["baseline", "paper"], "notes": "Two neighbors, seed 0."},
)
def change(services: Services, run_id: str, body: RunChange) -> Any:
    """Rename a run, replace its tags or its notes.

    At most 20 tags of 1 to 40 printable characters; notes of at most 20,000 characters.
    """
    return services.runs.change(run_id, **body.model_dump())


@FAMILY.delete("/{run_id}")
def delete(services: Services, run_id: str) -> None:
    """Delete a run and its checkpoints.

    Refused while it waits or trains. Texts it wrote are kept.
    """
    services.runs.delete(run_id)


@FAMILY.get("/{run_id}/recipe", view=views.Recipe)
def recipe(services: Services, run_id: str) -> Any:
    """The command line and the Python script that train the same run without the app."""
    return services.runs.recipe(run_id)


@FAMILY.post("/{run_id}/write", status=202, view=Generation)
def write(services: Services, run_id: str) -> Any:
    """Start a text from the newest checkpoint, with a prompt from held-out text."""
    return services.doors.write(run_id)


@FAMILY.post(
    "/{run_id}/duplicate",
    status=202,
    view=views.Run,
    example={"training": {"learning_rate": 0.0003}},
)
def duplicate(services: Services, run_id: str, body: Duplicate | None = None) -> Any:
    """Start a run with the settings of this one, some of them changed."""
    return services.runs.duplicate(run_id, **(body or Duplicate()).model_dump())


@FAMILY.post("/{run_id}/extend", status=202, view=views.Run, example={"max_steps": 4000})
def extend(services: Services, run_id: str, body: Extension) -> Any:
    """Go on to a later last step; the learning rate follows its schedule to the new end."""
    return services.runs.extend(run_id, body.max_steps)


@FAMILY.patch("/{run_id}/checkpoints/{step}", view=views.Run, example={"pinned": True})
def change_checkpoint(
    services: Services, run_id: str, step: StepNumber, body: CheckpointChange
) -> Any:
    """Keep a checkpoint when newer ones come, or let it go as others do."""
    return services.runs.pin(run_id, step, pinned=body.pinned)


@FAMILY.post("/{run_id}/{action}", status=202, view=views.Run)
def act(services: Services, run_id: str, action: RunAction) -> Any:
    """Pause or stop with a checkpoint, or go on from the newest one."""
    actions = {
        "pause": services.runs.pause,
        "resume": services.runs.resume,
        "stop": services.runs.stop,
    }
    return actions[action](run_id)


@FAMILY.get("/{run_id}/metrics", view=views.Points, items="points")
def metrics(
    services: Services,
    run_id: str,
    name: Annotated[
        str | None, Query(pattern=WITHOUT_NUL, description="Only this measurement.")
    ] = None,
    since_step: SinceStep = 0,
    max_points: Annotated[int, Query(ge=2, le=10_000)] = 1500,
) -> Any:
    """Measured values, thinned to at most `max_points` for each name.

    Names are `train_loss`, `val_loss_on`, `val_loss_off`, `val_loss_shuffled`, `val_loss_base`
    (of a pretrained model before its training), `learning_rate`, `gradient_norm` and
    `tokens_per_second`.
    """
    return services.curves.metrics(run_id, name, since_step, max_points)


@FAMILY.get("/{run_id}/samples", view=views.SampleTexts, items="samples")
def samples(services: Services, run_id: str) -> Any:
    """What the model wrote at each measurement: the same beginning and seed, by step."""
    return services.runs.samples(run_id)


def _parts(text: str) -> list[str]:
    return [part for part in (piece.strip() for piece in text.split(",")) if part]
