"""Many clients that send a request again wait for the first without asking on and on."""

import asyncio
import time
from typing import Any

import pytest

from app.programs import idempotency
from app.programs.idempotency import Turns
from app.services.services import Services
from jobs.errors import BusyError

MANY = 50


def test_one_of_those_who_wait_for_a_key_asks_for_all(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "POLL_S", 0.02)
    begin, asked = services.store.begin_request, 0

    def counted(key: str) -> Any:
        nonlocal asked
        asked += 1
        return begin(key)

    monkeypatch.setattr(services.store, "begin_request", counted)
    token = begin("key")
    assert isinstance(token, str)
    turns = Turns()

    async def take() -> str:
        taken = await turns.begin(services.store, "key")
        assert isinstance(taken, str)
        services.store.release_lock(taken)
        return taken

    async def main() -> list[str]:
        waiting = asyncio.gather(*(take() for _ in range(MANY)))
        await asyncio.sleep(0.5)
        services.store.release_lock(token)
        return await waiting

    begun = time.monotonic()
    taken = asyncio.run(main())

    assert len(set(taken)) == MANY
    # Each asks once when it is its turn; before that, one at a time looks again and again.
    looks = (time.monotonic() - begun) / 0.02
    assert MANY < asked < MANY + looks


def test_who_waits_too_long_for_a_turn_is_told(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "WAIT_S", 0.1)
    services.store.begin_request("key")
    turns = Turns()

    async def main() -> list[str | BaseException | Any]:
        waits = (turns.begin(services.store, "key") for _ in range(3))
        return await asyncio.gather(*waits, return_exceptions=True)

    assert [type(told) for told in asyncio.run(main())] == [BusyError] * 3
