"""The two processes: what starting loads, and what stopping ends."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from app.edge.listening import listen
from jobs.home import Home
from jobs.store import Store
from retro.errors import ConfigError
from tests.app.real_app import TOKEN

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0

pytestmark = pytest.mark.slow


def test_the_web_process_starts_without_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from app.services.services import Services; from app.web import make_app\n"
        "from jobs.home import Home; from jobs.store import Store\n"
        f"home = Home(Path({str(tmp_path)!r})); home.create()\n"
        "make_app(Services(home, Store(home.database_url())), token=None)\n"
        "heavy = {'torch', 'transformers', 'faiss'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("127.0.0.1", "Address already in use"),
        ("192.0.2.1", "Cannot assign requested address"),
        ("no-such-host.invalid", "not known"),
    ],
)
def test_an_address_that_cannot_be_used_ends_with_the_reason(
    tmp_path: Path, host: str, reason: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = start_in_vain(
            "--home", str(tmp_path / "home"), "--host", host, "--port", str(port),
            RETRO_TOKEN=TOKEN,
        )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr.startswith("RETRO_HOST and RETRO_PORT must be an address that is free")
    assert f"got {host}:{port} (" in done.stderr
    assert reason in done.stderr or "resolution" in done.stderr
    assert done.stdout == ""
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


def test_words_it_does_not_know_are_refused() -> None:
    done = start_in_vain("--prot", "80")

    assert (done.returncode, "--prot" in done.stderr) == (2, True)
    assert "RETRO_TOKEN" in start_in_vain("--help").stdout


def start_in_vain(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end, which comes at once."""
    return subprocess.run(
        [sys.executable, "app.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def test_a_network_address_without_a_token_ends_with_the_reason(tmp_path: Path) -> None:
    done = start_in_vain(RETRO_HOME=str(tmp_path), RETRO_HOST="0.0.0.0", RETRO_TOKEN="")

    assert done.returncode == 1
    assert done.stderr.startswith("RETRO_TOKEN must be set to listen on '0.0.0.0'")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = str(tmp_path / "home")
    return {**os.environ, "RETRO_HOME": home, "RETRO_PORT": str(port), "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def older_worker(tmp_path: Path, environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of another version of the program, which nobody started it beside."""
    program = tmp_path / "older"
    for package in ("jobs", "retro"):
        shutil.copytree(ROOT / package, program / package)
    with (program / "jobs" / "worker.py").open("a") as file:
        file.write("# Not as it is today.\n")
    worker = subprocess.Popen([sys.executable, "-m", "jobs"], cwd=program, env=environ)
    try:
        store = Store(Home(tmp_path / "home").database_url())
        wait_until((tmp_path / "home").exists)
        wait_until(lambda: any(row.pid == worker.pid for row in store.list_workers()))
        store.close()
        yield worker
    finally:
        worker.kill()
        worker.wait()


@pytest.fixture
def server(environ: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environ)
    address = f"http://127.0.0.1:{environ['RETRO_PORT']}"
    try:
        wait_until(lambda: is_up(address) and worker_pid(address) is not None)
        yield process, address
    finally:
        # Not killed: it has to end its worker.
        process.terminate()
        process.wait(PATIENCE_S)


def is_up(address: str) -> bool:
    try:
        return httpx.get(f"{address}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def worker_pid(address: str) -> int | None:
    worker = httpx.get(f"{address}/api/v1/system").json()["worker"]
    return int(worker["pid"]) if worker["alive"] else None


def wait_until(condition: object) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if callable(condition) and condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_ends_web_and_worker(
    server: tuple[subprocess.Popen[bytes], str], number: signal.Signals
) -> None:
    process, address = server
    worker = worker_pid(address)
    assert worker is not None

    process.send_signal(number)

    assert process.wait(30) == 0
    assert not psutil.pid_exists(worker)


def test_a_worker_that_was_lost_is_started_again(
    server: tuple[subprocess.Popen[bytes], str],
) -> None:
    _, address = server
    first = worker_pid(address)
    assert first is not None

    os.kill(first, signal.SIGKILL)

    wait_until(lambda: worker_pid(address) not in (None, first))
    second = worker_pid(address)
    assert second is not None
    psutil.Process(second).terminate()


def test_a_worker_of_another_version_makes_way(
    older_worker: subprocess.Popen[bytes], server: tuple[subprocess.Popen[bytes], str]
) -> None:
    _, address = server

    assert older_worker.wait(PATIENCE_S) == 0
    wait_until(lambda: worker_pid(address) not in (None, older_worker.pid))
    [worker] = httpx.get(f"{address}/api/v1/system").json()["workers"]
    assert worker["is_this_version"]
