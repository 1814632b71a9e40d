"""Run by alembic for each upgrade, in the transaction that ``migrate`` opened."""

from collections.abc import Collection, Mapping
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy import insert

from jobs.store.models import SchemaVersion


def record_version(  # alembic passes these by name
    ctx: MigrationContext,
    step: MigrationInfo,
    heads: Collection[Any],  # noqa: ARG001
    run_args: Mapping[str, Any],  # noqa: ARG001
) -> None:
    """Keep the table by which programs before alembic see that a database is too new for them."""
    if not step.is_stamp:
        assert ctx.connection is not None
        row = {
            "version": int(str(step.up_revision_id)),
            "applied_at": context.config.attributes["now"],
        }
        ctx.connection.execute(insert(SchemaVersion), row)


context.configure(
    connection=context.config.attributes["connection"],
    render_as_batch=True,
    on_version_apply=record_version,
)
context.run_migrations()
