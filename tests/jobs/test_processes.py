"""Recognising and describing processes."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from jobs.store.rows import JobRow
from jobs.store.store import Store
from jobs.work.processes import (
    describe_end,
    has_ended,
    is_process_of,
    is_worker,
    kill_group,
    terminate,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def job(store: Store) -> JobRow:
    store.submit("count", settings={})
    return store.claim("host")


def sleeper(token: str) -> subprocess.Popen[bytes]:
    code = "import time; time.sleep(600)"
    return subprocess.Popen([sys.executable, "-c", code, "id", token], start_new_session=True)


def test_a_process_is_known_by_its_lease(job: JobRow) -> None:
    process = sleeper(job.lease_token)
    running = replace(job, pid=process.pid)
    try:
        assert is_process_of(running)
        assert not is_process_of(replace(running, lease_token="another"))
        assert not is_process_of(replace(running, pid=None))
        assert not has_ended(process)
    finally:
        process.kill()

    while not has_ended(process):
        pass
    assert not is_process_of(running)
    assert process.wait() == -9
    assert not is_process_of(running)


def test_a_process_that_has_just_begun_counts_as_alive(
    job: JobRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The system has replaced the program and not set its arguments yet.
    monkeypatch.setattr(psutil.Process, "cmdline", lambda _: [])

    assert is_process_of(replace(job, pid=os.getpid()))


def test_ending_a_process_that_is_gone_changes_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    terminate(process.pid)
    kill_group(process.pid)


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        (None, "is gone"),
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-9, "run out of memory"),
        (-11, "SIGSEGV"),
    ],
)
def test_the_end_of_a_process_is_described(exit_code: int | None, words: str) -> None:
    assert words in describe_end(exit_code)


def test_a_process_that_may_not_be_looked_at_is_left_alone(
    job: JobRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_process: psutil.Process) -> list[str]:
        raise psutil.AccessDenied

    process = sleeper(job.lease_token)
    monkeypatch.setattr(psutil.Process, "cmdline", refuse)
    try:
        assert is_process_of(replace(job, pid=process.pid))
    finally:
        process.kill()
        process.wait()


def test_a_worker_is_known_by_its_command(tmp_path: Path, job: JobRow) -> None:
    command = [sys.executable, "-m", "jobs", "--home", str(tmp_path)]
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    other = sleeper(job.lease_token)
    try:
        assert is_worker(worker.pid)
        assert not is_worker(other.pid)
    finally:
        for process in (worker, other):
            process.kill()
            process.wait()
    assert not is_worker(worker.pid)
