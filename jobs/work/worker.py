"""The worker: claims jobs, starts a process for each, and looks after them.

It keeps nothing in memory that the next worker would need: which jobs are held, by which
process and on which device is read from the database each time.
"""

import fcntl
import logging
import os
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from jobs.errors import InvalidChangeError, JobError, LeaseLost
from jobs.home import Home, empty_trash
from jobs.store.rows import JobRow
from jobs.store.states import StopIntent
from jobs.store.store import Store
from jobs.store.workers import HEARTBEAT_S
from jobs.work.processes import (
    CHILD_COMMAND,
    describe_end,
    has_ended,
    is_process_of,
    kill_group,
    start_process,
    terminate,
)
from jobs.work.version import program_version

logger = logging.getLogger(__name__)

POLL_S = 1.0
TERMINATE_AFTER_S = 30.0
"""How long a job may take to stop by itself, seconds."""
KILL_AFTER_S = 40.0
"""How long a job may take to stop until everything it started is killed, seconds."""
BACKUP_PREFIX = "retro-"
"""Start of the names of copies; the time in UTC seconds follows."""
BACKUP_EVERY_S = 24 * 3600.0
KEPT_BACKUPS = 3


class WorkerRunningError(JobError):
    """Another worker runs on this host with the same folder."""


class Worker:
    """Runs jobs, one per device slot.

    Args:
        store: The database.
        home: The folder that holds everything.
        slots: Device slots of this host, see ``device_slots``.
        environ: Environment of the processes it starts.
        command: Command of these processes, see ``CHILD_COMMAND``.
        host: Name of this host.
        poll_s: How often the queue is looked at, seconds.
    """

    def __init__(
        self,
        store: Store,
        home: Home,
        *,
        slots: Sequence[str],
        environ: Mapping[str, str],
        command: Sequence[str] = CHILD_COMMAND,
        host: str | None = None,
        poll_s: float = POLL_S,
    ) -> None:
        self.store = store
        self.home = home
        self.slots = tuple(slots)
        self.environ = dict(environ)
        self.command = tuple(command)
        self.host = host or socket.gethostname()
        self._poll_s = poll_s
        self._started_at = store.now()
        self._version = program_version()
        self._beat_at = float("-inf")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._exit_codes: dict[str, int] = {}

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set. Jobs that run then go on.

        Raises:
            WorkerRunningError: Another worker runs on this host with the same folder.
        """
        self.home.create()
        with WorkerLock(self.home.worker_lock(self.host)):
            for parent in (self.home.corpora_dir, self.home.runs_dir):
                empty_trash(parent)
            logger.info("worker on %s, slots %s", self.host, ", ".join(self.slots))
            while not stop.is_set():
                try:
                    self.tick()
                    self.back_up()
                except Exception:  # one bad row or a full disk must not stop the queue
                    logger.exception("the worker goes on after a fault")
                stop.wait(self._poll_s)
            self.store.forget_worker(self.host)
        logger.info("worker stopped; jobs that run go on")

    def tick(self) -> None:
        """Look after the jobs that run, and start those for which a slot is free."""
        if self.store.now() - self._beat_at >= HEARTBEAT_S:
            self.store.heartbeat(self.host, self.slots, self._started_at, self._version)
            self._beat_at = self.store.now()
        self._collect_exit_codes()
        for job in self.store.held_jobs():
            try:
                if job.worker == self.host:
                    self._look_after(job)
                else:
                    self._look_after_foreign(job)
            except InvalidChangeError as error:
                logger.info("job %s has changed meanwhile: %s", job.id, error)
        self.store.requeue_interrupted()
        busy = {job.slot for job in self.store.held_jobs() if job.worker == self.host}
        for slot in self.slots:
            if slot not in busy:
                self._start_next(slot)

    def _start_next(self, slot: str) -> None:
        job = self.store.claim(self.host, slot)
        if job is None or job.lease_token is None:
            return
        logger.info("starting %s job %s, attempt %d", job.kind, job.id, job.attempt)
        try:
            process = start_process(job, self.home, self.store.url, self.environ, self.command)
        except OSError as error:
            logger.exception("job %s could not be started", job.id)
            reason = f"Its process could not be started ({error.strerror})."
            self.store.give_up(job, reason)
            return
        self._processes[job.lease_token] = process
        try:
            self.store.record_pid(job.id, job.lease_token, process.pid)
        except LeaseLost:
            logger.info("job %s ended at once", job.id)

    def _look_after(self, job: JobRow) -> None:
        now = self.store.now()
        if job.pid is None:
            # Claimed by a worker that ended before the process was recorded.
            if job.lease_expires_at is not None and job.lease_expires_at < now:
                self.store.give_up(job, "Its process did not come up.")
            return
        token = job.lease_token or ""
        if token not in self._processes and not is_process_of(job):
            exit_code = self._exit_codes.get(token)
            logger.warning("job %s: %s", job.id, describe_end(exit_code))
            self.store.give_up(job, describe_end(exit_code))
            return
        if job.stop_requested_at is None:
            limit, started_at = job.time_limit_s, job.started_at
            if limit is not None and started_at is not None and now - started_at > limit:
                self.store.request_cancel(job.id, StopIntent.TIME_LIMIT)
            return
        waited = now - job.stop_requested_at
        if waited >= KILL_AFTER_S:
            logger.warning("job %s did not stop; killing its processes", job.id)
            kill_group(job.pid)
        elif waited >= TERMINATE_AFTER_S:
            terminate(job.pid)

    def _look_after_foreign(self, job: JobRow) -> None:
        """Give up a job of another host whose lease nobody renews."""
        expires_at = job.lease_expires_at
        if expires_at is not None and expires_at < self.store.now():
            self.store.give_up(job, f"Its host {job.worker!r} no longer answers.")

    def _collect_exit_codes(self) -> None:
        self._exit_codes.clear()
        for token, process in list(self._processes.items()):
            if has_ended(process):
                kill_group(process.pid)
                self._exit_codes[token] = process.wait()
                del self._processes[token]

    def back_up(self) -> None:
        """Keep a daily copy of the database, and the newest few of them."""
        folder = self.home.backups_dir
        copies = sorted(folder.glob(f"{BACKUP_PREFIX}*.db"))
        now = self.store.now()
        if self.store.engine.dialect.name != "sqlite" or (
            copies and now - int(copies[-1].stem.removeprefix(BACKUP_PREFIX)) < BACKUP_EVERY_S
        ):
            return
        self.store.backup(folder / f"{BACKUP_PREFIX}{int(now)}.db")
        for old in copies[: -(KEPT_BACKUPS - 1)]:
            old.unlink(missing_ok=True)


class WorkerLock:
    """Holds the lock that makes a worker the only one of its host and folder.

    The system lets go of it when the process ends, however it ends.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str]

    def __enter__(self) -> "WorkerLock":
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise WorkerRunningError(
                f"There can be one worker per host and folder, process {holder} is one already. "
                f"Nothing needs to be done."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()
