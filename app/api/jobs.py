"""The REST routes under ``/api/v1/jobs``."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from app.api.body import Body
from app.services.services import Services

Json = dict[str, Any]


class JobChange(Body):
    """Changes the place of a job that waits; a higher priority starts first."""

    priority: int


def make_router(services: Services) -> APIRouter:
    """Return the routes of jobs."""
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
