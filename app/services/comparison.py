"""Several runs side by side: what came of them, and in which settings they differ."""

from collections.abc import Sequence
from typing import Any

from app.services.curves import CurveService
from app.services.views.curves import ComparedRun, ComparedSetting, Comparison
from jobs.store.rows import JobRow, MetricPoint, RunRow
from jobs.store.store import Store

GROUPS = ("training", "model")


class ComparisonService:
    """Compares runs."""

    def __init__(self, store: Store, curves: CurveService) -> None:
        self._store = store
        self._curves = curves
        self._newest: tuple[list[RunRow], list[ComparedRun]] = ([], [])

    def compare(self, run_ids: Sequence[str]) -> Comparison:
        """Return results and settings of some runs.

        Args:
            run_ids: The runs, in the order in which they are shown.

        Raises:
            ConfigError: There are none or too many.
            MissingError: There is no such run.
        """
        return Comparison(
            runs=self.results(run_ids),
            settings=self.settings(run_ids),
            metrics=self._curves.measured(run_ids),
        )

    def results(self, run_ids: Sequence[str]) -> list[ComparedRun]:
        """Return what came of each run; see ``compare``."""
        rows = self._curves.rows(run_ids)
        known, found = self._newest
        # A page asks again every moment, and most of the time nothing has changed.
        if rows != known:
            found = [self._results(row) for row in rows]
            self._newest = (rows, found)
        return found

    def settings(self, run_ids: Sequence[str]) -> list[ComparedSetting]:
        """Return one entry per setting with its value in each run; see ``compare``."""
        return _settings(self._curves.rows(run_ids))

    def _results(self, row: RunRow) -> ComparedRun:
        newest = self._store.newest_metrics(
            row.id, ["train_loss", "val_loss_on", "val_loss_off", "tokens_per_second"]
        )
        # Thinning keeps extremes, so the smallest value is among these.
        validations = self._store.metrics(row.id, "val_loss_on")
        best = min(validations, key=lambda point: point.value, default=None)
        on, off = newest.get("val_loss_on"), newest.get("val_loss_off")
        return ComparedRun.of(
            row,
            preset=row.settings.get("preset"),
            parameters=row.settings.get("parameters"),
            train_loss=_value(newest.get("train_loss")),
            val_loss_on=_value(on),
            val_loss_off=_value(off),
            val_loss_gap=off.value - on.value if on and off and on.step == off.step else None,
            best_val_loss_on=_value(best),
            best_step=None if best is None else best.step,
            tokens_per_second=_value(newest.get("tokens_per_second")),
            seconds=self._seconds(row.id),
        )

    def _seconds(self, run_id: str) -> float | None:
        """Return how long jobs worked on a run, None before the first started."""
        now = self._store.now()
        spans = [
            _end(job, now) - job.started_at
            for job in self._store.list_run_jobs(run_id)
            if job.started_at is not None
        ]
        return sum(spans) if spans else None


def _end(job: JobRow, now: float) -> float:
    """Return until when a job worked: one that was lost does not work while it waits again."""
    if job.finished_at is not None or job.state.is_held:
        return job.finished_at or now
    return job.progress_at or job.started_at or now


def _value(point: MetricPoint | None) -> float | None:
    return None if point is None else point.value


def _settings(rows: Sequence[RunRow]) -> list[ComparedSetting]:
    """Return one entry per setting, those that differ first; None where a run lacks it."""
    values: dict[tuple[str, str], list[Any]] = {}
    for index, row in enumerate(rows):
        for group, name, value in _settings_of(row):
            values.setdefault((group, name), [None] * len(rows))[index] = value
    entries = [
        ComparedSetting.of(
            None,
            group=group,
            name=name,
            values=found,
            differs=any(value != found[0] for value in found),
        )
        for (group, name), found in values.items()
    ]
    return sorted(entries, key=lambda entry: not entry.differs)


def _settings_of(row: RunRow) -> list[tuple[str, str, Any]]:
    """Return what a run was trained with; before it began, what was asked for."""
    resolved = row.settings.get("resolved") or row.settings
    found: list[tuple[str, str, Any]] = [("run", "preset", row.settings.get("preset"))]
    for group in GROUPS:
        for name, value in (resolved.get(group) or {}).items():
            if (group, name) == ("training", "max_steps"):
                value = row.total_steps
            found.append((group, name, list(value) if isinstance(value, tuple) else value))
    return found
