"""The REST routes under ``/api/v1/runs``."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from app.api.body import Body
from app.services.services import Services

Json = dict[str, Any]
StepNumber = Annotated[int, Path(ge=0, le=2**53)]
RunAction = Literal["pause", "resume", "stop"]


class NewRun(Body):
    """Starts a training run."""

    name: str
    corpus_id: str
    preset: str | None = None
    model: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    after: str | None = None
    priority: int = 0


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
    """Renames a run."""

    name: str


def make_router(services: Services) -> APIRouter:
    """Return the routes of runs."""
    router = APIRouter(tags=["runs"], prefix="/runs")

    @router.get("")
    def list_runs() -> Json:
        """All runs."""
        return {"runs": services.runs.list_runs()}

    @router.post("", status_code=202)
    def create(body: NewRun) -> Json:
        """Start a run."""
        return services.runs.create(
            body.name,
            body.corpus_id,
            preset=body.preset,
            model=body.model,
            training=body.training,
            after=body.after,
            priority=body.priority,
        )

    @router.get("/{run_id}")
    def get(run_id: str) -> Json:
        """One run with its checkpoints."""
        return services.runs.get(run_id)

    @router.patch("/{run_id}")
    def change(run_id: str, body: RunChange) -> Json:
        """Rename a run."""
        return services.runs.rename(run_id, body.name)

    @router.delete("/{run_id}", status_code=204)
    def delete(run_id: str) -> Response:
        """Delete a run and its checkpoints."""
        services.runs.delete(run_id)
        return Response(status_code=204)

    @router.post("/{run_id}/write", status_code=202)
    def write(run_id: str) -> Json:
        """Start a text from the newest checkpoint, with a prompt from held-out text."""
        return services.doors.write(run_id)

    @router.post("/{run_id}/duplicate", status_code=202)
    def duplicate(run_id: str, body: Duplicate | None = None) -> Json:
        """Start a run with the settings of this one, some of them changed."""
        wanted = body or Duplicate()
        return services.runs.duplicate(
            run_id, name=wanted.name, model=wanted.model, training=wanted.training
        )

    @router.post("/{run_id}/extend", status_code=202)
    def extend(run_id: str, body: Extension) -> Json:
        """Go on to a later last step."""
        return services.runs.extend(run_id, body.max_steps)

    @router.patch("/{run_id}/checkpoints/{step}")
    def change_checkpoint(run_id: str, step: StepNumber, body: CheckpointChange) -> Json:
        """Keep a checkpoint when newer ones come, or let it go as others do."""
        return services.runs.pin(run_id, step, pinned=body.pinned)

    @router.post("/{run_id}/{action}", status_code=202)
    def act(run_id: str, action: RunAction) -> Json:
        """Pause, resume or stop a run."""
        actions = {
            "pause": services.runs.pause,
            "resume": services.runs.resume,
            "stop": services.runs.stop,
        }
        return actions[action](run_id)

    @router.get("/{run_id}/metrics")
    def metrics(
        run_id: str,
        name: str | None = None,
        since_step: Annotated[int, Query(ge=0, le=2**53)] = 0,
        max_points: Annotated[int, Query(ge=2, le=10_000)] = 1500,
    ) -> Json:
        """Measured values, thinned."""
        return {"points": services.runs.metrics(run_id, name, since_step, max_points)}

    return router
