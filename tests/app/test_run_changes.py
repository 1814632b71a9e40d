"""Extending, duplicating, pinning, alerts, and what is refused before it starts."""

import shutil
from collections import namedtuple
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.pages import run_view, runs
from app.services.views.runs import Run
from jobs.store.states import JobState
from jobs.work.child import run_job
from retro import disk
from retro.generation.generate import Generator
from tests.app.real_app import Trained, run_waiting_jobs

pytestmark = pytest.mark.slow

Usage = namedtuple("Usage", "total used free")


def run_of(trained: Trained, **training: Any) -> dict[str, Any]:
    """Make and train another run with the settings of the one there is."""
    answer = trained.client.post(
        f"/api/v1/runs/{trained.run_id}/duplicate", json={"training": training}
    )
    assert answer.status_code == 202, answer.text
    run_waiting_jobs(trained.services)
    found: dict[str, Any] = trained.client.get(f"/api/v1/runs/{answer.json()['id']}").json()
    return found


def test_a_finished_run_is_extended_and_goes_on(trained: Trained) -> None:
    run = run_of(trained)
    assert (run["state"], run["step"]) == ("succeeded", 4)

    answer = trained.client.post(f"/api/v1/runs/{run['id']}/extend", json={"max_steps": 6})
    run_waiting_jobs(trained.services)

    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    done = trained.client.get(f"/api/v1/runs/{run['id']}").json()
    assert (done["state"], done["step"], done["total_steps"]) == ("succeeded", 6, 6)
    points = trained.client.get(f"/api/v1/runs/{run['id']}/metrics?name=train_loss").json()
    assert [point["step"] for point in points["points"]] == [1, 2, 3, 4, 5, 6]
    assert done["settings"]["training"]["max_steps"] == 6


@pytest.mark.parametrize(
    ("max_steps", "status"), [(4, 409), (-1, 422), (0, 422), (2**70, 422), ("9", 422)]
)
def test_a_run_is_not_extended_to_an_impossible_step(
    trained: Trained, max_steps: object, status: int
) -> None:
    before = trained.client.get(f"/api/v1/runs/{trained.run_id}").json()

    answer = trained.client.post(
        f"/api/v1/runs/{trained.run_id}/extend", json={"max_steps": max_steps}
    )

    assert answer.status_code == status, answer.text
    assert trained.client.get(f"/api/v1/runs/{trained.run_id}").json() == before


def test_a_duplicate_takes_over_settings_and_names_where_they_come_from(
    trained: Trained,
) -> None:
    first = run_of(trained, max_steps=2)
    second = trained.client.post(
        f"/api/v1/runs/{first['id']}/duplicate", json={"name": "again", "training": {"seed": 7}}
    ).json()
    run_waiting_jobs(trained.services)

    assert first["name"].startswith("first (")
    assert (first["parent_id"], second["parent_id"]) == (trained.run_id, first["id"])
    assert second["name"] == "again"
    assert second["total_steps"] == 2
    done = trained.client.get(f"/api/v1/runs/{second['id']}").json()
    assert done["settings"]["resolved"]["training"]["seed"] == 7
    assert f"/runs?run={first['id']}" in run_view.render_details(
        trained.services, Run.model_validate(done)
    )


def test_names_of_duplicates_are_counted_on(trained: Trained) -> None:
    names = [trained.services.runs.next_name(name) for name in ("z", "z (9)", "z" * 200)]

    assert names == ["z (2)", "z (2)", "z" * 192 + " (2)"]


def test_a_pinned_checkpoint_outlives_newer_ones(trained: Trained) -> None:
    run = run_of(trained, checkpoint_every=1, eval_every=100, keep_checkpoints=1)
    step = run["checkpoints"][-1]["step"]
    address = f"/api/v1/runs/{run['id']}/checkpoints"

    pinned = trained.client.patch(f"{address}/{step}", json={"pinned": True})
    trained.client.post(f"/api/v1/runs/{run['id']}/extend", json={"max_steps": 7})
    run_waiting_jobs(trained.services)

    assert pinned.status_code == 200
    kept = trained.client.get(f"/api/v1/runs/{run['id']}").json()["checkpoints"]
    assert [(item["step"], item["is_pinned"]) for item in kept if item["is_pinned"]] == [(4, True)]
    assert kept[-1]["step"] == 7
    assert "Unpin" in runs.render_details(trained.services, {"run": run["id"]})
    missing = trained.client.patch(f"{address}/3", json={"pinned": True})
    assert (missing.status_code, "no checkpoint of step 3" in missing.text) == (404, True)
    huge = trained.client.patch(f"{address}/{2**70}", json={"pinned": True})
    assert huge.status_code == 422


def test_a_checkpoint_deleted_meanwhile_is_not_pinned(trained: Trained) -> None:
    run = run_of(trained)
    shutil.rmtree(trained.services.home.run_dir(run["id"]) / "checkpoints" / "step-00000004")

    answer = trained.client.patch(f"/api/v1/runs/{run['id']}/checkpoints/4", json={"pinned": True})

    assert answer.status_code == 409
    stored = trained.services.store.list_checkpoints(run["id"])
    assert not any(row.is_pinned for row in stored)


def test_a_plateau_is_told_on_the_page_and_by_rest(trained: Trained) -> None:
    flat = {"learning_rate": 1e-12, "eval_every": 1, "max_steps": 8, "plateau_evaluations": 3}
    run = run_of(trained, **flat)

    assert run["state"] == "succeeded"
    assert [alert["kind"] for alert in run["alerts"]] == ["plateau"]
    shown = run_view.render_state(trained.services, Run.model_validate(run))
    assert "The validation loss should fall" in shown


def test_a_loss_that_is_no_number_is_an_alert_and_ends_the_run(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retro.training.trainer.learning_rate", lambda *_: 1e30)
    run = run_of(trained)

    assert run["state"] == "failed"
    assert [alert["kind"] for alert in run["alerts"]] == ["nan"]
    assert "must stay a finite number" in run["message"]
    assert "must stay a finite number" in run_view.render_state(
        trained.services, Run.model_validate(run)
    )


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 10**8))


@pytest.mark.usefixtures("full")
def test_work_without_room_is_refused_before_it_is_submitted(trained: Trained) -> None:
    services, client = trained.services, trained.client
    before = (len(services.runs.list_runs()), len(services.jobs.list_jobs(limit=1000)))

    answers = [
        client.post(f"/api/v1/runs/{trained.run_id}/duplicate"),
        client.post(f"/api/v1/runs/{trained.run_id}/extend", json={"max_steps": 99}),
        client.post(f"/api/v1/corpora/{trained.corpus_id}/build"),
    ]

    assert [answer.status_code for answer in answers] == [507, 507, 507]
    for answer in answers:
        assert "free on the disk" in answer.json()["detail"]
    assert (len(services.runs.list_runs()), len(services.jobs.list_jobs(limit=1000))) == before


def test_a_disk_that_fills_while_a_job_waits_refuses_it_when_it_starts(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = trained.services
    run = services.runs.duplicate(trained.run_id)
    job = services.store.claim("test")
    assert job is not None
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 10**8))

    run_job(services.store, services.home, job.id, job.lease_token or "")

    ended = services.store.get_job(job.id)
    assert ended.state is JobState.FAILED
    assert "free on the disk" in (ended.error or "")
    assert services.runs.get(run.id).checkpoints == []


def test_a_lack_of_memory_is_told_and_the_next_text_is_written(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    order = {"run_id": trained.run_id, "prompt": "the cat", "max_new_tokens": 8}
    client: TestClient = trained.client
    with monkeypatch.context() as patch:
        patch.setattr(Generator, "generate", short)
        failed = client.post("/api/v1/generations", json=order)

    assert failed.status_code == 503
    assert "needed more memory than there is" in failed.json()["detail"]
    assert client.post("/api/v1/generations", json=order).status_code == 200
