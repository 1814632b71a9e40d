"""Takes secrets out of the environment once they are known.

Whoever could make this process read a file of the host could also read its environment, in
``/proc/self/environ``. Removing a variable leaves it there: its memory has to be overwritten.
"""

import ctypes
import os
import sys
from collections.abc import MutableMapping

SECRETS = ("RETRO_TOKEN", "RETRO_DATABASE_URL", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""The hub's are for jobs, which are started with the environment as it was."""


def take_secrets(environment: MutableMapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment as it is, and remove its secrets from this process."""
    taken = dict(environment)
    for name in SECRETS:
        if name in environment:
            if environment is os.environ:
                _overwrite(name)
            del environment[name]
    return taken


def _overwrite(name: str) -> None:
    if not sys.platform.startswith("linux"):
        return
    find = ctypes.CDLL(None).getenv
    find.restype = ctypes.c_void_p
    address = find(name.encode())
    if address:
        ctypes.memset(address, 0, len(ctypes.string_at(address)))
