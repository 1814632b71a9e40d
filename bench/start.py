"""Time of a fresh process to import the library and to build the web app."""

import subprocess
import sys
from functools import partial

from bench.timing import medians, print_table

GOALS = {"import retro": "0.3 s", "import app.web": ""}


def main() -> None:
    def run(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    seconds = medians({code: partial(run, code) for code in ("pass", *GOALS)}, rounds=5)
    print_table(
        ["statement", "seconds beyond an empty process", "goal"],
        [[code, f"{seconds[code] - seconds['pass']:.3f}", GOALS[code]] for code in GOALS],
    )
