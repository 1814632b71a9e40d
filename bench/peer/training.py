"""Training tokens per second, both libraries in turn in one session."""

from functools import partial

from bench.peer.processes import STARTS, Worker, WorkerError, started
from bench.peer.step import BATCH_SIZE, SIZES
from bench.timing import alternate, is_quick, print_table, rounds

WAYS = ("float32", "bfloat16")
OUR_WAYS = (*WAYS, *(f"{way} compiled" for way in WAYS))


def main() -> None:
    with started(*STARTS) as workers:
        prepared = {side: worker.ask("prepare") for side, worker in workers.items()}
        if len({facts["checksum"] for facts in prepared.values()}) > 1:
            raise WorkerError("The libraries were given different tokens.")
        counts = (prepared[side]["parameters"] for side in ("ours", "peer"))
        print("parameters: ours {:,}, peer {:,}\n".format(*counts))
        ours = WAYS if is_quick() else OUR_WAYS
        steps = {
            (side, way): partial(worker.ask, "step", way=way)
            for side, worker in workers.items()
            for way in (ours if side.startswith("ours") else WAYS)
            if can_run(worker, way)
        }
        seconds = alternate(steps, rounds(7))
    tokens = BATCH_SIZE * SIZES["max_seq_len"]
    print_table(
        ["library", "way", "s per step", "tokens/s", "to peer float32", "to peer bfloat16"],
        [
            [
                *name,
                f"{value:.3f}",
                f"{tokens / value:.0f}",
                f"{seconds['peer', 'float32'] / value:.2f}",
                f"{seconds['peer', 'bfloat16'] / value:.2f}",
            ]
            for name, value in seconds.items()
        ],
    )


def can_run(worker: Worker, way: str) -> bool:
    """Take the first step of a way, which may compile; say so where it cannot."""
    try:
        worker.ask("step", way=way)
    except WorkerError as error:
        print(f"Left out: {way} ({str(error).splitlines()[0][:200]})\n")
        return False
    return True
