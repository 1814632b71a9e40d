"""The Jobs page: filters, pages of many jobs, what is left to do, and the whole log."""

import re

import pytest
from fastapi.testclient import TestClient

from app.pages import job_detail, jobs
from app.pages.job_filters import PAGE_SIZE
from app.services.jobs import MOST_LINE_CHARACTERS
from app.services.pace import SHORTEST_S, WINDOW_S, Pace
from app.services.services import Services
from app.services.views.jobs import Job
from jobs.store.states import JobState


def submit(services: Services, kind: str = "build", *, canceled: bool = False) -> int:
    job = services.store.submit(kind, settings={})
    if canceled:
        services.store.request_cancel(job.id)
    return job.number


def numbers(html: str) -> list[int]:
    return [int(text) for text in re.findall(r'<a href="/jobs\?job=\w+">\w+ (\d+)</a>', html)]


def test_the_list_is_filtered_by_state_and_kind(services: Services) -> None:
    build, ended = submit(services), submit(services, canceled=True)
    train = submit(services, "train")

    every = jobs.render_jobs(services, {})
    waiting = jobs.render_jobs(services, {"state": "queued", "kind": "train"})
    failed = jobs.render_jobs(services, {"state": "failed"})

    assert numbers(every) == [build, train, ended]
    assert numbers(waiting) == [train]
    assert numbers(failed) == []
    assert 'href="/jobs">Show all jobs</a>' in failed
    assert numbers(jobs.render_jobs(services, {"state": "<b>"})) == numbers(every)
    current = r'href="([^"]*)" aria-current="true">'
    assert re.findall(current, waiting) == ["/jobs?state=queued&amp;kind=train"] * 2
    assert '<a href="/jobs?state=canceled">Canceled <span class="num">1</span></a>' in every


def test_every_job_is_on_one_of_the_pages(services: Services) -> None:
    waiting = submit(services)
    ended = [submit(services, canceled=True) for _ in range(PAGE_SIZE + 5)]
    seen: list[int] = []
    address = "/jobs"

    for _ in range(3):
        found = re.search(r"before=(\d+)", address)
        page = jobs.render_jobs(services, {"before": found[1]} if found else {})
        seen += numbers(page)
        older = re.search(r'href="([^"]*)">Older jobs', page)
        if older is None:
            break
        address = older[1]

    assert seen == [waiting, *ended[::-1]]
    assert "Newest jobs" in page


@pytest.mark.parametrize("before", ["x", "-1", "9" * 400, "\N{SUPERSCRIPT TWO}"])
def test_a_number_that_is_none_shows_the_first_page(services: Services, before: str) -> None:
    job = submit(services)

    assert numbers(jobs.render_jobs(services, {"before": before})) == [job]


def test_the_rest_of_a_stage_follows_from_its_last_minutes() -> None:
    pace = Pace()
    job = Job.model_construct(id="a", state=JobState.RUNNING, attempt=1, stage="embed", total=1000)

    def left(at: float, done: int, **changes: object) -> float | None:
        seen = {"progress_at": at, "done": done, **changes}
        return pace.time_left(job.model_copy(update=seen))

    assert left(0.0, 100) is None
    assert left(SHORTEST_S - 1, 150) is None
    assert left(10.0, 200) == pytest.approx(80.0)
    assert left(WINDOW_S + 10.0, 300) == pytest.approx(700 * WINDOW_S / 100)
    assert left(WINDOW_S + 20.0, 50, stage="index") is None
    assert left(WINDOW_S + 20.0, 310, state="succeeded") is None


def test_the_whole_log_can_be_downloaded(services: Services, client: TestClient) -> None:
    job = services.store.submit("build", settings={})
    address = f"/api/v1/jobs/{job.id}/log.txt"
    before = client.get(address)
    shown_before = job_detail.render_job(services, services.jobs.get(job.id))
    text = "".join(f"line {number} <b>\n" for number in range(3000))
    services.home.job_log(job.id).write_text(text)

    after = client.get(address)
    shown = job_detail.render_job(services, services.jobs.get(job.id))

    assert (before.status_code, client.get("/api/v1/jobs/x/log.txt").status_code) == (404, 404)
    assert "has no log" in before.json()["detail"]
    assert after.text == text
    assert after.headers["content-type"].startswith("text/plain")
    assert after.headers["content-disposition"].startswith("attachment")
    assert address not in shown_before
    assert f'href="{address}"' in shown
    assert "line 2999 &lt;b&gt;" in shown
    assert "line 2799 " not in shown


def test_a_line_without_end_is_cut_on_the_page(services: Services) -> None:
    job = services.store.submit("build", settings={})
    services.home.job_log(job.id).write_text("x" * 500_000)

    shown = services.jobs.log(job.id)

    assert shown == "x" * MOST_LINE_CHARACTERS + " ... 498,000 more characters"


def test_times_say_what_they_mean(services: Services) -> None:
    submit(services)
    submit(services, canceled=True)
    claimed = services.store.claim("here", "cpu")
    assert claimed is not None

    shown = jobs.render_jobs(services, {})

    assert services.jobs.get(claimed.id).state == JobState.STARTING
    assert re.search(r">for \d+ s<", shown)
    assert ">just now<" in shown
