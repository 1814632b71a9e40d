"""Locks, files that follow their rows, deleted corpora, and answers to requests sent twice."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

ID = sa.String(32)
FLOAT = sa.Float(53)


def upgrade() -> None:
    """Add the tables."""
    corpus = sa.ForeignKey("corpora.id", ondelete="CASCADE")
    op.create_table(
        "document_moves",
        sa.Column("corpus_id", ID, corpus, primary_key=True),
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("staged", sa.String(64)),
    )
    op.create_table("deleted_corpora", sa.Column("id", ID, primary_key=True))
    op.create_table(
        "locks",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("token", ID, nullable=False, unique=True),
        sa.Column("holder", sa.String(255), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("expires_at", FLOAT, nullable=False),
    )
    op.create_table(
        "kept_answers",
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("location", sa.Text),
        sa.Column("created_at", FLOAT, nullable=False, index=True),
    )
