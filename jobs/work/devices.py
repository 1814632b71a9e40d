"""The device slots of this host, counted without loading torch."""

import shutil
import subprocess
from collections.abc import Mapping

CPU_SLOT = "cpu"
CUDA_PREFIX = "cuda:"


def device_slots(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return one slot per CUDA device this process may use, else one for the CPU.

    Args:
        environ: Environment; ``CUDA_VISIBLE_DEVICES`` narrows the choice.
    """
    listing = _list_devices()
    count = sum(line.startswith("GPU ") for line in listing.splitlines())
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    return slots_of(count, visible)


def slots_of(count: int, visible: str | None) -> tuple[str, ...]:
    """Return the slots of a host.

    Args:
        count: CUDA devices of the host.
        visible: Value of ``CUDA_VISIBLE_DEVICES``, None where it is not set. CUDA ignores
            what follows an entry that names no device.
    """
    if count == 0:
        return (CPU_SLOT,)
    names = [str(index) for index in range(count)]
    if visible is not None:
        names = []
        for entry in (entry.strip() for entry in visible.split(",")):
            is_index = entry.lstrip("-").isdigit()
            if not entry or (is_index and not 0 <= int(entry) < count):
                break
            names.append(entry)
    return tuple(f"{CUDA_PREFIX}{name}" for name in names) or (CPU_SLOT,)


def slot_environment(slot: str) -> dict[str, str]:
    """Return the variables that confine a process to its slot."""
    if slot == CPU_SLOT:
        return {}
    return {"CUDA_VISIBLE_DEVICES": slot.removeprefix(CUDA_PREFIX)}


def _list_devices() -> str:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    try:
        found = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout if found.returncode == 0 else ""
