"""All tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.String(32)
FLOAT = sa.Float(53)
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Make the tables, those that others refer to first."""
    op.create_table(
        "schema_version",
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("applied_at", FLOAT, nullable=False),
    )
    op.create_table(
        "workers",
        sa.Column("host", sa.String(255), primary_key=True),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("slots", JSON, nullable=False),
        sa.Column("started_at", FLOAT, nullable=False),
        sa.Column("heartbeat_at", FLOAT, nullable=False),
    )
    create_corpora()
    create_runs()
    create_jobs()
    create_generations()


def create_corpora() -> None:
    """Make the tables of corpora and their documents."""
    op.create_table(
        "corpora",
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("summary", JSON),
        sa.Column("build_job_id", ID),
        sa.Column("created_at", FLOAT, nullable=False),
        sa.Column("updated_at", FLOAT, nullable=False),
    )
    op.create_table(
        "documents",
        sa.Column(
            "corpus_id", ID, sa.ForeignKey("corpora.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("encoding", sa.String(32), nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("created_at", FLOAT, nullable=False),
    )


def create_runs() -> None:
    """Make the tables of runs, what was measured in them, and their checkpoints."""
    op.create_table(
        "runs",
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("corpus_id", ID, sa.ForeignKey("corpora.id"), nullable=False, index=True),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("total_steps", sa.BigInteger, nullable=False),
        sa.Column("job_id", ID),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("created_at", FLOAT, nullable=False),
        sa.Column("updated_at", FLOAT, nullable=False),
    )
    op.create_table(
        "metrics",
        sa.Column("run_id", ID, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("step", sa.BigInteger, primary_key=True),
        sa.Column("value", FLOAT, nullable=False),
    )
    op.create_table(
        "checkpoints",
        sa.Column("run_id", ID, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("step", sa.BigInteger, primary_key=True),
        sa.Column("val_loss_on", FLOAT),
        sa.Column("val_loss_off", FLOAT),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("is_best", sa.Boolean, nullable=False),
        sa.Column("created_at", FLOAT, nullable=False),
    )


def create_jobs() -> None:
    """Make the tables of jobs and the changes of their states."""
    op.create_table(
        "jobs",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", ID, nullable=False, unique=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("corpus_id", ID, sa.ForeignKey("corpora.id", ondelete="SET NULL")),
        sa.Column("run_id", ID, sa.ForeignKey("runs.id", ondelete="SET NULL")),
        sa.Column("after_id", ID, sa.ForeignKey("jobs.id")),
        sa.Column("parent_id", ID, sa.ForeignKey("jobs.id")),
        sa.Column("time_limit_s", FLOAT),
        sa.Column("stage", sa.String(64), nullable=False),
        sa.Column("done", sa.BigInteger, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("worker", sa.String(255)),
        sa.Column("slot", sa.String(64)),
        sa.Column("pid", sa.BigInteger),
        sa.Column("lease_token", ID, unique=True),
        sa.Column("lease_expires_at", FLOAT),
        sa.Column("stop_intent", sa.String(16)),
        sa.Column("stop_requested_at", FLOAT),
        sa.Column("created_at", FLOAT, nullable=False),
        sa.Column("started_at", FLOAT),
        sa.Column("progress_at", FLOAT),
        sa.Column("finished_at", FLOAT),
    )
    op.create_index("jobs_by_state", "jobs", ["state", "number"])
    job = sa.ForeignKey("jobs.id", ondelete="CASCADE")
    op.create_table(
        "job_events",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("job_id", ID, job, nullable=False, index=True),
        sa.Column("at", FLOAT, nullable=False),
        sa.Column("from_state", sa.String(16)),
        sa.Column("to_state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
    )


def create_generations() -> None:
    """Make the tables of generations and their chunks."""
    op.create_table(
        "generations",
        sa.Column("id", ID, primary_key=True),
        sa.Column("run_id", ID, nullable=False, index=True),
        sa.Column("run_name", sa.Text, nullable=False),
        sa.Column("corpus_id", ID),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("result", JSON),
        sa.Column("stop_requested", sa.Boolean, nullable=False),
        sa.Column("created_at", FLOAT, nullable=False),
        sa.Column("finished_at", FLOAT),
    )
    generation = sa.ForeignKey("generations.id", ondelete="CASCADE")
    op.create_table(
        "generation_chunks",
        sa.Column("generation_id", ID, generation, primary_key=True),
        sa.Column("variant", sa.String(8), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("chunk", JSON, nullable=False),
    )
