"""The REST routes under ``/api/v1``. They only translate; the services do the work."""

from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.api_generations import make_generation_router
from app.multipart import read_files
from app.requests import (
    BuildRequest,
    CopyRequest,
    NewCorpus,
    NewRun,
    RunAction,
    RunChange,
    SearchRequest,
)
from app.services.runs import list_presets
from app.services.services import Services

Json = dict[str, Any]

ALL_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def make_router(services: Services) -> APIRouter:
    """Return all routes below ``/api/v1``."""
    router = APIRouter(prefix="/api/v1")
    router.include_router(_system_routes(services))
    router.include_router(_corpus_routes(services))
    router.include_router(_job_routes(services))
    router.include_router(_run_routes(services))
    router.include_router(make_generation_router(services))
    return router


def _system_routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["system"])

    @router.get("/system")
    def system() -> Json:
        """Devices, versions, disk, worker."""
        return services.system.describe()

    @router.get("/presets")
    def presets() -> Json:
        """Model sizes to choose from."""
        return {"presets": list_presets()}

    return router


def _corpus_routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["corpora"], prefix="/corpora")

    @router.get("")
    def list_corpora() -> Json:
        """All corpora."""
        return {"corpora": services.corpora.list_corpora()}

    @router.post("", status_code=201)
    def create(body: NewCorpus) -> Json:
        """Make a corpus, empty or filled with a sample."""
        return services.corpora.create(body.name, sample=body.sample, settings=body.settings)

    @router.get("/{corpus_id}")
    def get(corpus_id: str) -> Json:
        """State, counts, settings."""
        return services.corpora.get(corpus_id)

    @router.delete("/{corpus_id}", status_code=204)
    def delete(corpus_id: str) -> Response:
        """Delete a corpus and free its disk."""
        services.corpora.delete(corpus_id)
        return Response(status_code=204)

    @router.post("/{corpus_id}/files")
    async def add_files(corpus_id: str, request: Request) -> Json:
        """Take files: parts ``files``, and a part ``paths`` per file with its relative path."""
        await run_in_threadpool(services.uploads.check_open, corpus_id)
        async with read_files(request, services.uploads.limits) as files:
            return await run_in_threadpool(services.uploads.add, corpus_id, files)

    @router.post("/{corpus_id}/build", status_code=202)
    def build(corpus_id: str, body: BuildRequest | None = None) -> Json:
        """Submit a build."""
        return services.corpora.build(corpus_id, body.settings if body else None)

    @router.post("/{corpus_id}/copy", status_code=202)
    def copy(corpus_id: str, body: CopyRequest | None = None) -> Json:
        """Copy the documents into a new corpus and submit its build.

        With ``run_id``, the copy takes tokenizer and chunk size of that run's model, so that
        the model can write from it.
        """
        wanted = body or CopyRequest()
        return services.corpora.copy(corpus_id, name=wanted.name, run_id=wanted.run_id)

    @router.post("/{corpus_id}/train", status_code=202)
    def build_and_train(corpus_id: str) -> Json:
        """Submit a build, if one is needed, and a run with defaults that waits for it."""
        return services.doors.build_and_train(corpus_id)

    @router.get("/{corpus_id}/documents")
    def documents(
        corpus_id: str,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
    ) -> Json:
        """What is in a corpus."""
        return services.corpora.documents(corpus_id, limit, offset)

    @router.get("/{corpus_id}/chunks/{chunk_id}")
    def chunk(corpus_id: str, chunk_id: int) -> Json:
        """One chunk with its place and its neighbors."""
        return services.corpora.chunk(corpus_id, chunk_id)

    @router.post("/{corpus_id}/search")
    def search(corpus_id: str, body: SearchRequest) -> Json:
        """Find the nearest chunks."""
        return {"neighbors": services.corpora.search(corpus_id, body.text, body.k)}

    return router


def _job_routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["jobs"], prefix="/jobs")

    @router.get("")
    def list_jobs(
        state: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> Json:
        """The queue and what ended, newest first."""
        return {"jobs": services.jobs.list_jobs(state, limit)}

    @router.get("/{job_id}")
    def get(job_id: str) -> Json:
        """One job."""
        return services.jobs.get(job_id)

    @router.get("/{job_id}/log")
    def log(job_id: str, lines: Annotated[int, Query(ge=1, le=2000)] = 200) -> Json:
        """The end of its log."""
        return {"log": services.jobs.log(job_id, lines)}

    @router.post("/{job_id}/cancel")
    def cancel(job_id: str) -> Json:
        """Ask it to stop."""
        return services.jobs.cancel(job_id)

    @router.post("/{job_id}/retry", status_code=202)
    def retry(job_id: str) -> Json:
        """Submit it again."""
        return services.jobs.retry(job_id)

    return router


def _run_routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["runs"], prefix="/runs")

    @router.get("")
    def list_runs() -> Json:
        """All runs."""
        return {"runs": services.runs.list_runs()}

    @router.post("", status_code=202)
    def create(body: NewRun) -> Json:
        """Start a run."""
        return services.runs.create(
            body.name, body.corpus_id, preset=body.preset, model=body.model, training=body.training
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

    @router.post("/{run_id}/{action}", status_code=202)
    def act(run_id: str, action: RunAction) -> Json:
        """Pause, resume, stop or duplicate a run."""
        actions = {
            "pause": services.runs.pause,
            "resume": services.runs.resume,
            "stop": services.runs.stop,
            "duplicate": services.runs.duplicate,
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


def make_last_router(app: FastAPI) -> APIRouter:
    """Return a route for what no other one below ``/api`` takes; include it last.

    Without it such requests would end up among the pages.
    """
    router = APIRouter()

    @router.api_route("/api/{path:path}", methods=list(ALL_METHODS), include_in_schema=False)
    def nothing(request: Request) -> Response:
        known = any(route.matches(request.scope)[0] is Match.PARTIAL for route in app.routes)
        raise HTTPException(405 if known else 404)

    return router
