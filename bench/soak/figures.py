"""What a soak counted and measured."""

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(slots=True)
class Figures:
    """Counts, seconds, and every promise that was broken."""

    cycles: int = 0
    seconds: float = 0.0
    """Time of the cycles alone."""
    victims: Counter[str] = field(default_factory=Counter)
    """Who was killed."""
    moments: Counter[str] = field(default_factory=Counter)
    """What the killed job was doing."""
    stops: Counter[str] = field(default_factory=Counter)
    """Pauses, cancels, and repetitions of what had ended by them or was given up."""
    jobs: Counter[str] = field(default_factory=Counter)
    """Jobs at the end, by kind and state."""
    attempts: int = 0
    notice_s: list[float] = field(default_factory=list)
    """From the kill of a job to the event about it, with the worker alive."""
    notice_after_worker_s: list[float] = field(default_factory=list)
    """The same where the worker was killed too and was started again."""
    timings_s: dict[str, float] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    """What other parts of the soak found."""
    broken: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return everything, with long lists as their median and maximum."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        for name in ("notice_s", "notice_after_worker_s"):
            values[name] = spread(getattr(self, name))
        values["mean_cycle_s"] = round(self.seconds / max(1, self.cycles), 2)
        return values

    def summary(self) -> str:
        """Return the figures for people."""
        lines = [
            f"{self.cycles} cycles in {self.seconds:.0f} s "
            f"({self.seconds / max(1, self.cycles):.2f} s each)",
            f"killed: {_listed(self.victims)}",
            f"while: {_listed(self.moments)}",
            f"meanwhile: {_listed(self.stops)}",
            f"jobs: {_listed(self.jobs)}; {self.attempts} attempts",
            f"a dead job was noticed after {_spoken(self.notice_s)}, "
            f"with its worker dead too after {_spoken(self.notice_after_worker_s)}",
            *(f"{name}: {seconds:.1f} s" for name, seconds in self.timings_s.items()),
            *(f"{name}: {value}" for name, value in self.extra.items()),
        ]
        if self.broken:
            lines += [f"BROKEN PROMISES: {len(self.broken)}", *self.broken]
        else:
            lines.append("every promise was kept")
        return "\n".join(lines)


def spread(seconds: list[float]) -> dict[str, float]:
    """Return number, median and maximum."""
    ordered = sorted(seconds)
    if not ordered:
        return {"number": 0}
    return {
        "number": len(ordered),
        "median": round(ordered[len(ordered) // 2], 2),
        "maximum": round(ordered[-1], 2),
    }


def _spoken(seconds: list[float]) -> str:
    found = spread(seconds)
    if not found["number"]:
        return "(never)"
    return f"{found['median']} s (at most {found['maximum']} s, {found['number']} times)"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.most_common()) or "nothing"
