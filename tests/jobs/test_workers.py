"""Heartbeats."""

import os
import socket

from jobs.store import Store
from jobs.workers import SILENCE_S


def test_a_worker_that_falls_silent_is_taken_for_dead(store: Store, clock) -> None:
    store.heartbeat("another host", ["cuda:0"], clock.time)
    assert store.worker_status()["alive"]

    clock.advance(SILENCE_S + 1)

    status = store.worker_status()
    assert not status["alive"]
    assert status["heartbeat_at"] == clock.time - SILENCE_S - 1


def test_a_worker_of_this_host_needs_a_process(store: Store, clock, monkeypatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 2**22 + 1)
    store.close()
    store.heartbeat(socket.gethostname(), ["cpu"], clock.time)

    assert not store.worker_status()["alive"]


def test_workers_of_several_hosts_are_counted(store: Store, clock) -> None:
    store.heartbeat("one", ["cuda:0"], clock.time)
    store.heartbeat("two", ["cuda:0", "cuda:1"], clock.time)
    store.heartbeat("two", ["cuda:0", "cuda:1"], clock.time)

    assert store.worker_status()["num_alive"] == 2


def test_a_worker_that_stopped_is_forgotten(store: Store, clock) -> None:
    store.heartbeat("one", ["cpu"], clock.time)

    store.forget_worker("one")

    assert store.worker_status() == {
        "alive": False,
        "num_alive": 0,
        "host": None,
        "pid": None,
        "slots": None,
        "started_at": None,
        "heartbeat_at": None,
    }
