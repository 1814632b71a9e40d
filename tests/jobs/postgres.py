"""A PostgreSQL server for the tests, from Debian's package, in a folder that is thrown away."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from jobs.store.store import Store

START_S = 30.0
ADVICE = "PostgreSQL's server programs are not installed: apt-get install postgresql"
INIT_OPTIONS = ("-U", "retro", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
# Nothing here has to outlive a power cut.
OPTIONS = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "listen_addresses=",
    "max_connections=300",
    "shared_buffers=32MB",
    "autovacuum=off",
    "jit=off",
)
# A killed test run must not leave its server behind.
ENDS_WITH_US = ("setpriv", "--pdeathsig", "INT") if shutil.which("setpriv") else ()
TEMPLATE = "retro_template"


class PostgresServer:
    """A server on a Unix socket; it refuses to run as root, so root lends it another user."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="retro-pg-"))
        self._user = "nobody" if os.getuid() == 0 else None
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0
        subprocess.run(
            [programs / "initdb", "-D", self._data, *INIT_OPTIONS],
            user=self._user,
            cwd=self._folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def url(self, database: str) -> str:
        """Return the URL of a database as a user would write it."""
        return f"postgresql://retro@/{database}?host={self._folder}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = [part for option in OPTIONS for part in ("-c", option)]
        program = (self._programs / "postgres", "-D", self._data, "-k", self._folder)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*ENDS_WITH_US, *program, *options],
                user=self._user,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal must leave it to the tests that end.
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self._folder / "log").read_text()
                time.sleep(0.05)

    def stop(self) -> None:
        """End the server and every connection to it; what was committed is kept."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """End the server and remove its folder."""
        self.stop()
        shutil.rmtree(self._folder)

    def execute(self, statement: str) -> None:
        """Execute a statement outside of any transaction."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    @contextlib.contextmanager
    def database(self, *, empty: bool = False) -> Iterator[str]:
        """Make a database for one test, with all tables unless it is to be empty.

        Yields:
            Its URL.
        """
        self._count += 1
        name = f"test_{self._count}"
        template = "template0" if empty else TEMPLATE
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def make_template(self) -> None:
        """Make the database with all tables that others are copied from."""
        self.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
        store = Store(self.url(TEMPLATE))
        store.check()
        store.close()


def find_programs() -> Path | None:
    """Return the folder of the server's programs, the newest version's."""
    debian = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    found = sorted(debian, key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("postgres")
    if found:
        return found[-1].parent
    return None if on_path is None else Path(on_path).resolve().parent


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server of this session; without its programs, tests are skipped, but never in CI."""
    programs = find_programs()
    if programs is None:
        if os.environ.get("CI"):
            pytest.fail(ADVICE)
        pytest.skip(ADVICE)
    server = PostgresServer(programs)
    try:
        server.start()
        server.make_template()
        yield server
    finally:
        server.remove()
