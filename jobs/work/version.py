"""Identity of the program's source files: workers of an older program are recognized by it."""

import hashlib
from functools import cache

from jobs.work.processes import ROOT

PACKAGES = ("jobs", "retro")
"""What a worker and its jobs run."""


@cache
def program_version() -> str:
    """Return an identity of the program's files as this process found them.

    A worker may outlive the web server that started it, and the program may be replaced
    meanwhile; the version number is not enough, because a checkout changes without it.
    """
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
