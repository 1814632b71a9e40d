"""The two processes: what starting loads, and what stopping ends."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from app.edge.listening import listen
from jobs.home import Home
from jobs.store.store import Store
from retro.errors import ConfigError
from tests.app.real_app import TOKEN
from tests.support.servers import ROOT, Server, start_app, stop_app
from tests.support.waiting import PATIENCE_S, wait_until

HEAVY = ("libtorch", "faiss")
"""Parts of the names of the files that torch and faiss load."""


@pytest.fixture(scope="module")
def program() -> ModuleType:
    """Return app.py as a module; the package of the same name hides it."""
    spec = importlib.util.spec_from_file_location("start", ROOT / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("127.0.0.1", "Address already in use"),
        ("192.0.2.1", "Cannot assign requested address"),
        ("no-such-host.invalid", "not known"),
    ],
)
def test_an_address_that_cannot_be_used_ends_with_the_reason(
    tmp_path: Path, program: ModuleType, capsys: pytest.CaptureFixture[str], host: str, reason: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = ["--home", str(tmp_path / "home"), "--host", host, "--port", str(port)]
        code = program.main(program.read_arguments(said, {"RETRO_TOKEN": TOKEN}))

    output = capsys.readouterr()
    assert code == 1
    assert output.err.startswith("RETRO_HOST and RETRO_PORT must be an address that is free")
    assert f"got {host}:{port} (" in output.err
    assert reason in output.err or "resolution" in output.err
    assert output.out == ""
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("host", ["h" * 10_000, "a..b", "\ud800"])
def test_what_is_no_name_of_a_host_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="RETRO_HOST must be an address or the name of a host"):
        listen(host, 0)


def test_every_address_of_a_name_is_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = ["127.0.0.1", "192.0.2.1", "127.0.0.2", "127.0.0.1"]
    stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    found = [(*stream, (address, 0)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    listeners = listen("localhost", 0)

    assert [one.getsockname()[0] for one in listeners] == ["127.0.0.1", "127.0.0.2"]
    for one in listeners:
        one.close()


def test_words_it_does_not_know_are_refused(
    program: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    for said, code in (("--prot", 2), ("--help", 0)):
        with pytest.raises(SystemExit) as ended:
            program.read_arguments([said], {})
        assert ended.value.code == code

    output = capsys.readouterr()
    assert "--prot" in output.err
    assert "RETRO_TOKEN" in output.out


@pytest.mark.slow
def test_a_network_address_without_a_token_ends_with_the_reason(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "app.py", "--host", "0.0.0.0"],
        cwd=ROOT,
        env={**os.environ, "RETRO_HOME": str(tmp_path), "RETRO_TOKEN": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("RETRO_TOKEN must be set to listen on '0.0.0.0'")


@pytest.fixture
def older_worker(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of another version of the program, which nobody started it beside."""
    program = tmp_path / "older"
    for package in ("jobs", "retro"):
        shutil.copytree(ROOT / package, program / package)
    with (program / "jobs" / "worker.py").open("a") as file:
        file.write("# Not as it is today.\n")
    home = tmp_path / "home"
    environ = {**os.environ, "RETRO_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    worker = subprocess.Popen([sys.executable, "-m", "jobs"], cwd=program, env=environ)
    try:
        store = Store(Home(home).database_url())
        wait_until(home.exists)
        wait_until(lambda: any(row.pid == worker.pid for row in store.list_workers()))
        store.close()
        yield worker
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.slow
def test_the_server_keeps_one_worker_of_its_version_and_ends_it(
    tmp_path: Path, older_worker: subprocess.Popen[bytes]
) -> None:
    server = start_app(tmp_path / "home")
    try:
        first = the_older_worker_makes_way(server, older_worker)
        the_web_process_does_without_torch(server)
        second = a_worker_that_was_lost_is_started_again(server, first)
        server.process.send_signal(signal.SIGINT)

        assert server.process.wait(30) == 0
        assert not psutil.pid_exists(second)
    finally:
        stop_app(server)


def new_worker(server: Server, *before: int) -> int:
    wait_until(lambda: server.worker_pid() not in (None, *before), every_s=0.1)
    pid = server.worker_pid()
    assert pid is not None
    return pid


def the_older_worker_makes_way(server: Server, older: subprocess.Popen[bytes]) -> int:
    assert older.wait(PATIENCE_S) == 0
    pid = new_worker(server, older.pid)
    [worker] = server.get("/system")["workers"]
    assert worker["is_this_version"]
    return pid


def the_web_process_does_without_torch(server: Server) -> None:
    for path in ("/corpora", "/runs", "/jobs", "/settings", "/presets"):
        server.get(path)
    loaded = {Path(found.path).name for found in psutil.Process(server.process.pid).memory_maps()}
    assert any("sqlite" in name for name in loaded), "nothing can be told from these names"
    assert not [name for name in loaded if any(part in name for part in HEAVY)]


def a_worker_that_was_lost_is_started_again(server: Server, first: int) -> int:
    os.kill(first, signal.SIGKILL)
    return new_worker(server, first)
