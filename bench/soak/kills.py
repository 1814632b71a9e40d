"""One kill at a random moment."""

import random
import time
from dataclasses import dataclass
from pathlib import Path

from bench.soak.processes import Child, WorkerProcess, children, kill, wait_for
from jobs.home import Home
from jobs.store.rows import JobRow
from jobs.store.store import Store

VICTIMS = {"child": 45, "group": 15, "worker": 20, "both": 20}
"""Who is killed, and how often of a hundred times."""
DELAYS_S = ((0.0, 0.3, 35), (0.3, 1.5, 30), (1.5, 5.0, 35))
"""How long a kill waits: from, to, and how often of a hundred times."""
WHILE_WRITING = 0.3
"""Share of kills that wait until something is being written."""
WRITING_S = 0.01
"""How long such a kill waits then at most."""
PATIENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class Kill:
    """A job whose process was killed."""

    job_id: str
    at: float
    with_worker: bool


class Killer:
    """Chooses a victim and a moment.

    Args:
        store: The database.
        home: The folder.
        worker: The worker.
        chance: Where chance comes from.
    """

    def __init__(self, store: Store, home: Home, worker: WorkerProcess, chance: random.Random):
        self._store = store
        self._home = home
        self._worker = worker
        self._chance = chance

    def strike(self) -> tuple[str, str, Kill | None]:
        """Wait, then kill.

        Returns:
            Who was killed, what the killed job was doing, and the kill of a job, if it was one.
        """
        victim = self._chance.choices(list(VICTIMS), list(VICTIMS.values()))[0]
        low, high, _ = self._chance.choices(DELAYS_S, [share for *_, share in DELAYS_S])[0]
        time.sleep(self._chance.uniform(low, high))
        child = None if victim == "worker" else self._choose()
        if child is None:
            self._worker.kill()
            return "worker", "", None
        worker_first = self._chance.random() < 0.5
        if victim == "both" and worker_first:
            self._worker.kill()
        at = time.time()
        kill(child, group=victim == "group")
        moment = self._moment(child)
        if victim == "both" and not worker_first:
            self._worker.kill()
        return victim, moment, Kill(child.job_id, at, victim == "both")

    def _choose(self) -> Child | None:
        """Return any process of a job, or one that is just writing, None if none comes up."""
        wait_for(lambda: bool(children(self._home)), PATIENCE_S)
        alive = children(self._home)
        if not alive:
            return None
        if self._chance.random() < WHILE_WRITING:
            folders = {child: self._folder(self._store.get_job(child.job_id)) for child in alive}
            writing: list[Child] = []

            def is_writing() -> bool:
                writing.extend(child for child in alive if is_being_written(folders[child]))
                return bool(writing)

            if wait_for(is_writing, PATIENCE_S, every=0.001):
                time.sleep(self._chance.uniform(0, WRITING_S))
                return writing[0]
        return self._chance.choice(alive)

    def _folder(self, job: JobRow) -> Path:
        """Return the folder that a job writes into."""
        if job.run_id is not None:
            return self._home.run_dir(job.run_id) / "checkpoints"
        return self._home.corpus_dir(job.corpus_id or "")

    def _moment(self, child: Child) -> str:
        """Return what a process did that was killed just now."""
        job = self._store.get_job(child.job_id)
        if job.lease_token != child.token:
            return f"{job.kind}: has ended"
        if is_being_written(self._folder(job)):
            return f"{job.kind}: writing"
        return f"{job.kind}: {job.stage or job.state.value}"


def is_being_written(folder: Path) -> bool:
    """Return whether there is something half-written in a folder."""
    return next(folder.glob(".tmp-*"), None) is not None
