"""Tables. Times are UTC seconds; column types exist in SQLite and in PostgreSQL."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Float,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from jobs.store.states import StopIntent

ID = String(32)


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {  # noqa: RUF012  # read by SQLAlchemy in this form
        float: Float(53),
        dict[str, Any]: JSON(none_as_null=True),
        list[str]: JSON(none_as_null=True),
    }


class SchemaVersion(Base):
    """Versions of the tables that were applied to this database."""

    __tablename__ = "schema_version"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    applied_at: Mapped[float]


class Job(Base):
    """One piece of background work; the table is the queue."""

    __tablename__ = "jobs"
    __table_args__ = (Index("jobs_by_state", "state", "priority", "number"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    """Order of submission."""
    id: Mapped[str] = mapped_column(ID, unique=True)
    kind: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    priority: Mapped[int] = mapped_column(default=0, server_default="0")
    """Of jobs that can start, one with a higher priority starts first."""
    settings: Mapped[dict[str, Any]]
    corpus_id: Mapped[str | None] = mapped_column(ForeignKey("corpora.id", ondelete="SET NULL"))
    run_id: Mapped[str | None] = mapped_column(ForeignKey("runs.id", ondelete="SET NULL"))
    after_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    """Job that must succeed before this one starts."""
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    """Job that this one repeats or continues."""
    time_limit_s: Mapped[float | None]

    stage: Mapped[str] = mapped_column(String(64), default="")
    done: Mapped[int] = mapped_column(BigInteger, default=0)
    total: Mapped[int] = mapped_column(BigInteger, default=0)
    message: Mapped[str] = mapped_column(Text, default="")
    error: Mapped[str | None] = mapped_column(Text)

    attempt: Mapped[int] = mapped_column(default=0)
    """How often the job was claimed."""
    worker: Mapped[str | None] = mapped_column(String(255))
    """Host of the worker that claimed it."""
    slot: Mapped[str | None] = mapped_column(String(64))
    """Device slot of that worker."""
    pid: Mapped[int | None] = mapped_column(BigInteger)
    lease_token: Mapped[str | None] = mapped_column(ID, unique=True)
    """Held by the one process that may write about this job; None where nobody may."""
    lease_expires_at: Mapped[float | None]
    stop_intent: Mapped[str | None] = mapped_column(String(16))
    stop_requested_at: Mapped[float | None]

    created_at: Mapped[float]
    started_at: Mapped[float | None]
    progress_at: Mapped[float | None]
    """When the work itself, not the lease, last reported."""
    finished_at: Mapped[float | None]

    @property
    def cancel_requested(self) -> bool:
        """Whether the job was asked to stop."""
        return self.stop_intent is not None

    @property
    def intent(self) -> StopIntent | None:
        """Why the job was asked to stop."""
        return None if self.stop_intent is None else StopIntent(self.stop_intent)


class JobEvent(Base):
    """One change of a job's state."""

    __tablename__ = "job_events"

    number: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    at: Mapped[float]
    from_state: Mapped[str | None] = mapped_column(String(16))
    to_state: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int]
    message: Mapped[str] = mapped_column(Text, default="")


class Worker(Base):
    """A worker process, one per host."""

    __tablename__ = "workers"

    host: Mapped[str] = mapped_column(String(255), primary_key=True)
    pid: Mapped[int] = mapped_column(BigInteger)
    slots: Mapped[list[str]]
    version: Mapped[str] = mapped_column(String(64), default="", server_default="")
    """Identity of the program it runs."""
    started_at: Mapped[float]
    heartbeat_at: Mapped[float]


class Corpus(Base):
    """Uploaded text and what was built from it."""

    __tablename__ = "corpora"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    settings: Mapped[dict[str, Any]]
    summary: Mapped[dict[str, Any] | None]
    # No foreign key: jobs refer to corpora already, and a cycle cannot be created in one pass.
    build_job_id: Mapped[str | None] = mapped_column(ID)
    created_at: Mapped[float]
    updated_at: Mapped[float]


class CorpusVersion(Base):
    """What a corpus was after a build; adding documents and building makes the next one."""

    __tablename__ = "corpus_versions"
    __table_args__ = (UniqueConstraint("corpus_id", "fingerprint"),)

    corpus_id: Mapped[str] = mapped_column(
        ForeignKey("corpora.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Counted from 1 in each corpus."""
    fingerprint: Mapped[str] = mapped_column(String(64))
    settings: Mapped[dict[str, Any]]
    summary: Mapped[dict[str, Any]]
    """Facts of the build."""
    built_at: Mapped[float]


class Document(Base):
    """One accepted text of a corpus."""

    __tablename__ = "documents"

    corpus_id: Mapped[str] = mapped_column(
        ForeignKey("corpora.id", ondelete="CASCADE"), primary_key=True
    )
    path: Mapped[str] = mapped_column(Text, primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    encoding: Mapped[str] = mapped_column(String(32))
    note: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[float]


class DocumentMove(Base):
    """A file that has not followed the row of its document yet: into its place, or away."""

    __tablename__ = "document_moves"

    corpus_id: Mapped[str] = mapped_column(
        ForeignKey("corpora.id", ondelete="CASCADE"), primary_key=True
    )
    path: Mapped[str] = mapped_column(Text, primary_key=True)
    staged: Mapped[str | None] = mapped_column(String(64))
    """Name of the file that is to take the place; None where the document was removed."""


class DeletedCorpus(Base):
    """A corpus whose folder may still be there."""

    __tablename__ = "deleted_corpora"

    id: Mapped[str] = mapped_column(ID, primary_key=True)


class Lock(Base):
    """Something that one process at a time works on, as long as it renews this."""

    __tablename__ = "locks"

    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    token: Mapped[str] = mapped_column(ID, unique=True)
    """Changes with the holder; who depends on the lock shows it in each transaction."""
    holder: Mapped[str] = mapped_column(String(255))
    """Host, number and random mark of the process."""
    purpose: Mapped[str] = mapped_column(String(16))
    expires_at: Mapped[float]


class KeptAnswer(Base):
    """What a request was answered that may be sent again under the same key."""

    __tablename__ = "kept_answers"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    request: Mapped[str] = mapped_column(String(64))
    """Identity of address and body, a sha256."""
    status: Mapped[int]
    content_type: Mapped[str] = mapped_column(Text)
    body: Mapped[bytes]
    """Compressed with zlib."""
    location: Mapped[str | None] = mapped_column(Text)
    """Where a stream is read again, in place of a body."""
    created_at: Mapped[float] = mapped_column(index=True)


class Run(Base):
    """A training run."""

    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    corpus_id: Mapped[str] = mapped_column(ForeignKey("corpora.id"), index=True)
    settings: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    step: Mapped[int] = mapped_column(BigInteger, default=0)
    total_steps: Mapped[int] = mapped_column(BigInteger)
    job_id: Mapped[str | None] = mapped_column(ID)
    """Newest job of the run; only this one may change it."""
    parent_id: Mapped[str | None] = mapped_column(ID)
    """Run whose settings this one took over."""
    notes: Mapped[str] = mapped_column(Text, default="", server_default="")
    """What a person wrote about it."""
    corpus_version: Mapped[int | None]
    """Version of the corpus that it is trained on; None until it has begun."""
    message: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[float]
    updated_at: Mapped[float]


class RunTag(Base):
    """A word by which a person finds runs again."""

    __tablename__ = "run_tags"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)


class RunAlert(Base):
    """Something about a run's training that a person should know."""

    __tablename__ = "run_alerts"
    __table_args__ = (UniqueConstraint("run_id", "kind", "step"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    at: Mapped[float]
    kind: Mapped[str] = mapped_column(String(32))
    step: Mapped[int] = mapped_column(BigInteger)
    message: Mapped[str] = mapped_column(Text)


class Metric(Base):
    """One measured value; there is one per run, name and step."""

    __tablename__ = "metrics"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    value: Mapped[float]


class Checkpoint(Base):
    """A checkpoint that is on disk."""

    __tablename__ = "checkpoints"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    val_loss_on: Mapped[float | None]
    val_loss_off: Mapped[float | None]
    bytes: Mapped[int] = mapped_column(BigInteger)
    is_best: Mapped[bool] = mapped_column(default=False)
    is_pinned: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Kept until a person lets go of it."""
    created_at: Mapped[float]


class Generation(Base):
    """A text that was written; it outlives its run and its corpus."""

    __tablename__ = "generations"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    run_id: Mapped[str] = mapped_column(ID, index=True)
    run_name: Mapped[str] = mapped_column(Text)
    corpus_id: Mapped[str | None] = mapped_column(ID)
    prompt: Mapped[str] = mapped_column(Text)
    settings: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    message: Mapped[str] = mapped_column(Text, default="")
    result: Mapped[dict[str, Any] | None]
    stop_requested: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[float]
    finished_at: Mapped[float | None]
    # No foreign key: a text stays whole, and keeps naming its origin, when that is deleted.
    parent_id: Mapped[str | None] = mapped_column(ID)
    """Generation that it branched from or continues."""
    branch_index: Mapped[int | None]
    """First chunk that is not taken over from the parent."""


class GenerationChunk(Base):
    """A finished chunk of a generation, with its neighbors."""

    __tablename__ = "generation_chunks"

    generation_id: Mapped[str] = mapped_column(
        ForeignKey("generations.id", ondelete="CASCADE"), primary_key=True
    )
    variant: Mapped[str] = mapped_column(String(8), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    chunk: Mapped[dict[str, Any]]
