"""Peak memory of the training step, each in a process of its own."""

import statistics

from bench.peer.processes import STARTS
from bench.timing import print_table, rounds

WAYS = ("float32", "bfloat16")


def main() -> None:
    names = [(side, way) for way in WAYS for side in STARTS]
    measured: dict[tuple[str, str], list[float]] = {name: [] for name in names}
    for _ in range(rounds(3)):
        for side, way in names:
            with STARTS[side]() as worker:
                measured[side, way].append(worker.ask("memory", way=way) / 2**20)
    mebibytes = {name: statistics.median(values) for name, values in measured.items()}
    print_table(
        ["library", "way", "peak, MiB", "to peer, same way", "to peer float32"],
        [
            [
                side,
                way,
                f"{value:.0f}",
                f"{value / mebibytes['peer', way]:.2f}",
                f"{value / mebibytes['peer', 'float32']:.2f}",
            ]
            for (side, way), value in mebibytes.items()
        ],
    )
