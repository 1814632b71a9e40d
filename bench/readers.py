"""How fast the app answers while many clients follow one text that is being written."""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.pages import app_at, get, post, wait_for
from bench.soak.workload import submit_build, submit_runs
from bench.timing import is_quick, print_table
from jobs.home import Home
from jobs.store.store import Store

ROUTES = ("/healthz", "/api/v1/system")
COUNTS = (0, 1, 150)
SECONDS = 10.0
PATIENCE_S = 300
ALL_ARE_TOLD = "all are told\n"
LONGEST_TEXT = 100_000
PROMPT = "the cat sat on a mat and saw dogs run far over green hills by old rivers"


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        run_id = _submit_model(Path(home))
        with app_at(Path(home)) as base:
            run = f"{base}/api/v1/runs/{run_id}"
            wait_for(lambda: json.loads(get(run))["state"] == "succeeded", PATIENCE_S)
            rows = measure(base, run_id)
    print_table(["readers", "route", "median, ms", "95 %, ms", "slowest, ms", "MB told"], rows)


def measure(base: str, run_id: str) -> list[list[object]]:
    """Return a row of the table for each number of readers and each route."""
    rows: list[list[object]] = []
    for count in COUNTS:
        with _text(base, run_id) as address, readers(address, count) as heard:
            for route in ROUTES:
                seconds = latencies(base + route, 1.0 if is_quick() else SECONDS)
                figures = (statistics.median(seconds), _percentile(seconds, 95), seconds[-1])
                rows.append([count, route, *(f"{value * 1e3:.0f}" for value in figures), ""])
            assert json.loads(get(address))["state"] == "running", "the text has ended too early"
        rows[-1][-1] = f"{heard.megabytes:.1f}"
    return rows


def latencies(address: str, seconds: float) -> list[float]:
    """Return how long each of many requests took, one after the other, the fastest first."""
    taken = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        begun = time.perf_counter()
        get(address)
        taken.append(time.perf_counter() - begun)
        time.sleep(0.02)
    return sorted(taken)


def _percentile(ordered: list[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _submit_model(home: Path) -> str:
    """Put the build of a small corpus and a training of two steps into the queue; gives the run."""
    place = Home(home)
    place.create()
    store = Store(place.database_url())
    batch = submit_runs(store, submit_build(store, place, 0), [0], steps=2)
    store.close()
    return batch.run_ids[0]


@contextmanager
def _text(base: str, run_id: str) -> Iterator[str]:
    """Write a long text meanwhile; gives its address."""
    body = {"run_id": run_id, "prompt": PROMPT, "temperature": 0.0}
    body |= {"max_new_tokens": LONGEST_TEXT, "stream": True}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(
        f"{base}/api/v1/generations", json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        answer.readline()
        started = json.loads(answer.readline().removeprefix(b"data: "))
    address = f"{base}/api/v1/generations/{started['id']}"
    wait_for(lambda: len(json.loads(get(address))["chunks"]) > 2, PATIENCE_S)
    try:
        yield address
    finally:
        post(f"{address}/stop", {})
        wait_for(lambda: json.loads(get(address))["state"] != "running", PATIENCE_S)


@dataclass
class Heard:
    """What the readers were told, known once they are gone."""

    megabytes: float = 0.0


@contextmanager
def readers(address: str, count: int) -> Iterator[Heard]:
    """Follow a text with so many clients, in a process of their own."""
    command = [sys.executable, "-m", "bench.readers", address, str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ran:
        assert ran.stdin is not None
        assert ran.stdout is not None
        if ran.stdout.readline() != ALL_ARE_TOLD:
            raise RuntimeError(f"Not all {count} readers were told of {address}.")
        heard = Heard()
        yield heard
        ran.stdin.close()
        heard.megabytes = float(ran.stdout.readline())


async def follow_text(address: str, count: int) -> None:
    """Read the events of a text with so many clients until standard input ends."""
    place = urlsplit(address)
    request = f"GET {place.path}/events HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode()
    told = 0
    begun = asyncio.Semaphore(0)

    async def read() -> None:
        nonlocal told
        source, sink = await asyncio.open_connection(place.hostname, place.port)
        sink.write(request)
        told += len(await source.readuntil(b"event: "))
        begun.release()
        while data := await source.read(65_536):
            told += len(data)

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read()) for _ in range(count)]
        for _ in range(count):
            await begun.acquire()
        print(ALL_ARE_TOLD, end="", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for reader in readers:
            reader.cancel()
    print(told / 1e6, flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(follow_text(sys.argv[1], int(sys.argv[2])))
    else:
        main()
