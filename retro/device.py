"""Where tensors are computed and in which number format."""

import ctypes
import os
import platform
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

import torch
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # has no types

from retro.config.training import Precision

MALLOPT_TRIM_THRESHOLD = -1
MALLOPT_MMAP_MAX = -4
"""Numbers of these settings in the C library's malloc.h."""


def default_device() -> torch.device:
    """Return the first CUDA device, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def share_cores() -> None:
    """Use half of this process's CPU threads from now on, so that a job beside keeps the rest."""
    torch.set_num_threads(max(1, torch.get_num_threads() // 2))


class _OneBlasThread:
    """Counts who wants one thread: blocks may overlap without ending in reverse order.

    The number is set by a thread of its own: OpenBLAS 0.3.31 takes it from the first thread
    that ever sets it, and ignores all others.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget every user; a forked process has none, and lacks the thread."""
        self._lock = Lock()
        self._users = 0
        self._limit: Any = None
        self._setter = ThreadPoolExecutor(1, thread_name_prefix="blas")

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._limit = self._setter.submit(_limit_blas).result()

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._setter.submit(self._limit.restore_original_limits).result()


_ONE_BLAS_THREAD = _OneBlasThread()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ONE_BLAS_THREAD.reset)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Compute NumPy's matrix products on one thread inside the block.

    Products of a matrix that fits into a cache with one vector are no faster on several, and
    far slower where other work keeps a core busy.
    """
    _ONE_BLAS_THREAD.enter()
    try:
        yield
    finally:
        _ONE_BLAS_THREAD.leave()


def _limit_blas() -> Any:
    return _blas().limit(limits=1)


@cache
def _blas() -> ThreadpoolController:
    """Return the control of the libraries that NumPy uses; finding them takes a while."""
    found: ThreadpoolController = ThreadpoolController().select(internal_api="openblas")
    return found


def keep_freed_memory() -> None:
    """Let this process keep memory it has freed, for its next large tensors.

    The GNU C library returns large blocks to the system at once, and the system hands them out
    again page by page, zeroed: measured a tenth of a training step in float32 on two cores, and
    a quarter in bfloat16. Elsewhere nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    library.mallopt(MALLOPT_MMAP_MAX, 0)
    library.mallopt(MALLOPT_TRIM_THRESHOLD, 2**31 - 1)


def autocast_dtype(device: torch.device, precision: Precision) -> torch.dtype | None:
    """Return the number format of matrix products, or None for float32.

    ``AUTO`` takes bfloat16 only where the device has instructions for it: elsewhere it
    is emulated, and slower than float32.
    """
    if precision is Precision.AUTO:
        return torch.bfloat16 if _computes_bfloat16(device) else None
    return torch.bfloat16 if precision is Precision.BFLOAT16 else None


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        features = torch.cpu.get_capabilities()
        return any(features.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))
    return False
