"""What is reported of training: means over the steps since the last report."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one optimizer step says."""

    loss: float
    """Mean over the labels that count, in nats."""
    gradient_norm: float
    """Before it was clipped."""
    learning_rate: float
    num_labels: int
    """Labels that count."""


class ReportWindow:
    """Means over the steps since the last report, without the time of evaluation and saving."""

    def __init__(self) -> None:
        self.reports: list[StepReport] = []
        self.started = time.perf_counter()

    def add(self, report: StepReport) -> None:
        """Take the report of the newest step."""
        self.reports.append(report)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time until the block ends."""
        begun = time.perf_counter()
        yield
        self.started += time.perf_counter() - begun

    def close(self) -> dict[str, float]:
        """Return the means by name, and begin anew."""
        seconds = time.perf_counter() - self.started
        reports, self.reports = self.reports, []
        self.started = time.perf_counter()
        labels = sum(report.num_labels for report in reports)
        return {
            "train_loss": sum(r.loss * r.num_labels for r in reports) / max(1, labels),
            "gradient_norm": reports[-1].gradient_norm,
            "learning_rate": reports[-1].learning_rate,
            "tokens_per_second": labels / max(seconds, 1e-9),
        }
