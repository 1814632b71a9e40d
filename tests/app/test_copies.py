"""Corpora for models that were not trained on them, and corpora that grow."""

import errno
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.pages import corpora
from app.services.services import Services
from app.services.uploads import UploadedFile
from jobs.version_files import built_fingerprint, version_dir
from jobs.work.child import run_job
from retro.artifacts import read_manifest
from tests.app.real_app import MODEL, TRAINING, Trained, run_waiting_jobs

RIVERS = {
    f"rivers/{number}.txt": " ".join(
        f"the river {name} springs in the hills and reaches the sea near {name}mouth"
        for name in names
    )
    * 4
    for number, names in enumerate(
        [("alda", "brock"), ("cern", "dole"), ("esk", "firth"), ("gara", "hove"), ("iller", "jun")]
    )
}
PROMPT = "the cat sat on a mat and saw dogs run far over green hills by old rivers"


def add(services: Services, corpus_id: str, texts: dict[str, str]) -> dict[str, Any]:
    files = [UploadedFile(path=path, content=io.BytesIO(t.encode())) for path, t in texts.items()]
    return services.uploads.add(corpus_id, files)


def make_rivers(services: Services, **settings: Any) -> str:
    own = {"tokenizer": None, **settings}
    corpus_id = str(services.corpora.create("rivers", settings=own).id)
    add(services, corpus_id, RIVERS)
    return corpus_id


def post(client: TestClient, path: str, body: Any = None) -> Any:
    return client.post(f"/api/v1{path}", json=body)


def write(trained: Trained, corpus_id: str, prompt: str = PROMPT) -> Any:
    body = {"run_id": trained.run_id, "corpus_id": corpus_id, "prompt": prompt}
    return post(trained.client, "/generations", {**body, "max_new_tokens": 20})


def sources(answer: Any) -> set[str]:
    return {one["document"] for chunk in answer.json()["chunks"] for one in chunk["neighbors"]}


@pytest.fixture
def own(trained: Trained) -> Iterator[Trained]:
    """Give the trained app, and remove the corpora that a test adds to it."""
    before = {item.id for item in trained.services.corpora.list_corpora()}
    yield trained
    for item in trained.services.corpora.list_corpora():
        if item.id not in before:
            trained.services.corpora.delete(item.id)


@pytest.mark.slow
def test_a_copy_for_a_model_is_what_the_model_writes_from(own: Trained) -> None:
    services = own.services
    corpus_id = make_rivers(services, chunk_size=32, vocab_size=300, num_neighbors=3)
    services.corpora.build(corpus_id)
    run_waiting_jobs(services)
    as_text = write(own, corpus_id)
    assert as_text.json()["settings"]["reads_as_text"] is True

    answer = post(own.client, f"/corpora/{corpus_id}/copy", {"run_id": own.run_id})

    assert answer.status_code == 202
    copy = answer.json()
    assert (copy["name"], copy["state"]) == ("rivers, for run 'first'", "building")
    assert services.jobs.get(copy["build_job_id"]).kind == "build"
    assert copy["num_documents"] == len(RIVERS)
    run_waiting_jobs(services)
    built = services.corpora.get(copy["id"])
    assert built.state == "ready"
    assert built.settings["num_neighbors"] == 3
    summary = built.summary
    assert (summary["chunk_size"], summary["tokenizer_origin"]) == (16, "taken")
    assert summary["tokenizer_source"] == "run 'first'"
    job = services.jobs.get(copy["build_job_id"])
    assert "Tokenizer taken from run 'first'." in job.message
    assert "taken from run &#x27;first&#x27;" in corpora.render_top(
        services, {"corpus": copy["id"]}
    )
    written = write(own, copy["id"])
    assert written.status_code == 200
    assert written.json()["settings"]["reads_as_text"] is False
    assert sources(written)
    assert sources(written) <= set(RIVERS)


@pytest.mark.slow
def test_documents_added_to_a_copy_are_retrieved_without_training(own: Trained) -> None:
    services = own.services
    copy = post(own.client, f"/corpora/{own.corpus_id}/copy", {"name": "grown"}).json()
    run_waiting_jobs(services)
    assert services.corpora.get(copy["id"]).summary["tokenizer_origin"] == "trained"
    assert not services.corpora.get(copy["id"]).has_changes
    prompt = "quick jackdaws vex a fjord bank while zephyrs blow past quartz"
    assert "new.txt" not in sources(write(own, copy["id"], prompt))

    assert add(services, copy["id"], {"new.txt": f"{prompt} " * 6})["accepted"]

    assert services.corpora.get(copy["id"]).has_changes
    shown = corpora.render_top(services, {"corpus": copy["id"]})
    assert "Build to retrieve from them" in shown
    assert "goes on with the version" not in shown
    assert services.corpora.list_corpora()[0].has_changes
    assert post(own.client, f"/corpora/{copy['id']}/build").status_code == 202
    run_waiting_jobs(services)
    built = services.corpora.get(copy["id"])
    assert (built.has_changes, built.summary["tokenizer_origin"]) == (False, "kept")
    assert "Rebuild to retrieve" not in corpora.render_top(services, {"corpus": copy["id"]})
    assert "new.txt" in sources(write(own, copy["id"], prompt))
    # The corpus it was copied from is as it was.
    listed = services.corpora.documents(own.corpus_id)
    assert "new.txt" not in [item.path for item in listed.documents]
    assert not services.corpora.get(own.corpus_id).has_changes


@pytest.mark.slow
def test_a_corpus_may_take_a_tokenizer_when_it_is_made_or_built(own: Trained) -> None:
    services = own.services
    made = post(
        own.client,
        "/corpora",
        {"name": "made", "settings": {"tokenizer_run_id": own.run_id, "num_neighbors": 3}},
    )
    assert made.status_code == 201
    corpus = made.json()
    assert (corpus["settings"]["chunk_size"], corpus["settings"]["num_neighbors"]) == (16, 3)
    changed = make_rivers(services, chunk_size=32, vocab_size=300)
    services.corpora.build(changed)
    run_waiting_jobs(services)
    add(services, corpus["id"], RIVERS)

    services.corpora.build(corpus["id"])
    build = post(
        own.client,
        f"/corpora/{changed}/build",
        {"settings": {"tokenizer_run_id": own.run_id, "num_neighbors": 4}},
    )
    assert build.status_code == 202
    run_waiting_jobs(services)

    for corpus_id in (corpus["id"], changed):
        built = services.corpora.get(corpus_id)
        assert built.summary["tokenizer_source"] == "run 'first'"
        assert "tokenizer_run_id" not in built.settings
        assert sources(write(own, corpus_id)) <= set(RIVERS)
    assert services.corpora.get(changed).summary["num_neighbors"] == 4
    # The wish was for one build: the next one keeps what there is, or trains as it is told.
    services.corpora.build(changed, {"new_tokenizer": True})
    run_waiting_jobs(services)
    assert services.corpora.get(changed).summary["tokenizer_origin"] == "trained"
    services.corpora.build(changed)
    run_waiting_jobs(services)
    assert services.corpora.get(changed).summary["tokenizer_origin"] == "trained"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"chunk_size": 32}, "chunk_size must be 16 with the tokenizer of run 'first', got 32."),
        ({"vocab_size": 258}, "with the tokenizer of run 'first', got 258."),
    ],
)
def test_settings_that_contradict_a_model_are_refused_with_both_values(
    own: Trained, settings: dict[str, int], words: str
) -> None:
    wanted = {"tokenizer_run_id": own.run_id, **settings}
    num_corpora = len(own.services.corpora.list_corpora())

    answers = [
        post(own.client, "/corpora", {"name": "x", "settings": wanted}),
        post(own.client, f"/corpora/{own.corpus_id}/build", {"settings": wanted}),
    ]

    for answer in answers:
        assert answer.status_code == 422
        assert words in answer.json()["detail"]
    assert len(own.services.corpora.list_corpora()) == num_corpora
    assert own.services.corpora.get(own.corpus_id).state == "ready"


def test_copies_that_cannot_be_made_leave_nothing(client: TestClient, services: Services) -> None:
    empty = str(services.corpora.create("empty").id)
    filled = make_rivers(services)
    services.corpora.build(filled)
    run = services.runs.create("waiting", filled, model=MODEL, training=TRAINING)
    lost = make_rivers(services)
    (services.home.corpus_dir(lost) / "documents" / "rivers" / "3.txt").unlink()
    before = services.corpora.list_corpora()
    folders = sorted(services.home.corpora_dir.iterdir())

    answers = {
        "'empty' must hold at least one document": post(client, f"/corpora/{empty}/copy"),
        "no corpus nothing": post(client, "/corpora/nothing/copy"),
        "no run nothing": post(client, f"/corpora/{filled}/copy", {"run_id": "nothing"}),
        "Run 'waiting' must have started": post(
            client, f"/corpora/{filled}/copy", {"run_id": run.id}
        ),
        "no document 'rivers/3.txt' on the disk": post(client, f"/corpora/{lost}/copy"),
        "1 to 200 printable": post(client, f"/corpora/{filled}/copy", {"name": " "}),
        "corpus_id is not a known field": post(client, f"/corpora/{filled}/copy", {"corpus_id": 1}),
        "id of a run, got 5": post(
            client, "/corpora", {"name": "x", "settings": {"tokenizer_run_id": 5}}
        ),
        "new_tokenizer must be true or false, got 'yes'": post(
            client, f"/corpora/{lost}/build", {"settings": {"new_tokenizer": "yes"}}
        ),
    }

    for words, answer in answers.items():
        assert words in answer.json()["detail"]
    statuses = [answer.status_code for answer in answers.values()]
    assert statuses == [422, 404, 404, 409, 409, 422, 422, 422, 422]
    assert services.corpora.list_corpora() == before
    assert sorted(services.home.corpora_dir.iterdir()) == folders


@pytest.mark.parametrize("can_link", [True, False])
def test_a_copy_shares_files_where_it_can_and_never_changes_the_original(
    services: Services, monkeypatch: pytest.MonkeyPatch, can_link: bool
) -> None:
    corpus_id = make_rivers(services)
    if not can_link:

        def refuse(*_arguments: object) -> None:
            raise OSError(errno.EXDEV, "another device")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
    copy = services.corpora.copy(corpus_id)
    assert copy.name == "rivers, copy"
    old, new = (services.home.corpus_dir(i) / "documents" / "rivers" for i in (corpus_id, copy.id))
    assert (old / "1.txt").samefile(new / "1.txt") is can_link
    assert services.corpora.documents(copy.id) == services.corpora.documents(corpus_id)
    services.jobs.cancel(copy.build_job_id)

    add(services, copy.id, {"rivers/1.txt": "written over"})

    assert (new / "1.txt").read_text() == "written over"
    assert (old / "1.txt").read_text() == RIVERS["rivers/1.txt"]
    services.corpora.delete(copy.id)
    assert (old / "2.txt").read_text() == RIVERS["rivers/2.txt"]


@pytest.mark.slow
def test_unfinished_training_is_named_and_goes_on_after_a_change(
    services: Services, client: TestClient
) -> None:
    corpus_id = make_rivers(services, chunk_size=16)
    services.corpora.build(corpus_id)
    run_waiting_jobs(services)
    names = ("paused <b>", "waiting")
    training = {**TRAINING, "max_steps": 100_000, "eval_every": 1000, "checkpoint_every": 90_000}
    paused, waiting = (
        services.runs.create(name, corpus_id, model=MODEL, training=training) for name in names
    )
    job = services.store.claim("test")
    assert job is not None
    assert job.lease_token is not None
    services.runs.pause(paused.id)
    run_job(services.store, services.home, job.id, job.lease_token)
    assert services.runs.get(paused.id).state == "paused"
    shown = corpora.render_top(services, {"corpus": corpus_id})
    assert "goes on with the version" not in shown

    files = [("files", ("new.txt", b"a new text about new things " * 30))]
    client.post(f"/api/v1/corpora/{corpus_id}/files", files=files)

    assert [run.name for run in services.corpora.get(corpus_id).unfinished_runs] == [names[0]]
    shown = corpora.render_top(services, {"corpus": corpus_id})
    assert "the version it began with: &#x27;paused &lt;b&gt;&#x27;." in shown
    assert "changed since version 1: 1 added" in shown
    assert "<b>&#x27;" not in shown
    services.runs.stop(waiting.id)
    services.corpora.build(corpus_id)
    run_waiting_jobs(services)
    states = [item.state for item in services.corpora.versions(corpus_id)]
    assert states == ["current", "kept"]
    step = services.runs.get(paused.id).step
    services.runs.resume(paused.id)
    job = services.store.claim("test")
    assert job is not None
    assert job.lease_token is not None
    services.runs.pause(paused.id)
    run_job(services.store, services.home, job.id, job.lease_token)
    resumed = services.runs.get(paused.id)
    assert resumed.state == "paused"
    assert resumed.step >= step
    assert resumed.corpus_version == 1
    kept_dir = version_dir(services.home.corpus_dir(corpus_id), 1)
    assert f"train {kept_dir} " in services.runs.recipe(paused.id).command
    first = services.store.list_versions(corpus_id)[-1]
    assert built_fingerprint(kept_dir) == first.fingerprint


@pytest.mark.slow
def test_the_page_offers_copies_for_models_of_other_corpora(own: Trained) -> None:
    services = own.services
    own_page = corpora.render_top(services, {"corpus": own.corpus_id})
    corpus_id = make_rivers(services)
    page = corpora.render_top(services, {"corpus": corpus_id})

    assert "Copy for another model" not in own_page
    assert "Copy for another model" in page
    assert f'data-call="POST /api/v1/corpora/{corpus_id}/copy"' in page
    body = json.dumps({"run_id": own.run_id}).replace('"', "&quot;")
    assert f'data-body="{body}"' in page
    assert '<td>first</td><td>letters</td><td class="num">16 tokens</td>' in page
    empty = services.corpora.create("empty")
    assert "Copy for" not in corpora.render_top(services, {"corpus": empty.id})


@pytest.mark.slow
def test_a_copied_tokenizer_is_the_original_with_its_origin(own: Trained) -> None:
    copy = own.services.corpora.copy(own.corpus_id)
    folders = [own.services.home.corpus_dir(item) for item in (own.corpus_id, copy.id)]

    old, new = (read_manifest(folder / "tokenizer", "tokenizer") for folder in folders)

    assert old == new
    own.services.jobs.cancel(copy.build_job_id)
