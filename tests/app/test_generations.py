"""Texts are written in the background, into their row, one after the other."""

import json
import time
from typing import Any

import pytest

from app.errors import MissingError
from app.pages.result import render_result
from retro.errors import ArtifactMissingError, ConfigError, InputError
from tests.app.real_app import Trained

pytestmark = pytest.mark.slow

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
        if generation["state"] != "running":
            return generation
        time.sleep(0.02)
    raise AssertionError("the generation did not end")


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


def read_events(text: str) -> list[tuple[str, Any]]:
    events = []
    for block in text.strip().split("\n\n"):
        if not block.startswith(":"):
            name, data = block.split("\n", 1)
            events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


def test_a_stream_tells_tokens_chunks_and_the_end(trained: Trained) -> None:
    answer = post(trained, stream=True)

    assert answer.headers["content-type"].startswith("text/event-stream")
    events = read_events(answer.text)
    names = [name for name, _ in events]
    assert names[0] == "start"
    assert names[-1] == "done"
    assert names.count("token") == 40
    written = "".join(value["text"] for name, value in events if name == "token")
    final = events[-1][1]
    # A character that the last token leaves incomplete is only in the chunk.
    assert (
        final["text"]
        .rstrip("\N{REPLACEMENT CHARACTER}")
        .endswith(written.rstrip("\N{REPLACEMENT CHARACTER}"))
    )
    chunks = [value for name, value in events if name == "chunk"]
    assert [chunk["text"] for chunk in chunks] == [chunk["text"] for chunk in final["chunks"]]


def test_texts_wait_for_each_other_and_can_be_stopped(trained: Trained) -> None:
    generations = trained.services.generations
    prompt = body(trained)["prompt"]
    long = {"max_new_tokens": 100_000, "seed": 1}
    first = generations.start(run_id=trained.run_id, prompt=prompt, sampling=long)
    second = generations.start(run_id=trained.run_id, prompt=prompt, sampling=long)

    waiting = [generations.waiting_for(second["id"])]
    generations.stop(second["id"])
    while not generations.get(first["id"])["chunks"]:
        time.sleep(0.02)
    trained.client.post(f"/api/v1/generations/{first['id']}/stop")

    assert waiting == [1]
    stopped = wait(trained, first["id"])
    assert stopped["state"] == "canceled"
    assert stopped["chunks"]
    assert wait(trained, second["id"])["state"] == "canceled"
    assert generations.follow(first["id"]) is None


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"prompt": "  "}, InputError, "must not be empty"),
        ({"prompt": "x" * 1_000_001}, InputError, "1,000,001"),
        ({"retrieval": "maybe"}, ConfigError, "'maybe'"),
        ({"checkpoint_step": 3}, MissingError, "It has: 2, 4"),
        ({"sampling": {"temperature": -1}}, ConfigError, "temperature"),
        ({"sampling": {"top_z": 1}}, ConfigError, "'top_z'"),
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
        trained.services.generations.start(run_id=run["id"], prompt="a")

    trained.services.runs.stop(run["id"])
    trained.services.runs.delete(run["id"])


def test_a_deleted_checkpoint_is_one_clear_sentence(trained: Trained) -> None:
    folder = trained.services.home.run_dir(trained.run_id) / "checkpoints" / "step-00000002"
    away = folder.with_name("away")
    folder.rename(away)
    try:
        answer = post(trained, checkpoint_step=2)
    finally:
        away.rename(folder)

    assert answer.status_code == 404
    assert "has no checkpoint at step 2. It has: 4" in answer.json()["detail"]
    assert post(trained, checkpoint_step=2).status_code == 200


def test_a_text_that_was_cut_off_by_a_restart_says_so(trained: Trained) -> None:
    row = trained.services.store.create_generation(
        trained.run_id, trained.corpus_id, "x", {"retrieval": "on", "seed": 0}
    )

    trained.services.generations.recover()

    generation = trained.services.generations.get(row.id)
    assert generation["state"] == "interrupted"
    assert "restarted" in generation["message"]


def test_text_of_documents_is_shown_as_text(trained: Trained) -> None:
    generation = post(trained, prompt="<img src=x onerror=alert(1)> ${7*7} {{x}} <b>0</b>").json()

    shown = render_result(generation, {}, 0)

    assert "<img" not in shown
    assert "<b>0</b>" not in shown
    assert "&lt;img" in shown


def test_the_door_writes_from_a_held_out_document(trained: Trained) -> None:
    generation = trained.services.doors.write(trained.run_id)

    assert generation["prompt"]
    assert wait(trained, generation["id"])["state"] == "succeeded"


def test_the_newest_checkpoint_there_is_writes_when_the_last_was_deleted(trained: Trained) -> None:
    folder = trained.services.home.run_dir(trained.run_id) / "checkpoints" / "step-00000004"
    hidden = folder.with_name("elsewhere")
    folder.rename(hidden)
    try:
        answer = post(trained)
    finally:
        hidden.rename(folder)

    assert answer.status_code == 200
    assert answer.json()["settings"]["checkpoint_step"] == 2
