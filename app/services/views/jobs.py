"""What the routes of jobs answer."""

from pydantic import ConfigDict, Field

from app.services.views.base import View
from app.services.views.run_examples import JOB, JOB_EVENT
from jobs.store.states import JobState


class Job(View):
    """A background job."""

    model_config = ConfigDict(json_schema_extra={"example": JOB})

    id: str
    """Id of the job."""
    number: int
    """Its number, in the order of submission."""
    kind: str
    """``build`` makes a corpus ready, ``train`` trains a run."""
    state: JobState
    """Where it stands; ``interrupted``, its process is gone, goes back to the queue by itself."""
    priority: int
    """Of jobs that wait, one with a higher priority starts first; 0 is the usual one."""
    stage: str
    """Part of its work that it is in, such as ``embed`` or ``train``; empty before the first."""
    done: int
    """How much of the stage is done: documents, chunks or steps."""
    total: int
    """How much the stage has to do; 0 where that is not known."""
    message: str
    """What there is to know about it, or what came of it, for people; may be empty."""
    error: str | None
    """What went wrong, for people; null where nothing did."""
    corpus_id: str | None
    """Corpus it works on; null where that was deleted."""
    run_id: str | None
    """Run it trains; null for a build, and where the run was deleted."""
    attempt: int
    """How often it was started; 0 while it waits for the first time."""
    after_id: str | None
    """Job that must succeed before this one starts."""
    parent_id: str | None
    """Job that this one repeats or continues."""
    cancel_requested: bool
    """Whether it was asked to stop."""
    worker: str | None
    """Host of the worker that started it last; null before the first start."""
    slot: str | None
    """Device it is on or was on last, ``cpu`` or ``cuda:0`` and so on; null while it waits."""
    pid: int | None
    """Id of its process on that host; null unless it is at work."""
    lease_expires_at: float | None
    """When it is taken for lost unless its process renews this, UTC seconds; null unless it is at
    work."""
    created_at: float
    """When it was submitted, UTC seconds."""
    started_at: float | None
    """When it was started last, UTC seconds; null before the first start."""
    progress_at: float | None
    """When its work last reported, UTC seconds; null before the first start."""
    finished_at: float | None
    """When it ended, UTC seconds; null until then."""


class Jobs(View):
    """Jobs, the newest first."""

    jobs: list[Job]
    """The jobs."""


class JobLog(View):
    """The end of a job's log."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"log": "INFO retro: embedded 512 of 4,096 chunks"}}
    )

    log: str
    """The last lines, plain text; very long lines are shortened."""


class JobEvent(View):
    """A change of a job's state."""

    model_config = ConfigDict(json_schema_extra={"example": JOB_EVENT})

    at: float
    """When it happened, UTC seconds."""
    from_state: JobState | None = Field(alias="from")
    """State before; null for the submission."""
    to: JobState
    """State after."""
    attempt: int
    """How often the job had been started by then."""
    message: str
    """What there is to know about it, for people; may be empty."""


class JobEvents(View):
    """The changes of a job's state, oldest first."""

    events: list[JobEvent]
    """The changes."""
