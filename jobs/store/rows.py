"""What the store gives back: frozen copies of rows, safe to keep after the transaction."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from jobs.store.models import Base
from jobs.store.states import CorpusState, GenerationState, JobState, RunState, StopIntent

RowT = TypeVar("RowT")


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRow:
    """A job. Times are UTC seconds."""

    id: str
    number: int
    kind: str
    state: JobState
    priority: int
    settings: dict[str, Any]
    corpus_id: str | None
    run_id: str | None
    after_id: str | None
    parent_id: str | None
    time_limit_s: float | None
    stage: str
    done: int
    total: int
    message: str
    error: str | None
    attempt: int
    worker: str | None
    slot: str | None
    pid: int | None
    lease_token: str | None
    lease_expires_at: float | None
    cancel_requested: bool
    intent: StopIntent | None
    stop_requested_at: float | None
    created_at: float
    started_at: float | None
    progress_at: float | None
    finished_at: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEventRow:
    """One change of a job's state."""

    job_id: str
    at: float
    from_state: JobState | None
    to_state: JobState
    attempt: int
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusRow:
    """A corpus."""

    id: str
    name: str
    settings: dict[str, Any]
    summary: dict[str, Any] | None
    """Facts of the last finished build."""
    build_job_id: str | None
    state: CorpusState
    created_at: float
    updated_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusLock:
    """The lock of a corpus, as it was when it was taken."""

    corpus: CorpusRow
    token: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusVersionRow:
    """What a corpus was after a build."""

    corpus_id: str
    number: int
    """Counted from 1 in each corpus."""
    fingerprint: str
    settings: dict[str, Any]
    summary: dict[str, Any]
    """Facts of the build."""
    built_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentEntry:
    """An accepted text, to be recorded."""

    path: str
    bytes: int
    sha256: str
    encoding: str
    note: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentRow:
    """An accepted text of a corpus."""

    corpus_id: str
    path: str
    bytes: int
    sha256: str
    encoding: str
    note: str | None
    created_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MoveRow:
    """A file that has not followed the row of its document yet."""

    path: str
    staged: str | None
    """Name of the file that is to take the place; None where the document was removed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerRow:
    """What a request was answered that may be sent again under the same key."""

    request: str
    """Identity of address and body, a sha256."""
    status: int
    content_type: str
    body: bytes
    location: str | None = None
    """Where a stream is read again, in place of a body."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRow:
    """A training run."""

    id: str
    name: str
    corpus_id: str
    corpus_name: str
    settings: dict[str, Any]
    state: RunState
    step: int
    total_steps: int
    job_id: str | None
    parent_id: str | None
    """Run whose settings this one took over; that one may be deleted."""
    tags: tuple[str, ...]
    """Words by which a person finds it again, in alphabetical order."""
    notes: str
    """What a person wrote about it."""
    corpus_version: int | None
    """Version of the corpus it is trained on; None until it has begun."""
    message: str
    created_at: float
    updated_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricPoint:
    """One measured value."""

    name: str
    step: int
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointEntry:
    """A checkpoint on disk, to be recorded."""

    step: int
    val_loss_on: float | None
    val_loss_off: float | None
    bytes: int
    is_best: bool = False
    is_pinned: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointRow:
    """A checkpoint of a run."""

    run_id: str
    step: int
    val_loss_on: float | None
    val_loss_off: float | None
    bytes: int
    is_best: bool
    is_pinned: bool
    created_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertRow:
    """Something about a run's training that a person should know."""

    run_id: str
    at: float
    kind: str
    step: int
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerRow:
    """A worker as it last reported."""

    host: str
    pid: int
    slots: list[str]
    version: str
    started_at: float
    heartbeat_at: float
    is_alive: bool
    """Whether it has reported lately."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationRow:
    """A text that was, or is being, written."""

    id: str
    run_id: str
    run_name: str
    corpus_id: str | None
    prompt: str
    settings: dict[str, Any]
    state: GenerationState
    message: str
    result: dict[str, Any] | None
    chunks: dict[str, list[dict[str, Any]]]
    """Variant (``on``, ``off``, ``on:1`` ...) to its finished chunks; empty in lists."""
    stop_requested: bool
    created_at: float
    finished_at: float | None
    parent_id: str | None
    """Generation that it branched from or continues; that one may be deleted."""
    branch_index: int | None
    """First chunk that is not taken over from the parent."""


ENUMS: Mapping[tuple[type, str], type] = {
    (JobRow, "state"): JobState,
    (JobEventRow, "from_state"): JobState,
    (JobEventRow, "to_state"): JobState,
    (RunRow, "state"): RunState,
    (GenerationRow, "state"): GenerationState,
}
"""Columns that hold text and stand for a choice."""


def copy_row(row_type: type[RowT], record: Base, **extra: object) -> RowT:
    """Copy a mapped object into a frozen row.

    Args:
        row_type: The dataclass of the row.
        record: The mapped object; has an attribute for each field not in ``extra``.
        extra: Fields that are no attribute of ``record``.
    """
    values: dict[str, Any] = dict(extra)
    for field in fields(row_type):  # type: ignore[arg-type]  # any of the dataclasses above
        if field.name in values:
            continue
        value = getattr(record, field.name)
        choice = ENUMS.get((row_type, field.name))
        values[field.name] = value if choice is None or value is None else choice(value)
    return row_type(**values)
