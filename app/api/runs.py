"""The REST routes under ``/api/v1/runs``."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse, Response
from pydantic import ConfigDict

from app.api.body import Body, Items
from app.api.idempotency import idempotent_route
from app.services.services import Services

Json = dict[str, Any]
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
    "corpus_id": "k3v9x2m1q8zt",
    "preset": "tiny",
    "model": {"dec_depth": 6},
    "training": {"max_steps": 2000, "learning_rate": 0.002},
}


def _example(value: Json) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


class NewRun(Body):
    """Starts a training run."""

    model_config = _example({"name": "six layers", **SETTINGS_EXAMPLE, "priority": 0})

    name: str
    corpus_id: str
    preset: str | None = None
    model: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    after: str | None = None
    priority: int = 0
    parent_id: str | None = None


class Settings(Body):
    """What a run would be trained with."""

    model_config = _example(SETTINGS_EXAMPLE)

    corpus_id: str
    preset: str | None = None
    model: dict[str, Any] | None = None
    training: dict[str, Any] | None = None


class Duplicate(Body):
    """Starts a run with the settings of another one; what is given replaces them by name."""

    model_config = _example({"name": "another seed", "training": {"seed": 1}})

    name: str | None = None
    model: dict[str, Any] | None = None
    training: dict[str, Any] | None = None


class Extension(Body):
    """Lets a run go on to a later last step."""

    model_config = _example({"max_steps": 2000})

    max_steps: int


class CheckpointChange(Body):
    """Keeps a checkpoint, or lets it go when newer ones come."""

    model_config = _example({"pinned": True})

    pinned: bool


class RunChange(Body):
    """Changes what is said about a run; what is left out stays as it is."""

    model_config = _example(
        {"name": "baseline", "tags": ["baseline", "paper"], "notes": "Two neighbors, seed 0."}
    )

    name: str | None = None
    tags: Items[str] | None = None
    notes: str | None = None


def make_router(services: Services) -> APIRouter:
    """Return the routes of runs."""
    router = APIRouter(tags=["runs"], prefix="/runs", route_class=idempotent_route(services.store))

    @router.get("", summary="List the runs")
    def list_runs(
        tag: Annotated[
            str | None, Query(pattern=WITHOUT_NUL, description="Only runs with this tag.")
        ] = None,
    ) -> Json:
        """All runs, or those with a tag, the newest first, without checkpoints and notes."""
        return {"runs": services.runs.list_runs(tag)}

    @router.post("", status_code=202, summary="Start a run")
    def create(body: NewRun) -> Json:
        """Make a run and submit its training, which waits for a build that is under way.

        `model` and `training` hold what is to differ from the preset. With `after`, another
        run must have succeeded first.
        """
        return services.runs.create(
            body.name,
            body.corpus_id,
            preset=body.preset,
            model=body.model,
            training=body.training,
            after=body.after,
            priority=body.priority,
            parent_id=body.parent_id,
        )

    @router.post("/estimate", summary="Estimate a run")
    def estimate(body: Settings) -> Json:
        """Parameters, memory and time of a run, without making it.

        `memory` is in bytes, part by part, and `memory_checkpointed` the same with
        `gradient_checkpointing`. `basis` says where the speed behind `seconds` comes from.
        """
        return services.estimates.estimate(
            body.corpus_id, preset=body.preset, model=body.model, training=body.training
        )

    @router.get("/curves", summary="Read curves of several runs")
    def curves(
        ids: RunIds,
        names: Annotated[
            str | None,
            Query(max_length=400, pattern=WITHOUT_NUL, description="Names with commas between."),
        ] = None,
        since_step: SinceStep = 0,
        max_points: Annotated[int, Query(ge=2, le=1500)] = 1500,
    ) -> Response:
        """What up to 8 runs measured, as lists of steps and values.

        Beside what is measured there is `val_loss_gap`: the validation loss with retrieval off
        minus on. Long curves are thinned; both ends and all extremes stay.
        """
        found = services.curves.curves(
            _parts(ids),
            names=None if names is None else _parts(names),
            since_step=since_step,
            max_points=max_points,
        )
        # Tens of thousands of plain numbers: nothing in them needs to be converted.
        return JSONResponse({"runs": found})

    @router.get("/compare", summary="Compare runs")
    def compare(ids: RunIds) -> Json:
        """Results and settings of up to 8 runs side by side.

        `settings` has one row per setting with the value in each run, and whether they differ.
        """
        return services.comparison.compare(_parts(ids))

    @router.get("/{run_id}", summary="Read a run")
    def get(run_id: str) -> Json:
        """One run with its settings, checkpoints, alerts, tags and notes."""
        return services.runs.get(run_id)

    @router.patch("/{run_id}", summary="Change name, tags or notes")
    def change(run_id: str, body: RunChange) -> Json:
        """Rename a run, replace its tags or its notes.

        At most 20 tags of 1 to 40 printable characters; notes of at most 20,000 characters.
        """
        return services.runs.change(run_id, name=body.name, tags=body.tags, notes=body.notes)

    @router.delete("/{run_id}", status_code=204, summary="Delete a run")
    def delete(run_id: str) -> Response:
        """Delete a run that is not at work, and its checkpoints; texts it wrote are kept."""
        services.runs.delete(run_id)
        return Response(status_code=204)

    @router.get("/{run_id}/recipe", summary="Read a run as a command and as Python")
    def recipe(run_id: str) -> Json:
        """The command line and the Python script that train the same run without the app."""
        return services.runs.recipe(run_id)

    @router.post("/{run_id}/write", status_code=202, summary="Write a text with a run")
    def write(run_id: str) -> Json:
        """Start a text from the newest checkpoint, with a prompt from held-out text."""
        return services.doors.write(run_id)

    @router.post("/{run_id}/duplicate", status_code=202, summary="Duplicate a run")
    def duplicate(run_id: str, body: Duplicate | None = None) -> Json:
        """Start a run with the settings of this one, some of them changed."""
        wanted = body or Duplicate()
        return services.runs.duplicate(
            run_id, name=wanted.name, model=wanted.model, training=wanted.training
        )

    @router.post("/{run_id}/extend", status_code=202, summary="Extend a run")
    def extend(run_id: str, body: Extension) -> Json:
        """Go on to a later last step; the learning rate follows its schedule to the new end."""
        return services.runs.extend(run_id, body.max_steps)

    @router.patch("/{run_id}/checkpoints/{step}", summary="Pin or unpin a checkpoint")
    def change_checkpoint(run_id: str, step: StepNumber, body: CheckpointChange) -> Json:
        """Keep a checkpoint when newer ones come, or let it go as others do."""
        return services.runs.pin(run_id, step, pinned=body.pinned)

    @router.post("/{run_id}/{action}", status_code=202, summary="Pause, resume or stop a run")
    def act(run_id: str, action: RunAction) -> Json:
        """Pause or stop with a checkpoint, or go on from the newest one."""
        actions = {
            "pause": services.runs.pause,
            "resume": services.runs.resume,
            "stop": services.runs.stop,
        }
        return actions[action](run_id)

    @router.get("/{run_id}/metrics", summary="Read what a run measured")
    def metrics(
        run_id: str,
        name: Annotated[
            str | None, Query(pattern=WITHOUT_NUL, description="Only this measurement.")
        ] = None,
        since_step: SinceStep = 0,
        max_points: Annotated[int, Query(ge=2, le=10_000)] = 1500,
    ) -> Response:
        """Measured values, thinned to at most `max_points` for each name.

        Names are `train_loss`, `val_loss_on`, `val_loss_off`, `val_loss_shuffled`,
        `learning_rate`, `gradient_norm` and `tokens_per_second`.
        """
        points = services.runs.metrics(run_id, name, since_step, max_points)
        return JSONResponse({"points": points})

    return router


def _parts(text: str) -> list[str]:
    return [part for part in (piece.strip() for piece in text.split(",")) if part]
