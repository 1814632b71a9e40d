"""Versions of corpora, and tags and notes of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

ID = sa.String(32)
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Add the columns and the table; rows that are there get the defaults."""
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("notes", sa.Text, nullable=False, server_default=""))
        runs.add_column(sa.Column("corpus_version", sa.Integer))
    op.create_table(
        "run_tags",
        sa.Column("run_id", ID, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("tag", sa.String(64), primary_key=True),
    )
    corpus = sa.ForeignKey("corpora.id", ondelete="CASCADE")
    op.create_table(
        "corpus_versions",
        sa.Column("corpus_id", ID, corpus, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("summary", JSON, nullable=False),
        sa.Column("built_at", sa.Float(53), nullable=False),
        sa.UniqueConstraint("corpus_id", "fingerprint"),
    )
