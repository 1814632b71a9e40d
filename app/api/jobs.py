"""The REST routes under ``/api/v1/jobs``."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse, StreamingResponse

from app.api.body import Body
from app.api.idempotency import idempotent_route
from app.services.services import Services

Json = dict[str, Any]


class JobChange(Body):
    """Changes the place of a job that waits; a higher priority starts first."""

    priority: int


def make_router(services: Services) -> APIRouter:
    """Return the routes of jobs."""
    router = APIRouter(tags=["jobs"], prefix="/jobs", route_class=idempotent_route(services.store))

    @router.get("")
    def list_jobs(
        state: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        kind: Annotated[str | None, Query(max_length=64)] = None,
        before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    ) -> Json:
        """The queue and what ended, newest first; ``before`` is a job's number."""
        return {"jobs": services.jobs.list_jobs(state, limit, kind=kind, before=before)}

    @router.get("/{job_id}")
    def get(job_id: str) -> Json:
        """One job."""
        return services.jobs.get(job_id)

    @router.get("/{job_id}/log")
    def log(job_id: str, lines: Annotated[int, Query(ge=1, le=2000)] = 200) -> Json:
        """The end of its log."""
        return {"log": services.jobs.log(job_id, lines)}

    @router.get("/{job_id}/log.txt", response_class=PlainTextResponse)
    def whole_log(job_id: str) -> StreamingResponse:
        """The whole log, as a file."""
        # Streamed, because the log of a job at work grows while it is sent.
        return StreamingResponse(
            services.jobs.whole_log(job_id),
            media_type="text/plain; charset=utf-8",
            headers={"content-disposition": f'attachment; filename="job-{job_id}.txt"'},
        )

    @router.get("/{job_id}/events")
    def events(job_id: str) -> Json:
        """The changes of its state."""
        return {"events": services.jobs.events(job_id)}

    @router.patch("/{job_id}")
    def change(job_id: str, body: JobChange) -> Json:
        """Let it start earlier or later."""
        return services.jobs.set_priority(job_id, body.priority)

    @router.post("/{job_id}/first")
    def run_next(job_id: str) -> Json:
        """Put it before all others that wait."""
        return services.jobs.run_next(job_id)

    @router.post("/{job_id}/cancel")
    def cancel(job_id: str) -> Json:
        """Ask it to stop."""
        return services.jobs.cancel(job_id)

    @router.post("/{job_id}/retry", status_code=202)
    def retry(job_id: str) -> Json:
        """Submit it again."""
        return services.jobs.retry(job_id)

    return router
