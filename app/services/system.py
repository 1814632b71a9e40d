"""What the app runs on: device, disk, versions, worker."""

import os
import shutil
import subprocess
import sys
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jobs.home import Home
from jobs.store import Store

PACKAGES = (
    "torch",
    "gradio",
    "faiss-gpu",
    "faiss-cpu",
    "transformers",
    "tokenizers",
    "sqlalchemy",
    "numpy",
)

WORKER_START_S = 15.0


class SystemService:
    """Answers questions about the host."""

    def __init__(self, home: Home, store: Store) -> None:
        self._home = home
        self._store = store
        self._started = time.monotonic()

    def describe(self) -> dict[str, Any]:
        """Return devices, versions, disk and the worker's state."""
        return {
            "devices": list_devices(),
            "device": self.device_label(),
            "disk": self.disk(),
            "worker": self._store.worker_status(),
            "versions": list_versions(),
            "time": time.time(),
        }

    def disk(self) -> dict[str, int]:
        """Return total and free bytes of the disk that holds the home folder."""
        usage = shutil.disk_usage(self._home.path)
        return {"total": usage.total, "free": usage.free}

    def worker_is_alive(self) -> bool:
        """Whether a worker has reported lately."""
        return bool(self._store.worker_status()["alive"])

    def lacks_worker(self) -> bool:
        """Whether jobs wait in vain; not said while a worker may still be starting."""
        return time.monotonic() - self._started > WORKER_START_S and not self.worker_is_alive()

    def device_label(self) -> str:
        """Return the device in a few words for the status strip."""
        devices = list_devices()
        first = devices[0]["name"]
        return first if len(devices) == 1 else f"{len(devices)} x {first}"


@cache
def list_devices() -> list[dict[str, Any]]:
    """Return the GPUs of the host, or its CPU, without importing torch.

    Asking torch would take the web process seconds and memory that only a generation
    needs.
    """
    gpus = _nvidia_devices()
    if gpus:
        return [{"kind": "cuda", "name": name} for name in gpus]
    if sys.platform == "linux":
        threads = len(os.sched_getaffinity(0))
    else:
        threads = os.cpu_count() or 1
    return [{"kind": "cpu", "name": f"CPU, {threads} {'thread' if threads == 1 else 'threads'}"}]


def _nvidia_devices() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None or not Path(program).exists():
        return []
    try:
        answer = subprocess.run(
            [program, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [
        line.strip()
        for line in answer.stdout.splitlines()
        if line.strip() and not answer.returncode
    ]


@cache
def list_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that matter, those installed."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
