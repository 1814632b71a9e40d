"""Uploads while web processes are killed: ``python -m bench.soak.uploads [--uploads 1000]``.

Exit code 1 says that a promise was broken: rows and files agree, nothing that was acknowledged is
lost, a deleted corpus does not come back, a request that is sent again is not done twice.
"""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

from bench.soak.upload_cycles import UploadSoak
from jobs.home import Home
from jobs.store.store import Store


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak.uploads", description=__doc__)
    parser.add_argument("--uploads", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--seed", type=int, help="of the kills (default: another each time)")
    parser.add_argument("--database-url", help="empty PostgreSQL database (default: SQLite)")
    given = parser.parse_args(arguments)
    # The builds are small, and threads that wait for each other would take longer.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    seed = given.seed if given.seed is not None else random.randrange(10**6)
    home = Home(Path(tempfile.mkdtemp(prefix="retro-uploads-")))
    print(f"seed {seed}, folder {home.path}", flush=True)
    store = Store(given.database_url or home.database_url())
    soak = UploadSoak(home, store, random.Random(seed), lambda text: print(text, flush=True))
    try:
        figures = soak.run(given.uploads)
    finally:
        soak.close()
        store.close()
    print(figures.summary())
    return 1 if figures.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
