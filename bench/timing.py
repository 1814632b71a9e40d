"""Alternating measurements: noise of the machine hits all candidates alike."""

import os
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def is_quick() -> bool:
    """Return whether ``BENCH_QUICK`` asks for tiny measurements, to see that they run."""
    return bool(os.environ.get("BENCH_QUICK"))


def rounds(default: int) -> int:
    """Return how often to measure: ``BENCH_ROUNDS`` where it is set."""
    return int(os.environ.get("BENCH_ROUNDS") or (1 if is_quick() else default))


def medians(candidates: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, float]:
    """Return the median seconds of each candidate, after one round that is not counted.

    Args:
        candidates: Name to a function without arguments.
        rounds: Counted runs of each, in turn.
    """
    return alternate({name: partial(seconds, run) for name, run in candidates.items()}, rounds)


def alternate(candidates: Mapping[Name, Callable[[], float]], rounds: int) -> dict[Name, float]:
    """Return the median of what each candidate measures, after one round that is not counted.

    Args:
        candidates: Name to a function that returns a measurement.
        rounds: Counted runs of each, in turn.
    """
    measured: dict[Name, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, candidate in candidates.items():
            value = candidate()
            if number:
                measured[name].append(value)
    return {name: statistics.median(values) for name, values in measured.items()}


def seconds(run: Callable[[], object]) -> float:
    """Return how long a call takes."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def print_table(header: list[str], rows: list[list[object]]) -> None:
    """Print a Markdown table."""
    print("| " + " | ".join(header) + " |")
    print("| " + " | ".join("---" for _ in header) + " |")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |", flush=True)
