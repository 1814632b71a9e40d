"""What programs can do with background jobs."""

from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import Response, StreamingResponse

from app.programs.body import Body
from app.programs.operation import Family
from app.services.services import Services
from app.services.views import jobs as views

FAMILY = Family("jobs", "/jobs")


class JobChange(Body):
    """Changes the place of a job that waits; a higher priority starts first."""

    priority: int


@FAMILY.get("", view=views.Jobs, items="jobs")
def list_(
    services: Services,
    state: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    kind: Annotated[str | None, Query(max_length=64)] = None,
    before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
) -> Any:
    """The queue and the jobs that ended, newest first; ``before`` is a job's number.

    States: queued, starting, running, succeeded, failed, canceled, timed_out, interrupted, dead.
    """
    return services.jobs.list_jobs(state, limit, kind=kind, before=before)


@FAMILY.get("/{job_id}", view=views.Job, function_name="get_job", tool="get_job")
def get(services: Services, job_id: str) -> Any:
    """One background job: its state, stage, progress, and why it failed.

    done and total count the present stage; error says why it failed.
    """
    return services.jobs.get(job_id)


@FAMILY.get("/{job_id}/log", view=views.JobLog)
def log(services: Services, job_id: str, lines: Annotated[int, Query(ge=1, le=2000)] = 200) -> Any:
    """The end of its log.

    Empty as long as nothing was written.
    """
    return {"log": services.jobs.log(job_id, lines)}


@FAMILY.get("/{job_id}/log.txt", media_type="text/plain")
def whole_log(services: Services, job_id: str) -> Response:
    """The whole log, as a file."""
    # Streamed, because the log of a job at work grows while it is sent.
    return StreamingResponse(
        services.jobs.whole_log(job_id),
        media_type="text/plain; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="job-{job_id}.txt"'},
    )


@FAMILY.get("/{job_id}/events", view=views.JobEvents, items="events")
def events(services: Services, job_id: str) -> Any:
    """The changes of its state."""
    return services.jobs.events(job_id)


@FAMILY.patch("/{job_id}", view=views.Job, example={"priority": 5})
def change(services: Services, job_id: str, body: JobChange) -> Any:
    """Let it start earlier or later.

    Only a job that waits can be changed.
    """
    return services.jobs.set_priority(job_id, body.priority)


@FAMILY.post("/{job_id}/first", view=views.Job)
def run_next(services: Services, job_id: str) -> Any:
    """Put it before all others that wait.

    Only a job that waits can be moved.
    """
    return services.jobs.run_next(job_id)


@FAMILY.post("/{job_id}/cancel", view=views.Job)
def cancel(services: Services, job_id: str) -> Any:
    """Ask it to stop.

    A training run writes a checkpoint first; a job that does not react is ended by force after 30
    seconds.
    """
    return services.jobs.cancel(job_id)


@FAMILY.post("/{job_id}/retry", status=202, view=views.Job)
def retry(services: Services, job_id: str) -> Any:
    """Submit it again.

    Makes a new job that names this one as its parent and goes on from what is finished.
    """
    return services.jobs.retry(job_id)
