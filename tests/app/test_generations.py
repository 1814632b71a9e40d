"""Texts are written in the background, into their row, one after the other."""

import io
import json
from typing import Any

import pytest

from app.errors import MissingError
from app.services.uploads import UploadedFile
from retro.errors import ArtifactMissingError, ConfigError, InputError
from tests.app import written
from tests.app.real_app import Trained, run_waiting_jobs
from tests.app.texts import (
    post,
    wait,
)

pytestmark = pytest.mark.slow


def test_a_text_comes_with_the_neighbors_that_conditioned_it(trained: Trained) -> None:
    answer = post(trained)

    assert answer.status_code == 200
    generation = answer.json()
    assert generation["state"] == "succeeded"
    assert generation["seed"] == 3
    chunks = generation["chunks"]
    assert "".join(chunk["text"] for chunk in chunks) == generation["text"]
    assert sum(len(chunk["token_ids"]) for chunk in chunks if not chunk["is_prompt"]) == 40
    assert chunks[0]["neighbors"] == []
    database = trained.services.corpora.open(trained.corpus_id).database
    for chunk in chunks[1:]:
        assert [neighbor["rank"] for neighbor in chunk["neighbors"]] == [1, 2]
        for neighbor in chunk["neighbors"]:
            place = database.spans_C2[neighbor["chunk_id"]].tolist()
            assert place == [neighbor["start"], neighbor["end"]]
    assert len(chunks) > 2
    stored = trained.client.get(f"/api/v1/generations/{generation['id']}").json()
    assert stored == generation


def test_the_same_seed_writes_the_same_text(trained: Trained) -> None:
    first, second, other = post(trained), post(trained), post(trained, seed=4)

    assert first.json()["text"] == second.json()["text"]
    assert first.json()["text"] != other.json()["text"]


def test_both_gives_two_texts_from_one_seed(trained: Trained) -> None:
    answer = post(trained, retrieval="both").json()

    assert answer["on"]["seed"] == answer["off"]["seed"] == 3
    assert answer["on"]["chunks"][1]["neighbors"]
    assert not any(chunk["neighbors"] for chunk in answer["off"]["chunks"])
    assert answer["off"]["text"] == post(trained, retrieval="off").json()["text"]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"prompt": "  "}, InputError, "must not be empty"),
        ({"prompt": "x" * 1_000_001}, InputError, "1,000,001"),
        ({"retrieval": "maybe"}, ConfigError, "'maybe'"),
        ({"checkpoint_step": 3}, MissingError, "It has: 2, 4"),
        ({"sampling": {"temperature": -1}}, ConfigError, "temperature"),
        ({"sampling": {"top_z": 1}}, ConfigError, "'top_z'"),
        ({"sampling": {"stop": "end"}}, ConfigError, "stop must be a list"),
        ({"sampling": {"stop": ["\ud800"]}}, InputError, "half of a surrogate pair"),
        ({"sampling": {"num_samples": 2}, "retrieval": "both"}, ConfigError, "num_samples must be"),
        ({"prompt": "half \ud83d"}, InputError, "half of a surrogate pair"),
        ({"prompt": "a\0b"}, InputError, "NUL, got one at position 1"),
        ({"prompt": "the cat " * 100}, InputError, "window of 64 tokens"),
        ({"steering": {"exclude": []}}, ConfigError, "'exclude'"),
        ({"steering": {"exclude_chunks": [10**6]}}, InputError, "got 1000000"),
        ({"steering": {"exclude_documents": ["no.txt"]}}, InputError, "'no.txt'"),
    ],
)
def test_a_wrong_request_is_refused_before_it_has_a_row(
    trained: Trained, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    before = len(trained.services.generations.list_generations(100))

    with pytest.raises(error, match=words):
        trained.services.generations.start(**{"run_id": trained.run_id, "prompt": "a", **changes})

    assert len(trained.services.generations.list_generations(100)) == before


def test_a_prompt_beyond_the_window_is_refused_with_the_numbers(trained: Trained) -> None:
    answer = post(trained, prompt="the cat sat on a mat " * 100)

    assert answer.status_code == 422
    assert "window of 64 tokens" in answer.json()["detail"]


def test_a_run_without_a_checkpoint_cannot_write(trained: Trained) -> None:
    run = trained.services.runs.create("waiting", trained.corpus_id)

    with pytest.raises(ArtifactMissingError, match="'waiting' has no checkpoint yet"):
        trained.services.generations.start(run_id=run.id, prompt="a")

    trained.services.runs.stop(run.id)
    trained.services.runs.delete(run.id)


def test_text_of_documents_is_shown_as_text(trained: Trained) -> None:
    generation = post(trained, prompt="<img src=x onerror=alert(1)> ${7*7} {{x}} <b>0</b>").json()

    shown = written.shown(generation)

    assert "<img" not in shown
    assert "<b>0</b>" not in shown
    assert "&lt;" in shown


def test_the_door_writes_from_a_held_out_document(trained: Trained) -> None:
    generation = trained.services.doors.write(trained.run_id)

    assert generation.prompt
    assert wait(trained, generation.id)["state"] == "succeeded"


@pytest.mark.parametrize("prompt", ["\U000107c3", "\ufffd", "\u202e\n"])
def test_a_prompt_of_one_unknown_character_is_continued(trained: Trained, prompt: str) -> None:
    generation = post(trained, prompt=prompt).json()

    assert generation["state"] == "succeeded"
    assert generation["text"].startswith(prompt)


def test_several_texts_are_stored_with_their_seeds(trained: Trained) -> None:
    several = post(trained, num_samples=3, min_p=0.01, repetition_penalty=1.1).json()
    second = post(trained, seed=4, min_p=0.01, repetition_penalty=1.1).json()

    assert [sample["seed"] for sample in several["samples"]] == [3, 4, 5]
    assert several["samples"][0]["text"] == several["text"]
    assert several["samples"][1]["text"] == second["text"]
    assert several["settings"]["min_p"] == 0.01
    assert set(several["result"]) == {"on", "on:1", "on:2", "seconds"}


def test_a_text_ends_before_a_stop_string(trained: Trained) -> None:
    whole = post(trained).json()
    prompt = whole["prompt"]
    word = whole["text"][len(prompt) :].split()[2]

    cut = post(trained, stop=[word]).json()

    assert cut["result"]["on"]["reason"] == "stop"
    assert whole["text"].startswith(cut["text"])
    assert word not in cut["text"][len(prompt) :]


@pytest.mark.parametrize("settings", [{"chunk_size": 16, "vocab_size": 300}, {"chunk_size": 8}])
def test_a_corpus_that_was_cut_for_another_model_is_read_as_text(
    trained: Trained, settings: dict[str, Any]
) -> None:
    services = trained.services
    corpus = services.corpora.create("other", settings=settings)
    source = services.home.corpus_dir(trained.corpus_id)
    for document in services.corpora.documents(trained.corpus_id).documents:
        path = source / "documents" / document.path
        with path.open("rb") as file:
            services.uploads.add(corpus.id, [UploadedFile(path=document.path, content=file)])
    services.corpora.build(corpus.id)
    run_waiting_jobs(services)

    text = post(trained, corpus_id=corpus.id).json()

    assert text["settings"]["reads_as_text"] is True
    assert "cut for another model" in written.shown(text)
    neighbors = [one for chunk in text["chunks"] for one in chunk["neighbors"]]
    assert neighbors
    for one in neighbors:
        found = services.corpora.document(corpus.id, one["document"], start=one["start"])
        assert one["text"] in found.text
    assert post(trained, corpus_id=corpus.id, retrieval="off").status_code == 200
    services.corpora.delete(corpus.id)


@pytest.mark.parametrize(
    ("method", "path", "values"),
    [
        ("POST", "branch", {"chunk_index": 1}),
        ("POST", "continue", {}),
        ("GET", "events", None),
        ("GET", "export", None),
        ("DELETE", "", None),
    ],
)
def test_a_missing_text_is_404_with_a_sentence(
    trained: Trained, method: str, path: str, values: Any
) -> None:
    address = f"/api/v1/generations/nothing/{path}".rstrip("/")

    answer = trained.client.request(method, address, json=values)

    assert answer.status_code == 404
    assert "There is no generation nothing." in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "values", "words"),
    [
        ("", {"run_id": "x", "prompt": "y", "stop": "end"}, "stop must be a list"),
        ("", {"run_id": "x", "prompt": "y", "steer": {}}, "steer is not a known field"),
        ("/x/branch", {}, "chunk_index is needed"),
        ("/x/branch", {"chunk_index": "2"}, "chunk_index must be a whole number"),
        ("/x/branch", {"chunk_index": 2, "exclude_chunks": [1.5]}, "exclude_chunks.0"),
        ("/x/branch", {"chunk_index": 2, "neighbors": [{"text": "\ud83d"}]}, "surrogate"),
        ("/x/continue", {"seed": 1}, "seed is not a known field"),
    ],
)
def test_a_body_of_the_wrong_form_is_refused(
    trained: Trained, path: str, values: dict[str, Any], words: str
) -> None:
    answer = trained.client.post(
        f"/api/v1/generations{path}",
        content=json.dumps(values),
        headers={"content-type": "application/json"},
    )

    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_another_corpus_for_the_model_is_what_is_read(trained: Trained) -> None:
    services = trained.services
    paths = [item.path for item in services.corpora.documents(trained.corpus_id).documents]
    copy = services.corpora.copy(trained.corpus_id, run_id=trained.run_id)
    words = " ".join(f"rivers and hills far {number}" for number in range(80))
    extra = UploadedFile(path="extra.txt", content=io.BytesIO(words.encode()))
    run_waiting_jobs(services)
    services.uploads.add(copy.id, [extra])
    services.corpora.build(copy.id)
    run_waiting_jobs(services)
    steering = {"exclude_documents": paths}
    assert post(trained, steering=steering).json()["chunks"][1]["neighbors"] == []

    generation = post(trained, corpus_id=copy.id, steering=steering).json()

    found = [item["document"] for chunk in generation["chunks"] for item in chunk["neighbors"]]
    assert set(found) == {"extra.txt"}
    assert post(trained).json()["chunks"][1]["neighbors"][0]["document"] in paths
    services.corpora.delete(copy.id)
