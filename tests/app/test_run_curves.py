"""Curves of runs, thinned, and the gap between retrieval on and off; runs side by side."""

import time
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import insert, update

from app.services.curves import GAP
from app.services.services import Services
from jobs.store.models import Job, Metric, Run
from jobs.store.rows import RunRow
from jobs.store.states import JobState

CORPUS = {"chunk_size": 16, "num_neighbors": 2}


def make_run(services: Services, name: str = "first", **training: Any) -> RunRow:
    corpora = services.store.list_corpora()
    corpus = corpora[0] if corpora else services.store.create_corpus("letters", CORPUS)
    settings = {"preset": "tiny", "model": {}, "training": training}
    return services.store.create_run(name, corpus.id, settings, 10)


def measure(services: Services, run_id: str, name: str, values: dict[int, float]) -> None:
    rows = [
        {"run_id": run_id, "name": name, "step": step, "value": value}
        for step, value in values.items()
    ]
    with services.store.write() as session:
        session.execute(insert(Metric), rows)


def curves(client: TestClient, **query: Any) -> Any:
    return client.get("/api/v1/runs/curves", params=query)


def test_the_gap_is_off_minus_on_where_both_were_measured(
    client: TestClient, services: Services
) -> None:
    run = make_run(services)
    measure(services, run.id, "val_loss_on", {1: 2.0, 2: 1.5, 4: 1.0})
    measure(services, run.id, "val_loss_off", {1: 2.25, 3: 9.0, 4: 0.5})

    found = curves(client, ids=run.id).json()["runs"][0]

    assert found["name"] == "first"
    assert found["curves"][GAP] == {"steps": [1, 4], "values": [0.25, -0.5]}
    assert found["curves"]["val_loss_on"] == {"steps": [1, 2, 4], "values": [2.0, 1.5, 1.0]}
    later = curves(client, ids=run.id, since_step=2, names=f"{GAP},val_loss_on").json()["runs"][0]
    assert later["curves"] == {
        GAP: {"steps": [4], "values": [-0.5]},
        "val_loss_on": {"steps": [2, 4], "values": [1.5, 1.0]},
    }


def test_a_lost_job_does_not_work_while_it_waits(services: Services) -> None:
    run, store = make_run(services), services.store
    store.submit("train", run_id=run.id, settings={})
    [before] = services.comparison.results([run.id])
    job = store.claim("host")
    assert job is not None
    store.transition(job.id, job.lease_token, JobState.STARTING, JobState.RUNNING)
    with store.write() as session:
        began = {"started_at": store.now() - 100, "progress_at": store.now() - 90}
        session.execute(update(Job).where(Job.id == job.id).values(**began))
        session.execute(update(Run).where(Run.id == run.id).values(step=1))
    [at_work] = services.comparison.results([run.id])
    store.give_up(store.get_job(job.id), "Its process is gone.")
    assert store.get_job(job.id).state is JobState.QUEUED

    [waiting] = services.comparison.results([run.id])

    assert before.seconds is None
    assert at_work.seconds == pytest.approx(100, abs=5)
    assert waiting.seconds == pytest.approx(10, abs=1)


def test_long_curves_are_thinned_and_keep_spikes(client: TestClient, services: Services) -> None:
    run = make_run(services)
    on = {step: 1.0 + step % 3 for step in range(4000)}
    measure(services, run.id, "val_loss_on", on)
    measure(services, run.id, "val_loss_off", {**on, 1717: on[1717] + 50})

    found = curves(client, ids=run.id).json()["runs"][0]["curves"]

    assert {len(curve["steps"]) <= 1500 for curve in found.values()} == {True}
    assert max(found[GAP]["values"]) == 50
    assert (found[GAP]["steps"][0], found[GAP]["steps"][-1]) == (0, 3999)


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"ids": "nothing"}, 404, "There is no run nothing"),
        ({"ids": ","}, 422, "Between 1 and 8 runs"),
        ({"ids": "a,b,c,d,e,f,g,h,i"}, 422, "got 9"),
        ({"ids": "a", "max_points": 1}, 422, "max_points"),
        ({"ids": "a", "since_step": -1}, 422, "since_step"),
        ({}, 422, "ids"),
    ],
)
def test_impossible_questions_are_refused(
    client: TestClient, query: dict[str, Any], status: int, words: str
) -> None:
    answer = curves(client, **query)

    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text


@pytest.mark.parametrize("numbers", [{"since_step": -1}, {"max_points": 1}, {"max_points": 1501}])
def test_numbers_out_of_range_are_refused_by_the_service(
    services: Services, numbers: dict[str, int]
) -> None:
    run = make_run(services)

    with pytest.raises(ValueError, match=next(iter(numbers))):
        services.curves.curves([run.id], **numbers)


def test_fifty_thousand_points_are_answered_quickly(client: TestClient, services: Services) -> None:
    run = make_run(services)
    for name in ("train_loss", "learning_rate", "gradient_norm", "tokens_per_second"):
        measure(services, run.id, name, {step: 1.0 + step % 17 for step in range(12_500)})
    curves(client, ids=run.id)

    began = time.process_time()
    answer = curves(client, ids=run.id)
    seconds = time.process_time() - began

    assert all(len(c["steps"]) <= 1500 for c in answer.json()["runs"][0]["curves"].values())
    assert seconds < 0.6, f"{seconds:.2f} s"


def test_runs_side_by_side(client: TestClient, services: Services) -> None:
    one, two = make_run(services, "one", seed=1), make_run(services, "two", seed=2)
    measure(services, one.id, "val_loss_on", {1: 3.0, 2: 1.0, 3: 2.0})
    measure(services, one.id, "val_loss_off", {3: 2.5})

    answer = client.get("/api/v1/runs/compare", params={"ids": f"{two.id},{one.id}"}).json()

    assert [run["name"] for run in answer["runs"]] == ["two", "one"]
    result = answer["runs"][1]
    assert (result["val_loss_on"], result["best_val_loss_on"], result["best_step"]) == (2, 1, 2)
    assert result["val_loss_gap"] == 0.5
    assert answer["runs"][0]["val_loss_on"] is None
    assert answer["metrics"] == ["val_loss_off", "val_loss_on"]
    differing = [entry for entry in answer["settings"] if entry["differs"]]
    assert differing == [
        {"group": "training", "name": "seed", "values": [2, 1], "differs": True}
    ]  # fmt: skip
    assert answer["settings"][0] == differing[0]
    preset = next(entry for entry in answer["settings"] if entry["name"] == "preset")
    assert preset["values"] == ["tiny", "tiny"]
