"""Run benchmarks by name, or those of this library alone: ``python -m bench [NAME ...]``.

``peer`` stands for all that compare with retro-pytorch, which ``make bench-peer-env`` installs.
``BENCH_ROUNDS`` sets how often is measured, ``BENCH_QUICK=1`` only shows that everything runs,
``BENCH_VERBOSE=1`` shows what the compared processes print.

Each prints a Markdown table. Nothing else heavy should run on the machine: on a busy one,
two threads that wait for each other are many times slower.
"""

import sys
from importlib import import_module

from bench.peer.processes import PeerMissingError, WorkerError

OWN = {name: f"bench.{name}" for name in ("start", "attention", "training", "generation", "pages")}
PEER = {
    f"peer-{name}": f"bench.peer.{name}"
    for name in ("training", "memory", "encoding", "generation")
}
LONG = {
    name: f"bench.{name}"
    for name in (
        "retrieval",
        "build",
        "growth",
        "large",
        "readers",
        "curves",
        "gpu",
        "pretrained",
        "adapters",
        "texts",
    )
}
BENCHMARKS = {**OWN, **PEER, **LONG}
GROUPS = {"peer": tuple(PEER)}


def main() -> int:
    wanted = [name for word in sys.argv[1:] or OWN for name in GROUPS.get(word, (word,))]
    for name in wanted:
        if name not in BENCHMARKS:
            choices = ", ".join((*BENCHMARKS, *GROUPS))
            print(f"There is no benchmark {name!r}; choose from {choices}.")
            return 1
    for name in wanted:
        print(f"\n## {name}\n", flush=True)
        try:
            import_module(BENCHMARKS[name]).main()
        except (PeerMissingError, WorkerError) as error:
            print(error)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
