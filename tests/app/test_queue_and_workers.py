"""The queue and the workers as REST and the Jobs page show them."""

import io
import re
import socket
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.pages import job_detail, jobs, runs, workers
from app.services.jobs import UNUSUAL_SILENCE_S
from app.services.services import Services
from app.services.uploads import UploadedFile
from jobs.store.states import JobState
from jobs.store.workers import SILENCE_S
from jobs.work.version import program_version


@pytest.fixture
def corpus_id(services: Services) -> str:
    corpus = services.corpora.create("letters")
    file = UploadedFile(path="one.txt", content=io.BytesIO(b"letters and words " * 200))
    services.uploads.add(corpus.id, [file])
    services.corpora.build(corpus.id)
    return str(corpus.id)


def start_run(client: TestClient, corpus_id: str, **body: Any) -> dict[str, Any]:
    answer = client.post("/api/v1/runs", json={"name": "x", "corpus_id": corpus_id, **body})
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def in_queue(services: Services) -> list[str]:
    return [job.run_id for job in services.jobs.queue() if job.run_id]


def test_runs_start_by_priority_and_can_be_put_first(
    client: TestClient, services: Services, corpus_id: str
) -> None:
    low, middle, high = (start_run(client, corpus_id, priority=priority) for priority in (-5, 0, 5))
    assert in_queue(services) == [high["id"], middle["id"], low["id"]]

    moved = client.post(f"/api/v1/jobs/{low['job_id']}/first")
    lowered = client.patch(f"/api/v1/jobs/{high['job_id']}", json={"priority": -9})

    assert (moved.status_code, moved.json()["priority"]) == (200, 6)
    assert lowered.json()["priority"] == -9
    assert in_queue(services) == [low["id"], middle["id"], high["id"]]


@pytest.mark.parametrize("priority", [1001, -1001, 2**70])
def test_a_priority_out_of_range_is_refused(
    client: TestClient, services: Services, corpus_id: str, priority: int
) -> None:
    run = start_run(client, corpus_id)

    answers = [
        client.patch(f"/api/v1/jobs/{run['job_id']}", json={"priority": priority}),
        client.post(
            "/api/v1/runs", json={"name": "x", "corpus_id": corpus_id, "priority": priority}
        ),
    ]

    assert [answer.status_code for answer in answers] == [422, 422]
    assert f"between -1000 and 1000, got {priority}" in answers[0].json()["detail"]
    assert len(services.runs.list_runs()) == 1


def test_a_run_follows_another_also_while_that_one_is_paused(
    client: TestClient, services: Services, corpus_id: str
) -> None:
    first = start_run(client, corpus_id)
    client.post(f"/api/v1/runs/{first['id']}/pause")

    second = start_run(client, corpus_id, after=first["id"])

    shown = runs.render_runs(services, {"run": second["id"]})
    assert "waiting for run &#x27;x&#x27;, which is paused" in shown
    resumed = client.post(f"/api/v1/runs/{first['id']}/resume").json()
    assert services.jobs.get(second["job_id"]).after_id == resumed["job_id"]


@pytest.mark.parametrize(("after", "status"), [("nothing", 404), ("canceled", 409)])
def test_a_run_cannot_follow_what_will_not_succeed(
    client: TestClient, services: Services, corpus_id: str, after: str, status: int
) -> None:
    if after == "canceled":
        after = start_run(client, corpus_id)["id"]
        client.post(f"/api/v1/runs/{after}/stop")
    before = len(services.runs.list_runs())

    answer = client.post("/api/v1/runs", json={"name": "y", "corpus_id": corpus_id, "after": after})

    assert answer.status_code == status
    assert len(services.runs.list_runs()) == before


@pytest.mark.usefixtures("corpus_id")
def test_the_changes_of_a_job_are_told_in_order(client: TestClient, services: Services) -> None:
    job = services.store.claim("test")
    assert job is not None
    services.store.give_up(job, "Its process is gone.")

    answer = client.get(f"/api/v1/jobs/{job.id}/events").json()["events"]

    assert [(event["from"], event["to"]) for event in answer] == [
        (None, "queued"),
        ("queued", "starting"),
        ("starting", "interrupted"),
        ("interrupted", "queued"),
    ]
    assert [event["attempt"] for event in answer] == [0, 1, 1, 1]
    assert answer[2]["message"] == "Its process is gone."
    assert "Its process is gone." in job_detail.render_job(services, services.jobs.get(job.id))
    assert client.get("/api/v1/jobs/nothing/events").status_code == 404


@pytest.mark.usefixtures("corpus_id")
def test_workers_tell_what_their_slots_do(client: TestClient, services: Services) -> None:
    store = services.store
    host = socket.gethostname()
    store.heartbeat(host, ["cuda:0", "cuda:1"], store.now(), program_version())
    store.heartbeat("another<b>", ["cpu"], store.now() - 100, "older")
    job = store.claim(host, "cuda:1")
    assert job is not None

    system = client.get("/api/v1/system").json()

    assert (system["worker"]["alive"], system["worker"]["num_alive"]) == (True, 2)
    first, second = sorted(system["workers"], key=lambda item: item["host"] != host)
    assert [item["slot"] for item in first["slots"]] == ["cuda:0", "cuda:1"]
    assert first["slots"][0]["job"] is None
    held = first["slots"][1]["job"]
    assert (held["id"], held["attempt"]) == (job.id, 1)
    assert 0 < held["lease_left"] <= 60
    assert (first["is_this_version"], second["is_this_version"]) == (True, False)
    assert job.lease_token not in str(system)
    shown = workers.render_workers(services)
    assert "lease for another" in shown
    assert "another version" in shown
    assert "another&lt;b&gt;" in shown


@pytest.mark.usefixtures("corpus_id")
def test_a_silent_worker_is_shown_as_silent(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = services.store
    now = store.now()
    store.heartbeat("one", ["cpu"], now)
    monkeypatch.setattr(store, "now", lambda: now + SILENCE_S + 5)

    shown = workers.render_workers(services)

    assert "silent" in shown
    assert "35 s ago" in shown
    assert not services.system.worker_is_alive()


@pytest.mark.usefixtures("corpus_id")
def test_a_job_that_reports_nothing_for_long_is_pointed_out(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = services.store
    began = store.now() - UNUSUAL_SILENCE_S - 60
    with monkeypatch.context() as patch:
        patch.setattr(store, "now", lambda: began)
        job = store.claim("test")
        assert job is not None
        store.transition(job.id, job.lease_token, JobState.STARTING, JobState.RUNNING)

    assert "nothing reported for 11 min" in jobs.render_jobs(services, {})
    store.report_progress(job.id, job.lease_token or "", stage="embed", done=1, total=2)
    assert "nothing reported" not in jobs.render_jobs(services, {})


def test_the_page_lists_what_waits_in_the_order_of_the_queue(
    client: TestClient, services: Services, corpus_id: str
) -> None:
    low, high = (start_run(client, corpus_id, name=name, priority=number)
                 for name, number in (("low run", 0), ("high run", 5)))  # fmt: skip

    shown = jobs.render_jobs(services, {})

    assert shown.index("high run") < shown.index("low run")
    first = re.findall(r"POST /api/v1/jobs/(\w+)/first", shown)
    assert {low["job_id"], high["job_id"]} <= {*first, services.jobs.queue()[0].id}
    assert services.jobs.queue()[0].id not in first
