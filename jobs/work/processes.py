"""Processes of jobs: starting, recognising and ending them."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # the package has no types

from jobs.home import Home
from jobs.store.rows import JobRow
from jobs.work.devices import slot_environment

ROOT = Path(__file__).resolve().parents[2]
CHILD_COMMAND = (sys.executable, "-m", "jobs.work.child")
"""Command of the process of a job; its id and the token of its lease follow."""
ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


def start_process(
    job: JobRow, home: Home, url: str, environ: Mapping[str, str], command: Sequence[str]
) -> subprocess.Popen[bytes]:
    """Start the process of a claimed job, in a session of its own.

    It goes on when the worker ends, and nothing the terminal sends to the worker reaches
    it. What it writes goes to the job's log.

    Args:
        job: The job, just claimed.
        home: The folder that holds everything.
        url: URL of the database.
        environ: Environment of the worker.
        command: See ``CHILD_COMMAND``.
    """
    assert job.lease_token is not None
    assert job.slot is not None
    search_path = [str(ROOT), environ.get("PYTHONPATH", "")]
    variables = {
        # Threads that spin while they wait make training several times slower as soon as
        # anything else needs a core (bench/RESULTS.md); a choice in the environment wins.
        "OMP_WAIT_POLICY": "PASSIVE",
        **environ,
        **slot_environment(job.slot),
        "RETRO_HOME": str(home.path),
        "RETRO_DATABASE_URL": url,
        "PYTHONPATH": os.pathsep.join(filter(None, search_path)),
        "PYTHONUNBUFFERED": "1",
    }
    log = home.job_log(job.id)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [*command, job.id, job.lease_token],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=variables,
            start_new_session=True,
        )


def is_process_of(job: JobRow) -> bool:
    """Return whether the process recorded for a job still runs it.

    A number of a process is used again after it ended, so the number alone proves
    nothing. The token of the lease is on the process's command line and nowhere else; a
    start time would do until somebody sets the clock.
    """
    if job.pid is None or job.lease_token is None:
        return False
    try:
        process = psutil.Process(job.pid)
        if process.status() in ENDED:
            return False
        command = process.cmdline()
        # For a moment while it starts, and while it ends, a process has no command line.
        return not command or job.lease_token in command
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def is_alive(pid: int) -> bool:
    """Return whether a process of this host has not ended, or has not been shown to."""
    try:
        return psutil.Process(pid).status() not in ENDED
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def is_worker(pid: int) -> bool:
    """Return whether a number is that of a worker's process."""
    try:
        return list(psutil.Process(pid).cmdline()[1:3]) == ["-m", "jobs"]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Return whether a process has ended, and leave its exit code to be collected.

    Until then the number of its group is not used again.
    """
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, process.pid, options) is not None


def terminate(pid: int) -> None:
    """Ask a process to end."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


def kill_group(pid: int) -> None:
    """End a process that leads a group, and everything it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def describe_end(exit_code: int | None) -> str:
    """Return what became of a process, a full sentence.

    Args:
        exit_code: As ``Popen.returncode`` has it, None where it is not known.
    """
    if exit_code is None:
        return "Its process is gone."
    if exit_code >= 0:
        return f"Its process ended with exit code {exit_code}."
    if -exit_code == signal.SIGKILL:
        return (
            "Its process was killed (SIGKILL), which a system does that has run out of memory, "
            "among other reasons."
        )
    return f"Its process was ended by signal {signal.Signals(-exit_code).name}."
