"""Measured values of training runs: one per run, name and step."""

import logging
import math
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from jobs.store.database import Database
from jobs.store.lookup import get_run_record, require_lease
from jobs.store.models import Metric, Run
from jobs.store.rows import MetricPoint

logger = logging.getLogger(__name__)

VALUES = Metric.__table__
"""The bare table: reading tens of thousands of rows of it takes half the time."""
Point = tuple[int, float]
"""A step and what was measured at it."""


class MetricRecords(Database):
    """Adds, forgets and reads measured values."""

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
        """Return measured values by name and step, see ``thinned``.

        Args:
            run_id: The run.
            name: Only this name; None is all.
            since_step: Only values of this step and later.
            max_points: At most this many values per name, at least 2.

        Raises:
            NotFoundError: There is no such run.
        """
        found: list[MetricPoint] = []
        with self.read() as session:
            get_run_record(session, run_id)
            # One question per name: each is answered from the index, whatever else was measured.
            for each in _names(session, run_id) if name is None else [name]:
                query = (
                    select(VALUES.c.step, VALUES.c.value)
                    .where(VALUES.c.run_id == run_id, VALUES.c.name == each)
                    .where(VALUES.c.step >= since_step)
                    .order_by(VALUES.c.step)
                )
                points = [(step, value) for step, value in session.execute(query)]
                found += [
                    MetricPoint(name=each, step=step, value=value)
                    for step, value in thinned(points, max_points)
                ]
        return found

    def metric_names(self, run_id: str) -> list[str]:
        """Return the names of what a run measured, in alphabetical order."""
        with self.read() as session:
            return _names(session, run_id)

    def newest_metrics(self, run_id: str, names: Sequence[str]) -> dict[str, MetricPoint]:
        """Return the last measured value of each name; names without any are left out."""
        found = {}
        with self.read() as session:
            for name in names:
                query = (
                    select(Metric.step, Metric.value)
                    .where(Metric.run_id == run_id, Metric.name == name)
                    .order_by(Metric.step.desc())
                    .limit(1)
                )
                for step, value in session.execute(query):
                    found[name] = MetricPoint(name=name, step=step, value=value)
        return found


def _names(session: Session, run_id: str) -> list[str]:
    """Return the names that were measured, without reading every value."""
    names: list[str] = []
    while True:
        query = select(func.min(VALUES.c.name)).where(
            VALUES.c.run_id == run_id, VALUES.c.name > (names[-1] if names else "")
        )
        following = session.scalar(query)
        if following is None:
            return names
        names.append(following)


def thinned(points: Sequence[Point], max_points: int) -> Sequence[Point]:
    """Return at most ``max_points`` points whose curve looks the same.

    Both ends are kept. What lies between is divided evenly, and of each part the smallest and
    the largest value stay, so no spike is lost.

    Args:
        points: (step, value) in order of steps.
        max_points: At least 2.
    """
    if len(points) <= max_points:
        return points
    inner, num_parts = points[1:-1], (max_points - 2) // 2
    kept = [points[0]]
    for index in range(num_parts):
        part = inner[len(inner) * index // num_parts : len(inner) * (index + 1) // num_parts]
        kept += sorted({min(part, key=itemgetter(1)), max(part, key=itemgetter(1))})
    return [*kept, points[-1]]
