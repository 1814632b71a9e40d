"""Parts of the soak that run in processes of their own: one-threaded, so that they can fork."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from bench.soak.processes import ROOT

PARTS: dict[str, Callable[[int, int], list[str]]] = {
    "saving": lambda kills, seed: [str(kills), "--seed", str(seed)],
    "building": lambda kills, seed: ["--kills", str(kills), "--seed", str(seed), "--json"],
    "full_disk": lambda _kills, _seed: ["--stride", "1"],
}
"""Module in this folder to its arguments; each prints its figures as JSON, or fails."""


def run_parts(kills: int, seed: int) -> tuple[dict[str, Any], list[str]]:
    """Kill processes that do one thing only, many times a second.

    Args:
        kills: How many in each part.
        seed: Of the moments of the kills.

    Returns:
        Figures by part, and the promises that were broken.
    """
    figures: dict[str, Any] = {}
    broken = []
    for name, arguments in PARTS.items():
        finished = subprocess.run(
            [sys.executable, "-m", f"bench.soak.{name}", *arguments(kills, seed)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode == 0:
            figures[name] = json.loads(finished.stdout)
        else:
            broken.append(f"{name}: {finished.stderr.strip()[-500:]}")
    return figures, broken
