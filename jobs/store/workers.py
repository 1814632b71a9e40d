"""Heartbeats of workers, so that the pages can say whether jobs are being run."""

import os
import socket
from collections.abc import Sequence

import psutil  # type: ignore[import-untyped]  # the package has no types
from sqlalchemy import delete, select

from jobs.store.database import Database
from jobs.store.models import Worker
from jobs.store.rows import WorkerRow, copy_row

HEARTBEAT_S = 5.0
"""How often a worker reports, seconds."""
SILENCE_S = 30.0
"""A worker that reported longer ago is taken for dead, seconds."""


FORGET_S = 24 * 3600.0
"""A worker that reported longer ago is no longer listed, seconds."""


class WorkerRecords(Database):
    """Writes and reads the heartbeats of workers."""

    def heartbeat(
        self, host: str, slots: Sequence[str], started_at: float, version: str = ""
    ) -> None:
        """Record that this process is the worker of its host, and alive."""
        now = self.now()
        with self.write() as session:
            session.execute(delete(Worker).where(Worker.heartbeat_at < now - FORGET_S))
            session.merge(
                Worker(
                    host=host,
                    pid=os.getpid(),
                    slots=list(slots),
                    version=version,
                    started_at=started_at,
                    heartbeat_at=now,
                )
            )

    def forget_worker(self, host: str) -> None:
        """Record that the worker of this host has stopped, if this process is it."""
        with self.write() as session:
            session.execute(delete(Worker).where(Worker.host == host, Worker.pid == os.getpid()))

    def list_workers(self) -> list[WorkerRow]:
        """Return the workers that reported in the last day, by host."""
        with self.read() as session:
            return [
                copy_row(WorkerRow, worker, is_alive=self._is_alive(worker))
                for worker in session.scalars(select(Worker).order_by(Worker.host))
            ]

    def _is_alive(self, worker: Worker) -> bool:
        if self.now() - worker.heartbeat_at > SILENCE_S:
            return False
        return worker.host != socket.gethostname() or psutil.pid_exists(worker.pid)
