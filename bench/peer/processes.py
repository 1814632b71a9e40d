"""Starts the two workers and asks them."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]
PEER_PYTHON = "RETRO_PEER_PYTHON"
KEPT = ", freed memory kept"
KEEP_FREED_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
"""What ``retro.device.keep_freed_memory`` does when the trainer starts, for either library."""


class PeerMissingError(Exception):
    """There is no environment with retro-pytorch."""


class WorkerError(Exception):
    """A worker could not do what it was asked."""


def peer_python() -> Path:
    """Return the interpreter of the peer's environment.

    Raises:
        PeerMissingError: There is none.
    """
    python = Path(os.environ.get(PEER_PYTHON) or ROOT / ".venv-peer" / "bin" / "python")
    if not python.is_file():
        raise PeerMissingError(
            f"These benchmarks need retro-pytorch in an environment of its own, and {python} does "
            f"not exist. Run `make bench-peer-env`, or set {PEER_PYTHON} to its interpreter."
        )
    return python


class Worker:
    """A process that measures one of the two libraries when asked, and sleeps otherwise."""

    def __init__(self, python: Path | str, module: str, *, kept: bool = False) -> None:
        self._process = subprocess.Popen(
            [str(python), "-m", module],
            cwd=ROOT,
            env={**os.environ, **(KEEP_FREED_MEMORY if kept else {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("BENCH_VERBOSE") else subprocess.DEVNULL,
            text=True,
        )
        try:
            self.facts: dict[str, Any] = self._answer()
        except WorkerError:
            self.close()
            raise

    def ask(self, command: str, **arguments: object) -> Any:
        """Return the answer to one command.

        Raises:
            WorkerError: The worker failed or died.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the missing answer is reported
            self._process.stdin.write(json.dumps([command, arguments]) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it died before it read everything
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(
                f"`{' '.join(map(str, self._process.args))}` ended early. "  # type: ignore[arg-type]
                f"BENCH_VERBOSE=1 shows what it says."
            )
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["value"]


def our_worker(*, kept: bool = False) -> Worker:
    return Worker(sys.executable, "bench.peer.ours", kept=kept)


def peer_worker(*, kept: bool = False) -> Worker:
    return Worker(peer_python(), "bench.peer.theirs", kept=kept)


STARTS: dict[str, Callable[[], Worker]] = {
    "peer": peer_worker,
    "ours": our_worker,
    f"peer{KEPT}": partial(peer_worker, kept=True),
    f"ours{KEPT}": partial(our_worker, kept=True),
}
"""Which processes there can be, by the name they have in tables."""


@contextlib.contextmanager
def started(*names: str) -> Iterator[dict[str, Worker]]:
    """Yield workers by name, all started; print what they run on."""
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(STARTS[name]()) for name in names}
        for name, worker in workers.items():
            facts = "{name}: torch {torch}, {device}, {threads} threads".format(**worker.facts)
            print(f"- {name} = {facts}")
        print()
        yield workers
