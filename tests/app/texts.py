"""Writes texts through the REST API or the services, and waits for them."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.services.services import Services
from app.services.views.base import plain
from tests.app.real_app import Trained

PATIENCE_S = 60.0


def body(trained: Trained, **changes: Any) -> dict[str, Any]:
    return {
        "run_id": trained.run_id,
        "prompt": "the cat sat on a mat and saw dogs run far over green hills by old rivers",
        "max_new_tokens": 40,
        "seed": 3,
        **changes,
    }


def post(trained: Trained, **changes: Any) -> Any:
    return trained.client.post("/api/v1/generations", json=body(trained, **changes))


def wait(trained: Trained, generation_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        generation = trained.services.generations.get(generation_id)
        if generation.state != "running":
            found: dict[str, Any] = plain(generation)
            return found
        time.sleep(0.02)
    raise AssertionError("the generation did not end")


def read_events(text: str) -> list[tuple[str, Any]]:
    events = []
    for block in text.strip().split("\n\n"):
        if not block.startswith(":"):
            name, data = block.split("\n", 1)
            events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


@contextmanager
def moved_away(folder: Path) -> Iterator[None]:
    away = folder.with_name("away")
    folder.rename(away)
    try:
        yield
    finally:
        away.rename(folder)


def start_long(trained: Trained, **changes: Any) -> dict[str, Any]:
    given = {"run_id": trained.run_id, "prompt": body(trained)["prompt"], **changes}
    started = trained.services.generations.start(**given, sampling={"max_new_tokens": 100_000})
    made: dict[str, Any] = plain(started)
    return made


def until_chunks(trained: Trained, generation_id: str, num_chunks: int = 4) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while len(trained.services.generations.get(generation_id).chunks) < num_chunks:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_in(services: Services, generation_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if (found := services.generations.get(generation_id)).state != "running":
            made: dict[str, Any] = plain(found)
            return made
        time.sleep(0.01)
    raise AssertionError("the generation did not end")
