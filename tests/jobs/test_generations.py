"""Stored texts."""

import pytest

from jobs.errors import InvalidChangeError, NotFoundError
from jobs.store.rows import GenerationRow
from jobs.store.states import GenerationState, JobState
from jobs.store.store import Store


@pytest.fixture
def generation(store: Store) -> GenerationRow:
    corpus = store.create_corpus("letters", {})
    run = store.create_run("first", corpus.id, {}, 10)
    return store.create_generation(run.id, corpus.id, "Once", {"temperature": 0.5})


def test_chunks_come_back_in_order_by_variant(store: Store, generation: GenerationRow) -> None:
    for index in range(3):
        store.append_chunk(generation.id, {"index": index, "text": "\u00e9\n<b>"}, "on")
    store.append_chunk(generation.id, {"index": 0}, "off")

    found = store.get_generation(generation.id)

    assert [chunk["index"] for chunk in found.chunks["on"]] == [0, 1, 2]
    assert found.chunks["on"][0]["text"] == "\u00e9\n<b>"
    assert found.chunks["off"] == [{"index": 0}]
    assert (found.state, found.run_name) == (GenerationState.RUNNING, "first")


def test_a_finished_generation_never_changes(store: Store, generation: GenerationRow) -> None:
    done = store.finish_generation(generation.id, "succeeded", "", {"text": "upon"})

    again = store.finish_generation(generation.id, "failed", "late")

    assert (done.state, done.result) == (GenerationState.SUCCEEDED, {"text": "upon"})
    assert again == done
    with pytest.raises(InvalidChangeError, match="succeeded"):
        store.append_chunk(generation.id, {"index": 9})


def test_generations_are_listed_newest_first(
    store: Store, generation: GenerationRow, clock
) -> None:
    clock.advance(1)
    newer = store.create_generation(generation.run_id, None, "Twice", {})

    assert [row.id for row in store.list_generations()] == [newer.id, generation.id]
    assert [row.id for row in store.list_generations(limit=1)] == [newer.id]
    assert store.list_generations(run_id="another") == []


def test_a_generation_can_be_asked_to_stop(store: Store, generation: GenerationRow) -> None:
    assert store.request_stop(generation.id).stop_requested
    assert store.get_generation(generation.id).stop_requested


def test_what_a_web_process_left_unfinished_is_ended(
    store: Store, generation: GenerationRow
) -> None:
    done = store.create_generation(generation.run_id, None, "Twice", {})
    store.finish_generation(done.id, "succeeded")

    assert store.interrupt_generations() == 1
    assert store.interrupt_generations() == 0

    assert store.get_generation(generation.id).state is GenerationState.INTERRUPTED
    assert store.get_generation(done.id).state is GenerationState.SUCCEEDED


def test_a_text_outlives_its_run_and_its_corpus(store: Store, generation: GenerationRow) -> None:
    store.append_chunk(generation.id, {"index": 0})

    store.delete_run(generation.run_id)
    store.delete_corpus(generation.corpus_id)

    found = store.get_generation(generation.id)
    assert (found.run_name, found.prompt, found.chunks) == ("first", "Once", {"on": [{"index": 0}]})


def test_a_chunk_put_at_its_place_replaces_what_stands_there(
    store: Store, generation: GenerationRow
) -> None:
    for index in range(2):
        store.append_chunk(generation.id, {"index": index, "text": "half"}, "on:1")

    store.append_chunk(generation.id, {"index": 1, "text": "whole"}, "on:1", position=1)
    store.append_chunk(generation.id, {"index": 2, "text": "next"}, "on:1", position=2)

    texts = [chunk["text"] for chunk in store.get_generation(generation.id).chunks["on:1"]]
    assert texts == ["half", "whole", "next"]


def test_chunks_are_read_in_parts(store: Store, generation: GenerationRow) -> None:
    for index in range(5):
        store.append_chunk(generation.id, {"index": index})
        store.append_chunk(generation.id, {"index": -1}, "off")

    part = store.read_chunks(generation.id, "on", first=1, limit=3)

    assert [chunk["index"] for chunk in part] == [1, 2, 3]
    assert store.read_chunks(generation.id, "on", first=5, limit=3) == []
    assert store.get_generation(generation.id, with_chunks=False).chunks == {}


def test_a_branch_keeps_what_it_took_over_when_its_parent_is_deleted(
    store: Store, generation: GenerationRow
) -> None:
    store.append_chunk(generation.id, {"index": 0, "text": "Once"})
    store.finish_generation(generation.id, "succeeded")
    taken = store.get_generation(generation.id).chunks["on"]

    child = store.create_generation(
        generation.run_id, None, "Once", {}, parent_id=generation.id, branch_index=1,
        chunks={"off": taken},
    )  # fmt: skip
    store.append_chunk(child.id, {"index": 1, "text": "upon"}, "off")
    store.delete_generation(generation.id)

    found = store.get_generation(child.id)
    assert (found.parent_id, found.branch_index) == (generation.id, 1)
    assert [chunk["text"] for chunk in found.chunks["off"]] == ["Once", "upon"]
    with pytest.raises(NotFoundError, match=generation.id):
        store.get_generation(generation.id)
    assert store.read_chunks(generation.id, "on", 0, 9) == []


def test_a_text_that_is_being_written_is_not_deleted(
    store: Store, generation: GenerationRow
) -> None:
    with pytest.raises(InvalidChangeError, match="Stop it first"):
        store.delete_generation(generation.id)

    assert store.get_generation(generation.id).state is GenerationState.RUNNING


def test_an_unknown_generation_is_named(store: Store) -> None:
    for call in (store.get_generation, store.delete_generation, store.request_stop):
        with pytest.raises(NotFoundError, match=r"There is no generation abc\."):
            call("abc")


def test_states_of_generations_are_words_of_jobs() -> None:
    assert {state.value for state in GenerationState} < {state.value for state in JobState}
