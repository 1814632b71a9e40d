"""A short soak, as ``make soak`` does it a thousand times, and its timings."""

import random
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.soak.cycles import Soak
from bench.soak.timings import CASES, measure
from jobs.home import Home
from jobs.store.store import Store
from tests.jobs.postgres import PostgresServer

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def timings(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Future[tuple[dict[str, float], list[str]]]]:
    """Start the timings, which wait most of the time, and let the rest go on meanwhile."""
    folder = tmp_path_factory.mktemp("timings")
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(measure, folder, lambda home: Store(home.database_url()))


def test_a_dozen_kills_break_no_promise(tmp_path: Path) -> None:
    home = Home(tmp_path)

    soak(Store(home.database_url()), home, cycles=12, slots=1)


@pytest.mark.sweep
@pytest.mark.usefixtures("timings")
def test_fifty_kills_break_no_promise(tmp_path: Path) -> None:
    home = Home(tmp_path)

    soak(Store(home.database_url()), home, cycles=50)


@pytest.mark.sweep
def test_kills_break_no_promise_on_postgresql(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with postgres_server.database(empty=True) as url:
        soak(Store(url), Home(tmp_path), cycles=10)


def soak(store: Store, home: Home, cycles: int, slots: int = 2) -> None:
    told: list[str] = []
    seed = random.randrange(10**6)
    killer = Soak(
        store, home, slots=slots, variants=1, chance=random.Random(seed), tell=told.append, steps=40
    )
    figures = killer.run(cycles)
    store.close()

    assert figures.broken == [], (seed, told)
    assert figures.cycles == cycles
    assert sum(figures.victims.values()) == cycles
    assert figures.notice_s + figures.notice_after_worker_s, "no kill met a job at work"
    assert figures.jobs["train succeeded"] >= 2


@pytest.mark.sweep
def test_dead_processes_are_noticed_in_time(
    timings: Future[tuple[dict[str, float], list[str]]],
) -> None:
    seconds, broken = timings.result()

    assert broken == []
    assert set(seconds) == {name for case in CASES.values() for name in case}
