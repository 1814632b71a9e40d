"""How fast pages and routes answer while a job trains, over real HTTP."""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.timing import print_table

GOAL_S = 0.3
ROUNDS = 15
STARTUP_S = 120
FIRST_STEP_S = 300


def main() -> None:
    with tempfile.TemporaryDirectory() as home, app_at(Path(home)) as base:
        measure(base)


@contextmanager
def app_at(home: Path) -> Iterator[str]:
    """Run the app over a folder; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "RETRO_HOME": str(home),
        "RETRO_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_OFFLINE": "1",
    }
    server = subprocess.Popen([sys.executable, "app.py"], env=environment)
    try:
        begun = time.perf_counter()
        wait_for(lambda: get(f"{base}/healthz"), STARTUP_S)
        print(f"started in {time.perf_counter() - begun:.1f} s\n")
        yield base
    finally:
        server.terminate()
        server.wait()


def measure(base: str) -> None:
    corpus = post(
        f"{base}/api/v1/corpora",
        {"name": "bench", "sample": "python-docs", "settings": {"tokenizer": None}},
    )
    post(f"{base}/api/v1/corpora/{corpus['id']}/build", {})
    settings = {"name": "bench", "corpus_id": corpus["id"], "training": {"max_steps": 100_000}}
    run = post(f"{base}/api/v1/runs", settings)
    address = f"{base}/api/v1/runs/{run['id']}"
    wait_for(lambda: json.loads(get(address))["step"] > 0, FIRST_STEP_S)
    routes = {
        "page /": "/",
        "page /corpora?corpus=": f"/corpora?corpus={corpus['id']}",
        "page /runs?run=": f"/runs?run={run['id']}",
        "page /generate": "/generate",
        "page /jobs": "/jobs",
        "GET /api/v1/system": "/api/v1/system",
        "GET /api/v1/corpora/{id}": f"/api/v1/corpora/{corpus['id']}",
        "GET /api/v1/runs/{id}": f"/api/v1/runs/{run['id']}",
        "GET /api/v1/runs/{id}/metrics": f"/api/v1/runs/{run['id']}/metrics",
        "GET /api/v1/jobs": "/api/v1/jobs",
    }
    rows: list[list[object]] = []
    for name, path in routes.items():
        seconds = []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            get(base + path)
            seconds.append(time.perf_counter() - begun)
        seconds.sort()
        median, slowest = statistics.median(seconds), seconds[-1]
        met = "yes" if median < GOAL_S else "no"
        rows.append([name, f"{median * 1e3:.0f}", f"{slowest * 1e3:.0f}", met])
    print_table(["answer", "median, ms", "slowest, ms", f"below {GOAL_S:g} s"], rows)
    post(f"{address}/stop", {})
    wait_for(lambda: json.loads(get(address))["state"] == "canceled", 60)


def get(address: str | urllib.request.Request) -> bytes:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.read()


def post(address: str, values: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        address, json.dumps(values).encode(), {"Content-Type": "application/json"}
    )
    return json.loads(get(request))


def wait_for(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"not within {seconds} s")


if __name__ == "__main__":
    main()
