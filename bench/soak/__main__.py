"""Kill jobs and workers at random: ``python -m bench.soak [--cycles 1000]``, see ``--help``.

Everything happens in a folder of its own; exit code 1 says that a promise was broken.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.soak.cycles import Soak
from bench.soak.figures import Figures
from bench.soak.parts import run_parts
from bench.soak.timings import measure
from jobs.home import Home
from jobs.store.store import Store


def main(arguments: list[str]) -> int:
    given = _parse(arguments)
    # The same numbers as in the reference need the same number of threads.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    seed = given.seed if given.seed is not None else random.randrange(10**6)
    folder = given.home or Path(tempfile.mkdtemp(prefix="retro-soak-"))
    _say(f"seed {seed}, folder {folder}")
    figures = _soak(given, folder, seed)
    if given.part_kills:
        _say("kills while saving and while building, full disks")
        figures.extra, broken = run_parts(given.part_kills, seed)
        figures.broken += broken
    _say(figures.summary())
    if given.json is not None:
        values = {"seed": seed, "slots": given.slots, **figures.as_json()}
        given.json.write_text(json.dumps(values, indent=2) + "\n")
    return 1 if figures.broken else 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--cycles", type=int, default=1000, help="kills (default: 1000)")
    parser.add_argument("--seed", type=int, help="of the kills (default: another each time)")
    parser.add_argument("--home", type=Path, help="folder, empty (default: a temporary one)")
    parser.add_argument("--slots", type=int, default=2, help="jobs at once (default: 2)")
    parser.add_argument("--database-url", help="empty PostgreSQL database (default: SQLite)")
    parser.add_argument("--variants", type=int, default=2, help="different corpora (default: 2)")
    parser.add_argument(
        "--part-kills",
        type=int,
        default=200,
        help="kills while saving, and while building, beside the cycles; 0 leaves those parts, "
        "and full disks, out (default: 200)",
    )
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    return parser.parse_args(arguments)


def _soak(given: argparse.Namespace, folder: Path, seed: int) -> Figures:
    home = Home(folder / "home")
    store = Store(given.database_url or home.database_url())
    home.create()
    soak = Soak(
        store,
        home,
        slots=given.slots,
        variants=given.variants,
        chance=random.Random(seed),
        tell=_say,
    )
    # The timings wait most of the time, and what else goes on must not break them.
    with ThreadPoolExecutor(1) as pool:
        timings = pool.submit(measure, folder, lambda home: Store(home.database_url()))
        figures = soak.run(given.cycles)
        figures.timings_s, broken = timings.result()
    figures.broken += broken
    store.close()
    return figures


def _say(sentence: str) -> None:
    print(sentence, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
