"""Measured values of training runs: one per run, name and step."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from jobs.database import Database
from jobs.lookup import get_run_record, require_lease
from jobs.models import Metric, Run
from jobs.rows import MetricPoint

logger = logging.getLogger(__name__)


class MetricRecords(Database):
    """Adds, forgets and reads measured values."""

    def add_metrics(self, run_id: str, step: int, values: Mapping[str, float], token: str) -> None:
        """Record the values measured at one step, see ``add_points``."""
        points = [MetricPoint(name=name, step=step, value=value) for name, value in values.items()]
        self.add_points(run_id, points, token, step=step)

    def add_points(
        self, run_id: str, points: Sequence[MetricPoint], token: str, *, step: int
    ) -> None:
        """Record measured values and the step the run has reached, in one transaction.

        A value for a name and step that is there already replaces it. Values that are not
        finite cannot be drawn; they go to the log.

        Args:
            run_id: The run.
            points: Measured values.
            token: Lease of the job that trains the run.
            step: Last finished step of the run.

        Raises:
            LeaseLost: The lease is no longer this process's.
        """
        rows: dict[tuple[str, int], dict[str, Any]] = {}
        for point in points:
            if math.isfinite(point.value):
                rows[point.name, point.step] = {
                    "run_id": run_id,
                    "name": point.name,
                    "step": point.step,
                    "value": float(point.value),
                }
            else:
                logger.warning("%s at step %d is %s", point.name, point.step, point.value)
        with self.write() as session:
            require_lease(session, run_id, token)
            if rows:
                on_sqlite = self.engine.dialect.name == "sqlite"
                insert = (sqlite if on_sqlite else postgresql).insert(Metric)
                session.execute(
                    insert.on_conflict_do_update(
                        index_elements=["run_id", "name", "step"],
                        set_={"value": insert.excluded.value},
                    ),
                    list(rows.values()),
                )
            session.execute(
                update(Run).where(Run.id == run_id).values(step=step, updated_at=self.now())
            )

    def forget_metrics_after(self, run_id: str, step: int, token: str) -> None:
        """Remove values measured after a step, which will be measured again.

        Raises:
            LeaseLost: The lease is no longer this process's.
        """
        with self.write() as session:
            require_lease(session, run_id, token)
            session.execute(delete(Metric).where(Metric.run_id == run_id, Metric.step > step))
            session.execute(
                update(Run).where(Run.id == run_id).values(step=step, updated_at=self.now())
            )

    def metrics(
        self,
        run_id: str,
        name: str | None = None,
        since_step: int = 0,
        max_points: int = 1500,
    ) -> list[MetricPoint]:
        """Return measured values by name and step, thinned evenly.

        Args:
            run_id: The run.
            name: Only this name; None is all.
            since_step: Only values of this step and later.
            max_points: At most this many values per name, at least 2; the first and the
                last are always among them.

        Raises:
            NotFoundError: There is no such run.
        """
        row_number = func.row_number().over(order_by=Metric.step, partition_by=Metric.name)
        numbered = select(
            Metric.name,
            Metric.step,
            Metric.value,
            row_number.label("row_number"),
            func.count().over(partition_by=Metric.name).label("num_rows"),
        ).where(Metric.run_id == run_id, Metric.step >= since_step)
        if name is not None:
            numbered = numbered.where(Metric.name == name)
        point = numbered.subquery()
        gaps = max(max_points, 2) - 1
        stride = (point.c.num_rows - 1 + gaps - 1) // gaps
        kept = or_(
            point.c.num_rows <= gaps + 1,
            point.c.row_number == point.c.num_rows,
            (point.c.row_number - 1) % stride == 0,
        )
        query = (
            select(point.c.name, point.c.step, point.c.value)
            .where(kept)
            .order_by(point.c.name, point.c.step)
        )
        with self.read() as session:
            get_run_record(session, run_id)
            return [
                MetricPoint(name=name, step=step, value=value)
                for name, step, value in session.execute(query)
            ]
