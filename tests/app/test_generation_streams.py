"""What is told of a text while it is written, and what comes of it."""

import time

import pytest

from tests.app.real_app import Trained
from tests.app.texts import body, post, read_events, start_long, until_chunks, wait

pytestmark = pytest.mark.slow


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

    with trained.client.stream("GET", f"/api/v1/generations/{started['id']}/events") as answer:
        generations.stop(started["id"])
        told = read_events("".join(answer.iter_text()))
    stopped = wait(trained, started["id"])

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
        if partial and len(partial.segments) > 2:
            seen = partial
    generations.stop(started["id"])
    chunk = wait(trained, started["id"])["chunks"][seen.index]

    shown = [list(piece) for piece in seen.segments]
    if not shown[-1][0]:
        # Half a character, which the stop may have made the end of the text.
        shown = shown[:-1]
    assert chunk["segments"][: len(shown)] == shown
    assert seen.is_prompt is False
    ids = [neighbor["chunk_id"] for neighbor in chunk["neighbors"]]
    assert [neighbor.chunk_id for neighbor in seen.neighbors] == ids
    assert generations.partial(started["id"]) == {}


def test_both_sides_grow_together_and_tell_each_others_tokens(trained: Trained) -> None:
    generations = trained.services.generations
    started = generations.start(
        run_id=trained.run_id,
        prompt=body(trained)["prompt"],
        retrieval="both",
        sampling={"max_new_tokens": 400},
    )

    seen = []
    while (now := generations.get(started.id)).state == "running":
        seen.append((len(now.on.chunks), len(now.off.chunks)))
        time.sleep(0.002)

    # One side may come to its end before the other.
    shorter = min(len(now.on.chunks), len(now.off.chunks))
    steps = [abs(min(on, shorter) - min(off, shorter)) for on, off in seen]
    assert len({pair for pair in seen if 3 < min(pair) < shorter}) > 3
    assert max(steps) <= 1
    for side in (now.on, now.off):
        for chunk in side.chunks:
            assert len(chunk["other_logprobs"]) == len(chunk["token_ids"])
    result = now.result
    assert result["on"]["seconds"] + result["off"]["seconds"] <= result["seconds"]


def test_texts_wait_for_each_other_and_can_be_stopped(trained: Trained) -> None:
    generations = trained.services.generations
    prompt = body(trained)["prompt"]
    long = {"max_new_tokens": 100_000, "seed": 1}
    first = generations.start(run_id=trained.run_id, prompt=prompt, sampling=long)
    second = generations.start(run_id=trained.run_id, prompt=prompt, sampling=long)

    waiting = [generations.waiting_for(second.id)]
    stopped_at_once = generations.stop(second.id)
    while not generations.get(first.id).chunks:
        time.sleep(0.02)
    trained.client.post(f"/api/v1/generations/{first.id}/stop")

    assert waiting == [1]
    assert (stopped_at_once.state, stopped_at_once.message) == ("canceled", "Stopped.")
    stopped = wait(trained, first.id)
    assert stopped["state"] == "canceled"
    assert stopped["chunks"]
    assert wait(trained, second.id)["state"] == "canceled"
    assert generations.partial(first.id) == {}


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
