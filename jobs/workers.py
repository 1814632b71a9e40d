"""Heartbeats of workers, so that the pages can say whether jobs are being run."""

import os
import socket
from collections.abc import Sequence
from typing import Any

import psutil  # type: ignore[import-untyped]  # the package has no types
from sqlalchemy import delete, select

from jobs.database import Database
from jobs.models import Worker

HEARTBEAT_S = 5.0
"""How often a worker reports, seconds."""
SILENCE_S = 30.0
"""A worker that reported longer ago is taken for dead, seconds."""


class WorkerRecords(Database):
    """Writes and reads the heartbeats of workers."""

    def heartbeat(self, host: str, slots: Sequence[str], started_at: float) -> None:
        """Record that this process is the worker of its host, and alive."""
        with self.write() as session:
            session.merge(
                Worker(
                    host=host,
                    pid=os.getpid(),
                    slots=list(slots),
                    started_at=started_at,
                    heartbeat_at=self.now(),
                )
            )

    def forget_worker(self, host: str) -> None:
        """Record that the worker of this host has stopped, if this process is it."""
        with self.write() as session:
            session.execute(delete(Worker).where(Worker.host == host, Worker.pid == os.getpid()))

    def worker_status(self) -> dict[str, Any]:
        """Return whether a worker runs, and what is known of the one that reported last.

        Returns:
            ``alive``, and ``host``, ``pid``, ``slots``, ``started_at``, ``heartbeat_at`` (UTC
            seconds), which are None where no worker was ever seen; ``num_alive`` workers.
        """
        query = select(Worker).order_by(Worker.heartbeat_at.desc())
        with self.read() as session:
            workers = session.scalars(query).all()
        alive = [worker for worker in workers if self._is_alive(worker)]
        shown = alive[0] if alive else workers[0] if workers else None
        names = ("host", "pid", "slots", "started_at", "heartbeat_at")
        return {
            "alive": bool(alive),
            "num_alive": len(alive),
            **{name: None if shown is None else getattr(shown, name) for name in names},
        }

    def _is_alive(self, worker: Worker) -> bool:
        if self.now() - worker.heartbeat_at > SILENCE_S:
            return False
        return worker.host != socket.gethostname() or psutil.pid_exists(worker.pid)
