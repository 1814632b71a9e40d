"""Texts are written in the background, into their row, one after the other."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.errors import MissingError
from app.pages.result import render_result
from app.services.live import PartialChunk
from app.services.services import Services
from app.services.uploads import UploadedFile
from jobs.store import Store
from retro.config import SamplingConfig
from retro.errors import ArtifactMissingError, ConfigError, InputError
from retro.generation.events import ChunkEvent, ChunkStart, TokenEvent
from retro.generation.generate import Generator
from tests.app.real_app import LIMITS, Trained, run_waiting_jobs

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
    chunks = [value for name, value in events if name == "chunk_end"]
    assert [chunk["text"] for chunk in chunks] == [chunk["text"] for chunk in final["chunks"]]


def test_texts_wait_for_each_other_and_can_be_stopped(trained: Trained) -> None:
    generations = trained.services.generations
    prompt = body(trained)["prompt"]
    long = {"max_new_tokens": 100_000, "seed": 1}
    first = generations.start(run_id=trained.run_id, prompt=prompt, sampling=long)
    second = generations.start(run_id=trained.run_id, prompt=prompt, sampling=long)

    waiting = [generations.waiting_for(second["id"])]
    stopped_at_once = generations.stop(second["id"])
    while not generations.get(first["id"])["chunks"]:
        time.sleep(0.02)
    trained.client.post(f"/api/v1/generations/{first['id']}/stop")

    assert waiting == [1]
    assert (stopped_at_once["state"], stopped_at_once["message"]) == ("canceled", "Stopped.")
    stopped = wait(trained, first["id"])
    assert stopped["state"] == "canceled"
    assert stopped["chunks"]
    assert wait(trained, second["id"])["state"] == "canceled"
    assert generations.partial(first["id"]) == {}


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
    assert "&lt;" in shown


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


def test_both_sides_grow_together_and_tell_each_others_tokens(trained: Trained) -> None:
    generations = trained.services.generations
    started = generations.start(
        run_id=trained.run_id,
        prompt=body(trained)["prompt"],
        retrieval="both",
        sampling={"max_new_tokens": 400},
    )

    seen = []
    while (now := generations.get(started["id"]))["state"] == "running":
        seen.append((len(now["on"]["chunks"]), len(now["off"]["chunks"])))
        time.sleep(0.002)

    # One side may come to its end before the other.
    shorter = min(len(now["on"]["chunks"]), len(now["off"]["chunks"]))
    steps = [abs(min(on, shorter) - min(off, shorter)) for on, off in seen]
    assert len({pair for pair in seen if 3 < min(pair) < shorter}) > 3
    assert max(steps) <= 1
    for side in ("on", "off"):
        for chunk in now[side]["chunks"]:
            assert len(chunk["other_logprobs"]) == len(chunk["token_ids"])
    assert now["result"]["on"]["seconds"] < now["result"]["seconds"]


@contextmanager
def moved_away(folder: Path) -> Iterator[None]:
    away = folder.with_name("away")
    folder.rename(away)
    try:
        yield
    finally:
        away.rename(folder)


@pytest.fixture
def fresh(trained: Trained) -> Iterator[Services]:
    """The same home, with nothing opened yet."""
    home = trained.services.home
    made = Services(home, Store(home.database_url()), limits=LIMITS)
    yield made
    made.generations.close()
    made.store.close()


def test_retrieval_off_never_touches_the_corpus(trained: Trained, fresh: Services) -> None:
    expected = post(trained, retrieval="off").json()["text"]
    with moved_away(fresh.home.corpus_dir(trained.corpus_id)):
        answer = fresh.generations.start(
            run_id=trained.run_id,
            prompt=body(trained)["prompt"],
            retrieval="off",
            sampling={"max_new_tokens": 40, "seed": 3},
        )
        found = wait_in(fresh, answer["id"])
        with pytest.raises(MissingError, match="'letters' are gone"):
            fresh.generations.start(run_id=trained.run_id, prompt="the cat")

    assert (found["state"], found["text"]) == ("succeeded", expected)
    assert found["settings"]["corpus_fingerprint"] is None


def wait_in(services: Services, generation_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if (found := services.generations.get(generation_id))["state"] != "running":
            return found
        time.sleep(0.01)
    raise AssertionError("the generation did not end")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"chunk_size": 16, "vocab_size": 300},
            r"tokenizer [0-9a-f]{12}, but corpus 'other'",
        ),
        ({"chunk_size": 8}, r"chunks of 16 tokens, but corpus 'other' was cut into chunks of 8"),
    ],
)
def test_a_corpus_the_model_cannot_read_is_refused_with_the_reason(
    trained: Trained, settings: dict[str, Any], words: str
) -> None:
    services = trained.services
    corpus = services.corpora.create("other", settings=settings)
    source = services.home.corpus_dir(trained.corpus_id)
    for document in services.corpora.documents(trained.corpus_id)["documents"]:
        path = source / "documents" / document["path"]
        with path.open("rb") as file:
            services.uploads.add(corpus["id"], [UploadedFile(path=document["path"], content=file)])
    services.corpora.build(corpus["id"])
    run_waiting_jobs(services)
    before = len(services.generations.list_generations(500))

    answer = post(trained, corpus_id=corpus["id"])

    assert answer.status_code == 409
    assert re.search(words, answer.json()["detail"])
    assert "Copy for another model" in answer.json()["detail"]
    assert len(services.generations.list_generations(500)) == before
    assert post(trained, corpus_id=corpus["id"], retrieval="off").status_code == 200
    services.corpora.delete(corpus["id"])


def start_long(trained: Trained, **changes: Any) -> dict[str, Any]:
    given = {"run_id": trained.run_id, "prompt": body(trained)["prompt"], **changes}
    return trained.services.generations.start(**given, sampling={"max_new_tokens": 100_000})


def until_chunks(trained: Trained, generation_id: str, num_chunks: int = 4) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while len(trained.services.generations.get(generation_id)["chunks"]) < num_chunks:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("what", "words"),
    [("corpus", "Corpus 'letters' was deleted"), ("run", "Run 'first' was deleted")],
)
def test_what_is_deleted_under_the_writer_ends_the_text_and_keeps_it(
    trained: Trained, what: str, words: str
) -> None:
    home = trained.services.home
    folder = home.run_dir(trained.run_id)
    if what == "corpus":
        folder = home.corpus_dir(trained.corpus_id)
    started = start_long(trained)
    until_chunks(trained, started["id"])

    with moved_away(folder):
        failed = wait(trained, started["id"])

    assert failed["state"] == "failed"
    assert re.search(words, failed["message"])
    assert len(failed["chunks"]) >= 4
    assert post(trained).status_code == 200


def test_a_run_deleted_while_its_text_waits_is_named(trained: Trained) -> None:
    first, second = start_long(trained), start_long(trained)
    with moved_away(trained.services.home.run_dir(trained.run_id)):
        wait(trained, first["id"])
        failed = wait(trained, second["id"])

    assert failed["state"] == "failed"
    assert "Run 'first' was deleted" in failed["message"]


def test_a_checkpoint_deleted_while_the_text_waits_is_named(trained: Trained) -> None:
    first = start_long(trained)
    second = start_long(trained, checkpoint_step=2)
    checkpoints = trained.services.home.run_dir(trained.run_id) / "checkpoints"

    with moved_away(checkpoints / "step-00000002"):
        trained.services.generations.stop(first["id"])
        failed = wait(trained, second["id"])

    assert failed["state"] == "failed"
    assert "has no checkpoint at step 2. It has: 4." in failed["message"]


class FailsLater(threading.Event):
    """A stop sign that breaks when it is looked at for the n-th time."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def is_set(self) -> bool:
        self.left -= 1
        if self.left < 0:
            raise OSError("the disk is gone")
        return False


def test_tokens_of_a_chunk_that_an_error_cuts_off_are_kept(
    trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = start_long(trained), start_long(trained)
    live = trained.services.generations._writer.find(second["id"])
    assert live is not None
    live.stop = FailsLater(16 + 7)
    trained.services.generations.stop(first["id"])

    failed = wait(trained, second["id"])

    written = [chunk for chunk in failed["chunks"] if not chunk["is_prompt"]]
    assert failed["state"] == "failed"
    assert "fault in the program" in failed["message"]
    assert "the disk is gone" in caplog.text
    assert [len(chunk["token_ids"]) for chunk in written] == [16, 7]
    assert written[1]["neighbors"]
    longer = trained.services.generations.continue_text(failed["id"], max_new_tokens=9)
    whole = wait(trained, longer["id"])
    expected = post(trained, seed=0, max_new_tokens=32).json()
    assert whole["text"] == expected["text"]


def test_a_chunk_cut_off_is_stored_as_the_engine_would_have_told_it(trained: Trained) -> None:
    home = trained.services.home
    generator = Generator.open(
        home.run_dir(trained.run_id), corpus_dir=home.corpus_dir(trained.corpus_id)
    )
    config = SamplingConfig(max_new_tokens=3 * 16 + 5, seed=3)
    compared = 0
    chunk: PartialChunk | None = None
    for event in generator.generate(body(trained)["prompt"], config):
        if isinstance(event, ChunkStart):
            chunk = PartialChunk.begin(event, None)
        elif isinstance(event, TokenEvent):
            assert chunk is not None
            chunk.add(event)
        # The last one may end with a character that was never finished.
        elif isinstance(event, ChunkEvent) and chunk is not None and len(chunk.token_ids) == 16:
            told, kept = event.chunk.to_dict(), chunk.to_chunk()
            # Only the finished chunk was compared from the neighbors' side.
            compared += bool(told["neighbors"])
            assert {**kept, "neighbors": None} == {**told, "neighbors": None}
            assert [n["chunk_id"] for n in kept["neighbors"]] == [
                n["chunk_id"] for n in told["neighbors"]
            ]
    assert compared >= 3


def test_a_text_is_deleted_when_it_has_ended(trained: Trained) -> None:
    started = start_long(trained)
    path = f"/api/v1/generations/{started['id']}"

    refused = trained.client.delete(path)
    trained.client.post(f"{path}/stop")
    wait(trained, started["id"])
    done = trained.client.delete(path)

    assert (refused.status_code, done.status_code) == (409, 204)
    assert "Stop it first" in refused.json()["detail"]
    assert trained.client.get(path).status_code == 404
    assert trained.client.get(f"{path}/events").status_code == 404


def test_a_stream_read_later_tells_the_same_chunks(trained: Trained) -> None:
    live = read_events(post(trained, stream=True, retrieval="both").text)
    generation = live[-1][1]

    later = read_events(trained.client.get(f"/api/v1/generations/{generation['id']}/events").text)

    names = {"chunk_start", "chunk_end"}
    assert later[0] == live[0]
    assert later[-1] == live[-1]
    assert {name for name, _ in later[1:-1]} == names
    for side in ("on", "off"):
        mine = [
            [event for event in events if event[0] in names and event[1]["variant"] == side]
            for events in (live, later)
        ]
        assert mine[0] == mine[1]
        assert len(mine[0]) == 2 * len(generation[side]["chunks"])


def test_a_late_reader_gets_every_token_of_the_text(trained: Trained) -> None:
    generations = trained.services.generations
    started = start_long(trained)
    until_chunks(trained, started["id"], 8)

    reader = generations.events(started["id"])
    told = reader.news()
    generations.stop(started["id"])
    stopped = wait(trained, started["id"])
    while news := reader.news():
        told += news

    assert reader.has_ended
    for chunk in stopped["chunks"]:
        mine = [v for name, v in told if name == "token" and v["chunk_index"] == chunk["index"]]
        expected = [] if chunk["is_prompt"] else chunk["token_ids"]
        assert [value["token_id"] for value in mine] == expected
        starts = [v for name, v in told if name == "chunk_start" and v["index"] == chunk["index"]]
        assert len(starts) == 1
    neighbors = [value["neighbors"] for name, value in told if name == "neighbors"]
    assert len(neighbors) == len(stopped["chunks"])
    assert neighbors[0] == []
    assert all(neighbors[1:])


def test_the_chunk_being_written_shows_its_neighbors_and_runs(trained: Trained) -> None:
    generations = trained.services.generations
    started = start_long(trained)
    until_chunks(trained, started["id"])
    seen = None
    while seen is None:
        partial = generations.partial(started["id"]).get("on")
        if partial and len(partial["segments"]) > 2:
            seen = partial
    generations.stop(started["id"])
    chunk = wait(trained, started["id"])["chunks"][seen["index"]]

    assert chunk["segments"][: len(seen["segments"])] == seen["segments"]
    assert seen["is_prompt"] is False
    ids = [neighbor["chunk_id"] for neighbor in chunk["neighbors"]]
    assert [neighbor["chunk_id"] for neighbor in seen["neighbors"]] == ids
    assert generations.partial(started["id"]) == {}


def test_what_is_written_when_the_app_stops_says_so(trained: Trained, fresh: Services) -> None:
    long = {"max_new_tokens": 100_000}
    started = fresh.generations.start(run_id=trained.run_id, prompt="the cat", sampling=long)
    waiting = fresh.generations.start(run_id=trained.run_id, prompt="the cat", sampling=long)
    while not fresh.generations.get(started["id"])["chunks"]:
        time.sleep(0.01)

    fresh.generations.close()

    found = [fresh.generations.get(item["id"]) for item in (started, waiting)]
    assert [item["state"] for item in found] == ["interrupted", "interrupted"]
    assert all("The app was stopped" in item["message"] for item in found)
    assert [bool(item["chunks"]) for item in found] == [True, False]


def test_a_text_is_downloaded_as_a_file(trained: Trained) -> None:
    generation = post(trained).json()
    path = f"/api/v1/generations/{generation['id']}/export"

    for name, media_type, begins in (
        ("json", "application/json", "{"),
        ("html", "text/html", "<!doctype html>"),
    ):
        answer = trained.client.get(path, params={"format": name})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(media_type)
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
        assert answer.text.startswith(begins)
    assert trained.client.get(path, params={"format": "exe"}).status_code == 422


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
        ("", {"run_id": "x", "prompt": "y", "stop": "end"}, "stop must be a valid list"),
        ("", {"run_id": "x", "prompt": "y", "steer": {}}, "steer is not a known field"),
        ("/x/branch", {}, "chunk_index is needed"),
        ("/x/branch", {"chunk_index": "2"}, "chunk_index must be a valid integer"),
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
