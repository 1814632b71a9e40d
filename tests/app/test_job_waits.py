"""Many clients wait for jobs, and the database is asked once for all of them."""

import asyncio
import time

import pytest

from app.errors import TooManyError
from app.services import job_waits
from app.services.job_waits import JobWaits
from app.services.services import Services
from app.services.views.jobs import Job
from jobs.errors import NotFoundError

SOON_S = 0.05


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_waits, "POLL_S", SOON_S)


@pytest.fixture
def jobs(services: Services) -> list[str]:
    corpora = [services.corpora.create(name, sample="python-docs") for name in ("a", "b")]
    return [services.corpora.build(corpus.id).id for corpus in corpora]


def test_a_look_serves_all_who_wait(
    services: Services, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = services.jobs.get, []

    def counted(job_id: str) -> Job:
        asked.append(job_id)
        return read(job_id)

    monkeypatch.setattr(services.jobs, "get", counted)

    async def main() -> list[Job]:
        waits = [services.job_waits.wait(job, 30) for job in jobs for _ in range(20)]
        waiting = asyncio.gather(*waits)
        await asyncio.sleep(20 * SOON_S)
        for job in jobs:
            services.jobs.cancel(job)
        return await waiting

    ended = asyncio.run(main())

    assert [job.id for job in ended] == [job for job in jobs for _ in range(20)]
    assert {job.state for job in ended} == {"canceled"}
    looks = len(asked) - len(ended)
    assert 2 <= looks < 2 * len(ended)


def test_a_wait_ends_in_time_or_with_the_job(services: Services, jobs: list[str]) -> None:
    async def main() -> tuple[Job, ...]:
        wait = services.job_waits.wait
        with pytest.raises(NotFoundError, match="no job nothing"):
            await wait("nothing", 30)
        return await asyncio.gather(wait(jobs[0], 0), wait(jobs[1], 3 * SOON_S))

    begun = time.monotonic()
    found = asyncio.run(main())

    assert [job.state for job in found] == ["queued", "queued"]
    assert time.monotonic() - begun < 10


def test_so_many_wait_and_no_more(
    services: Services, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_waits, "MOST_WAITING", 1)
    waits = JobWaits(services.jobs)

    async def main() -> Job:
        first = asyncio.create_task(waits.wait(jobs[0], 30))
        await asyncio.sleep(0)
        with pytest.raises(TooManyError, match="At most 1 clients may wait for jobs at once"):
            await waits.wait(jobs[1], 30)
        first.cancel()
        await asyncio.wait((first,))
        return await waits.wait(jobs[1], 0)

    assert asyncio.run(main()).id == jobs[1]
