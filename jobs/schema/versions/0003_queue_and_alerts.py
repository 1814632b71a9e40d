"""Priorities, versions of workers, pinned checkpoints, copies of runs, and alerts."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ID = sa.String(32)


def upgrade() -> None:
    """Add the columns and the table; rows that are there get the defaults."""
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("priority", sa.Integer, nullable=False, server_default="0"))
        jobs.drop_index("jobs_by_state")
        jobs.create_index("jobs_by_state", ["state", "priority", "number"])
    with op.batch_alter_table("workers") as workers:
        workers.add_column(sa.Column("version", sa.String(64), nullable=False, server_default=""))
    with op.batch_alter_table("checkpoints") as checkpoints:
        is_pinned = sa.Column("is_pinned", sa.Boolean, nullable=False, server_default=sa.false())
        checkpoints.add_column(is_pinned)
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("parent_id", ID))
    run = sa.ForeignKey("runs.id", ondelete="CASCADE")
    op.create_table(
        "run_alerts",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("run_id", ID, run, nullable=False, index=True),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.UniqueConstraint("run_id", "kind", "step"),
    )
