"""Run all benchmarks, or those named: ``python -m bench [start attention training pages]``.

Each prints a Markdown table. Nothing else heavy should run on the machine: on a busy one,
two threads that wait for each other are many times slower.
"""

import sys
from importlib import import_module

NAMES = ("start", "attention", "training", "generation", "pages")


def main() -> int:
    wanted = sys.argv[1:] or NAMES
    for name in wanted:
        if name not in NAMES:
            print(f"There is no benchmark {name!r}; choose from {', '.join(NAMES)}.")
            return 1
    for name in wanted:
        print(f"\n## {name}\n", flush=True)
        import_module(f"bench.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
