"""Pretrained models are trained in the app: on a corpus that is cut for them, or on a copy."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.pages import runs
from app.services.expectations import about_model
from app.services.services import Services
from app.services.uploads import UploadedFile
from app.web import guard, make_rest_app
from jobs.store.states import RunState
from retro.config.checks import config_from_dict
from retro.config.corpus import CorpusConfig
from retro.corpus.build import build_corpus
from tests.app.real_app import BASE, MODEL, TRAINING, make_services, run_waiting_jobs
from tests.conftest import country_texts
from tests.support.small_models import save_model_with_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.heavy]
SHORT = {**TRAINING, "sample_tokens": 8}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model_with_tokenizer(tmp_path_factory.mktemp("base") / "small"))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    made = make_services(tmp_path_factory.mktemp("pretrained") / "home")
    yield made
    made.close()
    made.store.close()


@pytest.fixture(scope="module")
def client(app: Services) -> Iterator[TestClient]:
    with TestClient(guard(make_rest_app(app), None), base_url=BASE) as client:
        yield client


@pytest.fixture(scope="module")
def corpus_id(app: Services, base: str) -> str:
    corpus = app.corpora.create("world", settings={"chunk_size": 8, "tokenizer": base})
    add(app, corpus.id)
    app.corpora.build(corpus.id)
    run_waiting_jobs(app)
    return corpus.id


def add(app: Services, corpus_id: str) -> None:
    files = [
        UploadedFile(path=path, content=io.BytesIO(text.encode()))
        for path, text in country_texts().items()
    ]
    app.uploads.add(corpus_id, files)


def start(client: TestClient, corpus_id: str, **body: Any) -> dict[str, Any]:
    answer = client.post("/api/v1/runs", json={"name": "r", "corpus_id": corpus_id, **body})
    assert answer.status_code == 202, answer.text
    run: dict[str, Any] = answer.json()
    return run


@pytest.fixture(scope="module")
def run(app: Services, client: TestClient, corpus_id: str, base: str) -> dict[str, Any]:
    """Return a run that has trained the gates of a model on its own corpus."""
    made = start(client, corpus_id, base=base, mode="gates", training=SHORT)
    run_waiting_jobs(app)
    found: dict[str, Any] = client.get(f"/api/v1/runs/{made['id']}").json()
    return found


def test_a_run_trains_what_its_mode_says_and_tells_the_loss_of_the_base(
    app: Services, client: TestClient, corpus_id: str, run: dict[str, Any]
) -> None:
    assert (run["state"], run["corpus_id"]) == ("succeeded", corpus_id), run["message"]
    assert run["settings"]["preset"] == "gates"
    resolved = run["settings"]["resolved"]["model"]
    assert len(resolved["base_sha256"]) == 64
    points = client.get(f"/api/v1/runs/{run['id']}/metrics?name=val_loss_base").json()["points"]
    assert [point["step"] for point in points] == [0, 2, 4]
    assert run["checkpoints"][-1]["bytes"] < 100_000

    shown = runs.render_details(app, {"run": run["id"]})

    samples = client.get(f"/api/v1/runs/{run['id']}/samples").json()["samples"]
    assert [sample["step"] for sample in samples] == [0, 2, 4]
    assert {sample["prompt"] for sample in samples} == {samples[0]["prompt"]}
    assert all(sample["num_neighbors"] > 0 for sample in samples)
    assert "Sample texts" in shown
    assert "step 4" in shown


def test_its_recipe_names_the_base_and_the_mode(
    client: TestClient, run: dict[str, Any], base: str
) -> None:
    recipe = client.get(f"/api/v1/runs/{run['id']}/recipe").json()

    assert f"--base {base} \\\n  --mode gates" in recipe["command"]
    assert "--preset" not in recipe["command"]
    assert f"'base': '{base}'" in recipe["python"]


def test_its_checkpoints_write_with_neighbors(client: TestClient, run: dict[str, Any]) -> None:
    body = {"run_id": run["id"], "prompt": "Country: Arland and its coal", "max_new_tokens": 20}

    text = client.post("/api/v1/generations", json=body).json()

    assert text["state"] == "succeeded", text
    assert all(chunk["neighbors"] for chunk in text["chunks"][1:])


def test_any_model_writes_by_its_folder_or_name(
    app: Services, client: TestClient, corpus_id: str, base: str
) -> None:
    body = {"corpus_id": corpus_id, "prompt": "Country: Arland", "max_new_tokens": 12, "seed": 1}

    text = client.post("/api/v1/generations", json={**body, "run_id": base}).json()
    fast = client.post("/api/v1/generations", json={**body, "run_id": base, "fast": True}).json()
    absent = client.post("/api/v1/generations", json={**body, "run_id": "nobody/nothing"})

    assert (text["state"], text["run_name"]) == ("succeeded", base), text
    assert text["settings"]["repetition_penalty"] == 1.05
    assert all(chunk["neighbors"] for chunk in text["chunks"][1:])
    assert (fast["state"], fast["settings"]["fast"]) == ("succeeded", True), fast
    assert absent.status_code == 409, absent.text
    assert "'nobody/nothing' is not a folder here and cannot be had" in absent.json()["detail"]
    assert "Reads the neighbors with its own attention" in about_model(app, f"{base}:")


class StopHereError(Exception):
    """Ends a build where its index has just been put in place."""


def stop_at_neighbors(stage: str, _done: int, _total: int) -> None:
    if stage == "neighbors":
        raise StopHereError


def test_a_text_is_written_while_neighbors_for_training_are_being_found(
    app: Services, client: TestClient, base: str
) -> None:
    corpus = app.corpora.create("early", settings={"chunk_size": 8, "tokenizer": base})
    add(app, corpus.id)
    app.corpora.build(corpus.id)
    config = config_from_dict(CorpusConfig, app.corpora.get(corpus.id).settings)
    with pytest.raises(StopHereError):
        build_corpus(app.home.corpus_dir(corpus.id), config, on_progress=stop_at_neighbors)

    early = app.corpora.get(corpus.id)
    body = {"run_id": base, "prompt": "Country: Arland", "max_new_tokens": 12}
    text = client.post("/api/v1/generations", json={**body, "corpus_id": corpus.id}).json()

    assert (early.state, bool(early.num_chunks)) == ("building", True)
    assert text["state"] == "succeeded", text
    assert text["chunks"][-1]["neighbors"]
    run_waiting_jobs(app)
    assert app.corpora.get(corpus.id).state == "ready"


def test_a_model_gets_a_copy_where_the_corpus_was_cut_for_another(
    app: Services, client: TestClient, corpus_id: str, base: str
) -> None:
    scratch = start(client, corpus_id, model=MODEL, training={**TRAINING, "sequence_length": 32})
    again = start(client, corpus_id, model=MODEL, training={**TRAINING, "sequence_length": 32})
    copy = app.corpora.get(scratch["corpus_id"])

    assert copy.id == again["corpus_id"] != corpus_id
    assert (copy.name, copy.settings["tokenizer"]) == ("world, for RETRO from scratch", None)
    back = start(client, copy.id, base=base, mode="gates", training=SHORT)
    assert back["corpus_id"] not in (copy.id, corpus_id)
    run_waiting_jobs(app)

    summaries = [app.corpora.get(one["corpus_id"]).summary or {} for one in (scratch, back)]
    assert [summary["tokenizer_source"] for summary in summaries] == [None, base]
    assert summaries[0]["vocab_size"] != summaries[1]["vocab_size"]
    assert [app.runs.get(one["id"]).state for one in (scratch, again, back)] == [
        RunState.SUCCEEDED
    ] * 3


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"base": "{base}", "mode": "most"}, "mode must be one of gates, lora, full"),
        ({"base": "{base}", "training": {"packing": True}}, "packing must be off"),
        ({"base": "{base}", "training": {"sequence_length": 4000}}, "at most the model's window"),
        ({"preset": "lora"}, "lora is a way to train a pretrained model"),
        ({"revision": "main"}, "mode and revision belong to a pretrained model"),
    ],
)
def test_a_wrong_wish_is_refused_and_makes_nothing(
    app: Services, client: TestClient, corpus_id: str, base: str, body: Any, words: str
) -> None:
    before = len(app.runs.list_runs()), len(app.corpora.list_corpora())
    wanted = {**body, **({"base": base} if "base" in body else {})}

    answer = client.post("/api/v1/runs", json={"name": "r", "corpus_id": corpus_id, **wanted})

    assert (answer.status_code, words in answer.json()["detail"]) == (422, True), answer.text
    assert (len(app.runs.list_runs()), len(app.corpora.list_corpora())) == before


def test_a_base_that_cannot_be_had_ends_the_run_with_one_sentence(
    app: Services, client: TestClient, corpus_id: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    run = start(client, corpus_id, base=str(tmp_path / "empty"), training=SHORT)

    run_waiting_jobs(app)

    found = app.runs.get(run["id"])
    assert (found.state, "build" in found.message) == (RunState.CANCELED, True)
    build = app.corpora.get(found.corpus_id).build_job_id
    assert "tokenizer.json" in (app.jobs.get(build or "").error or "")
