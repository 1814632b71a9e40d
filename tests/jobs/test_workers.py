"""Heartbeats."""

import os
import socket

from sqlalchemy import update

from jobs.store.models import Worker
from jobs.store.store import Store
from jobs.store.workers import FORGET_S, SILENCE_S
from jobs.work.version import program_version


def alive(store: Store) -> list[str]:
    return [worker.host for worker in store.list_workers() if worker.is_alive]


def test_a_worker_comes_back_as_it_reported(store: Store, clock) -> None:
    store.heartbeat("one", ["cuda:0", "cuda:1"], clock.time - 5, program_version())

    [worker] = store.list_workers()

    assert (worker.host, worker.pid, worker.slots) == ("one", os.getpid(), ["cuda:0", "cuda:1"])
    assert (worker.started_at, worker.heartbeat_at) == (clock.time - 5, clock.time)
    assert worker.version == program_version()


def test_a_worker_that_falls_silent_is_taken_for_dead(store: Store, clock) -> None:
    store.heartbeat("another host", ["cuda:0"], clock.time)
    assert alive(store) == ["another host"]

    clock.advance(SILENCE_S + 1)

    assert alive(store) == []
    assert store.list_workers()[0].heartbeat_at == clock.time - SILENCE_S - 1


def test_a_worker_of_this_host_needs_a_process(store: Store, clock) -> None:
    store.heartbeat(socket.gethostname(), ["cpu"], clock.time)
    assert alive(store) == [socket.gethostname()]

    with store.write() as session:
        session.execute(update(Worker).values(pid=2**22 + 1))

    assert alive(store) == []


def test_workers_of_several_hosts_are_listed_once_each(store: Store, clock) -> None:
    store.heartbeat("two", ["cuda:0", "cuda:1"], clock.time)
    store.heartbeat("one", ["cuda:0"], clock.time)
    store.heartbeat("two", ["cuda:0", "cuda:1"], clock.time)

    assert alive(store) == ["one", "two"]


def test_a_worker_that_stopped_is_forgotten(store: Store, clock) -> None:
    store.heartbeat("one", ["cpu"], clock.time)

    store.forget_worker("one")

    assert store.list_workers() == []


def test_a_worker_silent_for_a_day_is_forgotten_by_the_others(store: Store, clock) -> None:
    store.heartbeat("gone", ["cpu"], clock.time)
    clock.advance(FORGET_S - 1)
    store.heartbeat("one", ["cpu"], clock.time)
    assert len(store.list_workers()) == 2

    clock.advance(2)
    store.heartbeat("one", ["cpu"], clock.time)

    assert [worker.host for worker in store.list_workers()] == ["one"]
