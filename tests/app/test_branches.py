"""Texts that go on from others: branches, continuations, and what they take over."""

import json
from typing import Any

import pytest

from app.errors import ChangeRefusedError
from app.services.views.base import plain
from retro.errors import ConfigError, InputError
from tests.app.real_app import Trained
from tests.app.texts import wait

pytestmark = pytest.mark.slow

PROMPT = "the cat sat on a mat and saw dogs run far over green hills by old rivers"
CHUNK = 16

Json = dict[str, Any]


def write(trained: Trained, **changes: Any) -> Json:
    sampling = {"max_new_tokens": 56, "seed": 3, **changes.pop("sampling", {})}
    started = trained.services.generations.start(
        run_id=trained.run_id, prompt=PROMPT, sampling=sampling, **changes
    )
    return wait(trained, started.id)


def branch(trained: Trained, parent: Json, **changes: Any) -> Json:
    started = trained.services.generations.branch(parent["id"], **changes)
    return wait(trained, started.id)


def num_prompt(generation: Json) -> int:
    return sum(chunk["is_prompt"] for chunk in generation["chunks"])


def tokens(chunks: list[Json]) -> list[int]:
    return [token for chunk in chunks for token in chunk["token_ids"]]


def written(generation: Json) -> list[int]:
    return tokens([chunk for chunk in generation["chunks"] if not chunk["is_prompt"]])


@pytest.fixture(scope="module")
def parent(trained: Trained) -> Json:
    generation = write(trained)
    assert generation["state"] == "succeeded"
    assert len(generation["chunks"]) - num_prompt(generation) == 4
    return generation


def test_a_branch_with_the_same_seed_writes_the_same_text(trained: Trained, parent: Json) -> None:
    index = num_prompt(parent) + 1

    child = branch(trained, parent, chunk_index=index, seed=3)

    assert child["text"] == parent["text"]
    assert child["chunks"][:index] == parent["chunks"][:index]
    assert (child["parent_id"], child["branch_index"]) == (parent["id"], index)
    assert child["prompt"] == parent["prompt"]


def test_a_branch_without_any_change_takes_the_next_seed(trained: Trained, parent: Json) -> None:
    index = num_prompt(parent)

    child = branch(trained, parent, chunk_index=index)

    assert child["seed"] == 4
    assert len(written(child)) == len(written(parent))
    assert written(child) != written(parent)


def test_exclusions_add_up_and_only_their_effect_shows(trained: Trained, parent: Json) -> None:
    index = num_prompt(parent)
    first = parent["chunks"][index]["neighbors"][0]

    child = branch(trained, parent, chunk_index=index, exclude_chunks=[first["chunk_id"]])
    second = child["chunks"][index]["neighbors"][0]
    grandchild = branch(trained, child, chunk_index=index, exclude_documents=[second["document"]])

    assert child["seed"] == grandchild["seed"] == parent["seed"]
    assert child["chunks"][:index] == parent["chunks"][:index]
    assert grandchild["settings"]["steering"]["exclude_chunks"] == [first["chunk_id"]]
    read = [item for chunk in grandchild["chunks"][index:] for item in chunk["neighbors"]]
    assert read
    assert first["chunk_id"] not in [item["chunk_id"] for item in read]
    assert second["document"] not in [item["document"] for item in read]


def test_a_chunk_reads_exactly_the_neighbors_given_to_it(trained: Trained, parent: Json) -> None:
    index = num_prompt(parent) + 1
    given = [{"text": "green hills by old rivers"}, {"chunk_id": 2}]

    child = branch(trained, parent, chunk_index=index, neighbors=given)

    assert [item["source"] for item in child["chunks"][index]["neighbors"]] == ["written", "chosen"]
    assert child["chunks"][index]["neighbors"][0]["text"] == given[0]["text"]
    assert child["chunks"][index]["neighbors"][1]["chunk_id"] == 2
    assert {item["source"] for item in child["chunks"][index + 1]["neighbors"]} == {"retrieved"}
    assert child["seed"] == parent["seed"]
    again = branch(trained, child, chunk_index=index)
    assert again["chunks"][index]["neighbors"][0]["source"] == "written"
    assert again["seed"] == parent["seed"] + 1
    later = branch(trained, child, chunk_index=index + 1)
    assert later["settings"]["steering"]["given"] == {}
    assert later["chunks"][index]["neighbors"] == child["chunks"][index]["neighbors"]


def test_what_is_excluded_is_no_longer_given(trained: Trained, parent: Json) -> None:
    index = num_prompt(parent)
    first, second = parent["chunks"][index]["neighbors"][:2]
    given = [
        {"chunk_id": first["chunk_id"], "text": "an edited text"},
        {"chunk_id": second["chunk_id"]},
        {"text": "green hills by old rivers"},
    ]
    child = branch(trained, parent, chunk_index=index, neighbors=given)

    without = branch(trained, child, chunk_index=index, exclude_chunks=[first["chunk_id"]])
    read = without["chunks"][index]["neighbors"]
    assert [one["source"] for one in read] == ["chosen", "written"]
    assert without["seed"] == child["seed"]
    neither = branch(trained, without, chunk_index=index, exclude_documents=[second["document"]])
    assert [one["source"] for one in neither["chunks"][index]["neighbors"]] == ["written"]

    alone = branch(trained, parent, chunk_index=index, neighbors=given[:1])
    again = branch(trained, alone, chunk_index=index, exclude_chunks=[first["chunk_id"]])
    read = again["chunks"][index]["neighbors"]
    assert {one["source"] for one in read} == {"retrieved"}
    assert first["chunk_id"] not in [one["chunk_id"] for one in read]
    nothing = branch(trained, parent, chunk_index=index, neighbors=[])
    still = branch(trained, nothing, chunk_index=index, exclude_chunks=[first["chunk_id"]])
    assert still["chunks"][index]["neighbors"] == []


def test_a_branch_may_switch_retrieval_off_and_on_again(trained: Trained, parent: Json) -> None:
    index = num_prompt(parent) + 1

    off = branch(trained, parent, chunk_index=index, retrieval="off")
    on = branch(trained, off, chunk_index=index, retrieval="on")

    assert off["settings"]["retrieval"] == "off"
    assert off["chunks"][index - 1]["neighbors"]
    assert not any(chunk["neighbors"] for chunk in off["chunks"][index:])
    assert on["text"] == parent["text"]


def test_a_branch_stays_whole_when_its_parent_is_deleted(trained: Trained) -> None:
    parent = write(trained)
    child = branch(trained, parent, chunk_index=num_prompt(parent) + 1, temperature=0.5)

    answer = trained.client.delete(f"/api/v1/generations/{parent['id']}")

    assert answer.status_code == 204
    assert trained.client.get(f"/api/v1/generations/{parent['id']}").status_code == 404
    assert plain(trained.services.generations.get(child["id"])) == child
    assert (child["settings"]["temperature"], child["seed"]) == (0.5, parent["seed"])
    assert branch(trained, child, chunk_index=num_prompt(child))["state"] == "succeeded"


def test_either_side_of_both_can_be_taken_further(trained: Trained) -> None:
    both = write(trained, retrieval="both")
    index = num_prompt(both["on"]) + 2

    on = branch(trained, both, chunk_index=index, seed=3)
    off = branch(trained, both, chunk_index=index, variant="off", seed=3)

    assert on["chunks"][:index] == both["on"]["chunks"][:index]
    assert on["text"] == both["on"]["text"]
    assert off["text"] == both["off"]["text"]
    assert (on["settings"]["retrieval"], off["settings"]["retrieval"]) == ("on", "off")


def test_one_of_several_texts_can_be_taken_further(trained: Trained) -> None:
    several = write(trained, sampling={"num_samples": 3})
    index = num_prompt(several) + 1

    again = branch(trained, several, chunk_index=index, variant="on:1", seed=4)
    other = branch(trained, several, chunk_index=index, variant="on:1")
    more = branch(trained, several, chunk_index=index, variant="on:2", num_samples=2)

    assert again["text"] == several["samples"][1]["text"]
    assert "samples" not in again
    assert other["seed"] == 3 + 3  # the next one that no text has
    assert [sample["seed"] for sample in more["samples"]] == [6, 7]
    for sample in more["samples"]:
        assert sample["chunks"][:index] == several["samples"][2]["chunks"][:index]


def test_continuing_writes_what_a_longer_text_would_have(trained: Trained, parent: Json) -> None:
    short = write(trained, sampling={"max_new_tokens": 21})
    last = len(short["chunks"]) - 1

    longer = wait(
        trained,
        trained.services.generations.continue_text(short["id"], max_new_tokens=35).id,
    )

    assert len(short["chunks"][last]["token_ids"]) == 21 - CHUNK
    assert written(longer) == written(parent)
    assert longer["text"] == parent["text"]
    assert (longer["parent_id"], longer["branch_index"]) == (short["id"], last)
    assert longer["seed"] == short["seed"]
    assert [chunk["index"] for chunk in longer["chunks"]] == list(range(len(parent["chunks"])))


def test_a_text_that_came_to_its_end_is_not_continued(trained: Trained, parent: Json) -> None:
    word = parent["chunks"][num_prompt(parent) + 1]["text"].split()[0]
    ended = write(trained, sampling={"stop": [word]})
    assert ended["result"]["on"]["reason"] == "stop"

    answer = trained.client.post(f"/api/v1/generations/{ended['id']}/continue")

    assert answer.status_code == 409
    assert "stop string" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"chunk_index": 0}, ConfigError, "between 2 and 6, got 0"),
        ({"chunk_index": 7}, ConfigError, "between 2 and 6, got 7"),
        ({"chunk_index": True}, ConfigError, "got True"),
        ({"variant": "off"}, ConfigError, "one of on for"),
        ({"retrieval": "both"}, ConfigError, "'both'"),
        ({"seed": -1}, ConfigError, "seed"),
        ({"max_new_tokens": 0}, ConfigError, "max_new_tokens"),
        ({"top_z": 1}, ConfigError, "'top_z'"),
        ({"exclude_chunks": [10**6]}, InputError, "got 1000000"),
        ({"exclude_documents": ["no.txt"]}, InputError, "'no.txt'"),
        ({"neighbors": [{}]}, ConfigError, "got neither"),
        ({"neighbors": [{"text": "cat " * 200}]}, InputError, "at most 32 tokens"),
        ({"neighbors": [{"chunk_id": 10**6}]}, InputError, "got 1000000"),
    ],
)
def test_a_wrong_branch_is_refused_before_it_has_a_row(
    trained: Trained, parent: Json, changes: Json, error: type[Exception], words: str
) -> None:
    before = len(trained.services.generations.list_generations(500))
    assert (num_prompt(parent), len(parent["chunks"])) == (2, 6)

    with pytest.raises(error, match=words):
        trained.services.generations.branch(parent["id"], **{"chunk_index": 3, **changes})

    assert len(trained.services.generations.list_generations(500)) == before


def test_chunks_of_another_version_of_the_corpus_are_not_excluded(
    trained: Trained, parent: Json
) -> None:
    store = trained.services.store
    old = store.create_generation(
        trained.run_id,
        trained.corpus_id,
        PROMPT,
        {**parent["settings"], "corpus_fingerprint": "0" * 64},
        chunks={"on": parent["chunks"]},
    )
    store.finish_generation(old.id, "succeeded")

    with pytest.raises(ChangeRefusedError, match=r"000000000000.*built again"):
        trained.services.generations.branch(old.id, chunk_index=3, exclude_chunks=[1])

    path = parent["chunks"][3]["neighbors"][0]["document"]
    child = branch(trained, {"id": old.id}, chunk_index=3, exclude_documents=[path])
    assert child["state"] == "succeeded"


def test_a_text_that_lacks_the_tokens_of_its_neighbors_is_not_taken_further(
    trained: Trained, parent: Json
) -> None:
    chunks = json.loads(json.dumps(parent["chunks"]))
    for chunk in chunks:
        for neighbor in chunk["neighbors"]:
            del neighbor["token_ids"]
    store = trained.services.store
    settings = {"retrieval": "on", "seed": 0, "checkpoint_step": 4, "max_new_tokens": 20}
    old = store.create_generation(
        trained.run_id, trained.corpus_id, PROMPT, settings, chunks={"on": chunks}
    )
    store.finish_generation(old.id, "succeeded")

    for path, body in (("branch", {"chunk_index": 3}), ("continue", {})):
        answer = trained.client.post(f"/api/v1/generations/{old.id}/{path}", json=body)
        assert answer.status_code == 409
        assert "Generate it again" in answer.json()["detail"]


def test_a_branch_of_a_text_without_chunks_waits_for_them(trained: Trained) -> None:
    generations = trained.services.generations
    long = {"max_new_tokens": 100_000}
    first = generations.start(run_id=trained.run_id, prompt=PROMPT, sampling=long)
    second = generations.start(run_id=trained.run_id, prompt=PROMPT, sampling=long)

    with pytest.raises(ChangeRefusedError, match="none yet"):
        generations.branch(second.id, chunk_index=3)
    with pytest.raises(ChangeRefusedError, match="being written"):
        generations.continue_text(first.id)

    for generation in (second, first):
        generations.stop(generation.id)
    wait(trained, first.id)


def test_the_stream_of_a_branch_begins_with_what_it_took_over(
    trained: Trained, parent: Json
) -> None:
    index = num_prompt(parent) + 1
    body = {"chunk_index": index, "temperature": 0.4, "stream": True}

    answer = trained.client.post(f"/api/v1/generations/{parent['id']}/branch", json=body)

    blocks = [block.split("\n", 1) for block in answer.text.strip().split("\n\n")]
    events = [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in blocks
    ]
    child = events[-1][1]
    ends = [value for name, value in events if name == "chunk_end"]
    assert [{k: v for k, v in end.items() if k != "variant"} for end in ends] == child["chunks"]
    told = [value["chunk_index"] for name, value in events if name == "token"]
    assert told == [c["index"] for c in child["chunks"][index:] for _ in c["token_ids"]]
    assert len(told) == 40
