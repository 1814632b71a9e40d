"""Curves of runs as the charts draw them: few points, all that matters in them."""

from collections.abc import Sequence
from statistics import median

from app.errors import MissingError
from app.services.views.curves import Curve, RunCurves
from app.services.views.runs import Point
from jobs.errors import NotFoundError
from jobs.store.metrics import thinned
from jobs.store.rows import RunRow
from jobs.store.states import RunState
from jobs.store.store import Store
from retro.errors import ConfigError

MOST_RUNS = 8
MOST_POINTS = 1500
"""Of a curve."""
MOST_VALUES = 10_000
"""Of one name, as they were measured."""
SPEED_POINTS = 10
GAP = "val_loss_gap"
"""Validation loss with retrieval off minus on: what retrieval gains, in nats per token."""
EVERY_POINT = 2**62


class CurveService:
    """Reads what runs measured, as curves."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def metrics(
        self,
        run_id: str,
        name: str | None = None,
        since_step: int = 0,
        max_points: int = 1500,
    ) -> list[Point]:
        """Return measured values, thinned to at most ``max_points`` per name.

        Raises:
            ConfigError: A number is out of range.
        """
        if since_step < 0:
            raise ConfigError(f"since_step must be at least 0, got {since_step}.")
        if not 2 <= max_points <= MOST_VALUES:
            raise ConfigError(
                f"max_points must be between 2 and {MOST_VALUES:,}, got {max_points}."
            )
        points = self._store.metrics(
            run_id, name=name, since_step=since_step, max_points=max_points
        )
        return [Point.of(item) for item in points]

    def newest_values(self, run_id: str, names: Sequence[str]) -> dict[str, tuple[int, float]]:
        """Return step and value of what was measured last, for the names that were measured."""
        points = self._store.newest_metrics(run_id, names)
        return {name: (point.step, point.value) for name, point in points.items()}

    def time_left(self, run_id: str) -> float | None:
        """Return the seconds a run still needs at its present speed, if that is known.

        The speed is what was measured last: a run that goes on after a pause has steps
        that cost this attempt nothing.
        """
        row = self._store.get_run(run_id)
        config = (row.settings.get("resolved") or {}).get("training")
        if row.state is not RunState.RUNNING or not config:
            return None
        since = max(0, row.step - SPEED_POINTS * int(config["log_every"]))
        points = self._store.metrics(run_id, name="tokens_per_second", since_step=since)
        speeds = [point.value for point in points[-SPEED_POINTS:] if point.value > 0]
        if not speeds:
            return None
        tokens = config["batch_size"] * config["sequence_length"] * config["accumulation"]
        return float((row.total_steps - row.step) * tokens / median(speeds))

    def curves(
        self,
        run_ids: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        since_step: int = 0,
        max_points: int = MOST_POINTS,
    ) -> list[RunCurves]:
        """Return the curves of some runs.

        Args:
            run_ids: The runs.
            names: Only these measurements, ``val_loss_gap`` among them; None is all.
            since_step: Only points of this step and later.
            max_points: At most this many points per curve; both ends and the extremes stay.

        Raises:
            ConfigError: There are no runs or too many, or a number is out of range.
            MissingError: There is no such run.
        """
        if since_step < 0:
            raise ConfigError(f"since_step must be at least 0, got {since_step}.")
        if not 2 <= max_points <= MOST_POINTS:
            raise ConfigError(
                f"max_points must be between 2 and {MOST_POINTS:,}, got {max_points}."
            )
        return [
            RunCurves.of(row, curves=self._curves(row.id, names, since_step, max_points))
            for row in self.rows(run_ids)
        ]

    def measured(self, run_ids: Sequence[str]) -> list[str]:
        """Return the names of what any of some runs measured."""
        return sorted({name for run_id in run_ids for name in self._store.metric_names(run_id)})

    def rows(self, run_ids: Sequence[str]) -> list[RunRow]:
        """Return the runs of some ids, each once.

        Raises:
            ConfigError: There are none or too many.
            MissingError: There is no such run.
        """
        wanted = list(dict.fromkeys(run_ids))
        if not 1 <= len(wanted) <= MOST_RUNS:
            raise ConfigError(
                f"Between 1 and {MOST_RUNS} runs can be shown together, got {len(wanted)}. "
                f"Choose fewer."
            )
        try:
            return [self._store.get_run(run_id) for run_id in wanted]
        except NotFoundError as error:
            raise MissingError(f"{error} It may have been deleted; leave it out.") from error

    def _curves(
        self, run_id: str, names: Sequence[str] | None, since_step: int, max_points: int
    ) -> dict[str, Curve]:
        found: dict[str, list[tuple[int, float]]] = {}
        asked: list[str | None] = [None]
        if names is not None:
            asked = [name for name in names if name != GAP]
        for name in asked:
            for point in self._store.metrics(run_id, name, since_step, max_points):
                found.setdefault(point.name, []).append((point.step, point.value))
        if names is None or GAP in names:
            gap = self._gap(run_id, since_step)
            if gap:
                found[GAP] = list(thinned(gap, max_points))
        return {
            name: Curve(steps=[step for step, _ in points], values=[value for _, value in points])
            for name, points in found.items()
        }

    def _gap(self, run_id: str, since_step: int) -> list[tuple[int, float]]:
        """Return off minus on at every step that has both, before anything is thinned."""
        on, off = (
            self._store.metrics(run_id, name, since_step, EVERY_POINT)
            for name in ("val_loss_on", "val_loss_off")
        )
        values = {point.step: point.value for point in on}
        return [
            (point.step, point.value - values[point.step]) for point in off if point.step in values
        ]
