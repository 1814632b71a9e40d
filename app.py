"""Starts the web app and, beside it, the worker that runs the jobs.

The worker is a process of its own and every job is one of the worker's: ending the web
server ends neither a build nor a training run, and the next start finds them at work.
"""

import argparse
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

import uvicorn

from app.edge.connections import guarded_protocol, limits_of_this_host
from app.edge.environment import take_secrets
from app.edge.listening import listen
from app.edge.log_limits import RareLines
from app.services.installation import SetUp
from app.services.services import Services
from app.services.system import SystemService
from app.settings import Settings, read_settings
from app.web import make_app
from jobs.errors import PASSING_FAULTS, JobError
from jobs.home import Home
from jobs.redaction import RedactingFormatter
from jobs.store.store import Store
from retro.errors import RetroError
from retro.model.pretrained.bundled import MODELS_VARIABLE

logger = logging.getLogger(__name__)

WORKER_STOP_S = 10
LOOK_EVERY_S = 2.0
STOP_REQUESTS_S = 3


def main(environment: Mapping[str, str]) -> int:
    """Run until interrupted and return the exit status."""
    try:
        settings = read_settings(environment)
        os.environ.setdefault(MODELS_VARIABLE, str(settings.home / "models"))
        listeners = listen(settings.host, settings.port)
        services = open_services(settings)
        app = make_app(services, token=settings.token, mcp=settings.mcp)
    except (RetroError, JobError) as error:
        print(error, file=sys.stderr)
        return 1
    # uvicorn raises the signal that ended it once more: it must not skip the lines below.
    signal.signal(signal.SIGTERM, _leave)
    keeper = WorkerKeeper(settings, environment, services.system)
    keeper.start()
    config = uvicorn.Config(
        app,
        log_level="warning",
        http=guarded_protocol(limits_of_this_host()),
        ws="none",
        timeout_graceful_shutdown=STOP_REQUESTS_S,
        server_header=False,
        # Otherwise anyone on this host could choose the address that is throttled.
        proxy_headers=False,
        # Its lines go through our own handler, which blots out secrets.
        log_config=None,
    )
    try:
        print(f"RETRO is at http://{settings.host}:{settings.port}", flush=True)
        uvicorn.Server(config).run(sockets=listeners)
    except KeyboardInterrupt:
        pass
    finally:
        keeper.stop()
    return 0


def read_arguments(arguments: list[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with what was said on the command line in its place."""
    parser = argparse.ArgumentParser(
        prog="python app.py",
        description="Starts the web app and, beside it, the worker that runs the jobs.",
        epilog="Environment: RETRO_HOME, RETRO_HOST, RETRO_PORT, RETRO_TOKEN (access token), "
        "RETRO_DATABASE_URL (PostgreSQL), RETRO_ENCODER, RETRO_MCP (off, read or write); see "
        "README.md.",
    )
    parser.add_argument("--home", help="folder that holds everything (default: ~/.retro)")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", help="port to listen on (default: 7860)")
    given = vars(parser.parse_args(arguments))
    said = {f"RETRO_{name.upper()}": value for name, value in given.items() if value is not None}
    return {**environment, **said}


def start_logging(token: str | None) -> None:
    """Write the log to standard error, without tokens."""
    handler = logging.StreamHandler()
    pattern = "%(asctime)s %(levelname)s %(name)s %(message)s"
    handler.setFormatter(RedactingFormatter(pattern, token))
    handler.addFilter(RareLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def open_services(settings: Settings) -> Services:
    """Open the home folder and the database."""
    home = Home(settings.home)
    home.create()
    store = Store(settings.database_url or home.database_url())
    store.check()
    return Services(home, store, set_up=SetUp.of(settings))


class WorkerKeeper:
    """Keeps a worker at work beside the web server.

    A worker of a former start may still be there; then a second one would end at once. It
    is started when no other one reports any more.

    Args:
        settings: Where the worker keeps its files.
        environment: Passed on to it.
        system: Knows the workers.
    """

    def __init__(
        self, settings: Settings, environment: Mapping[str, str], system: SystemService
    ) -> None:
        self._environment = {**environment, "RETRO_HOME": str(settings.home.absolute())}
        # Only the web server has to know it.
        self._environment.pop("RETRO_TOKEN", None)
        self._system = system
        self._worker: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="worker-keeper", daemon=True)

    def start(self) -> None:
        """Start the worker now, and again if it should end."""
        self._thread.start()

    def stop(self) -> None:
        """End the worker; the jobs it started go on."""
        self._stopping.set()
        self._thread.join()
        worker = self._worker
        if worker is not None and worker.poll() is None:
            worker.terminate()
            try:
                worker.wait(WORKER_STOP_S)
            except subprocess.TimeoutExpired:
                worker.kill()

    def _keep(self) -> None:
        while not self._stopping.is_set():
            try:
                self._look()
            except PASSING_FAULTS:
                logger.warning("the database does not answer; looking again")
            self._stopping.wait(LOOK_EVERY_S)

    def _look(self) -> None:
        if self._worker is not None and self._worker.poll() is None:
            return
        self._system.end_outdated_worker()
        if not self._system.local_worker_is_alive():
            self._worker = subprocess.Popen(
                [sys.executable, "-m", "jobs"],
                cwd=Path(__file__).parent,
                env=self._environment,
                # Ctrl-C in a terminal goes to the whole group; the worker is ended by us.
                start_new_session=True,
            )


if __name__ == "__main__":
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    given = take_secrets()
    start_logging(given.get("RETRO_TOKEN"))
    sys.exit(main(read_arguments(sys.argv[1:], given)))
