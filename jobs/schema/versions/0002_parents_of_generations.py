"""Which generation another one goes on from, and from which chunk."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns."""
    with op.batch_alter_table("generations") as generations:
        generations.add_column(sa.Column("parent_id", sa.String(32)))
        generations.add_column(sa.Column("branch_index", sa.Integer))
