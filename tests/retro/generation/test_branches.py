"""Text that is taken up again goes on as if it had never been left."""

import json
from typing import Any

import numpy as np
import pytest

from retro.errors import InputError
from retro.generation.generate import Generator
from retro.generation.prefix import Prefix
from retro.generation.steering import GivenNeighbor, Steering
from tests.retro.generation.conftest import PROMPT, Sample, write

pytestmark = pytest.mark.slow


def as_stored(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(json.dumps(chunks))
    return found


def assert_same_chunks(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in ("index", "text", "token_ids", "segments", "runs", "is_prompt"):
            assert one[name] == other[name], name
        for values in ("logprobs", "other_logprobs"):
            assert one[values] == pytest.approx(other[values], abs=1e-4), values
        for name in ("attention_share", "continuation_share"):
            shares = [[item[name] for item in chunk["neighbors"]] for chunk in (one, other)]
            assert shares[0] == pytest.approx(shares[1], abs=1e-4), name
        ids = [[item["chunk_id"] for item in chunk["neighbors"]] for chunk in (one, other)]
        assert ids[0] == ids[1]


@pytest.mark.parametrize("retrieval", [True, False])
@pytest.mark.parametrize("first_part", [1, 7, 11, 19, 50])
def test_continuing_gives_what_a_longer_text_would_have_been(
    generator: Generator, first_part: int, retrieval: bool
) -> None:
    options: dict[str, Any] = {"retrieval": retrieval, "score_other": True}
    whole = write(generator, max_new_tokens=70, **options)
    begun = write(generator, max_new_tokens=first_part, **options)

    chunks = as_stored(begun.stored)
    more = write(generator, Prefix.from_chunks(chunks), max_new_tokens=70 - first_part, **options)

    assert begun.ids + more.ids == whole.ids
    first_new = more.chunks[0].chunk.index
    assert_same_chunks(as_stored(begun.stored[:first_new] + more.stored), as_stored(whole.stored))
    assert whole.finish is not None
    assert whole.finish.slid, "the window never moved, so this proves less"
    assert more.finish is not None
    assert more.finish.num_tokens == 70 - first_part
    # What is told first was compared with nothing yet.
    for one, other in zip(more.starts, whole.starts[first_new:], strict=True):
        assert [item.token_ids for item in one.neighbors] == [
            item.token_ids for item in other.neighbors
        ]
        pieces = [piece for item in one.neighbors for piece in item.text_segments]
        assert {run for _, run in pieces} <= {0}


@pytest.mark.parametrize("index", [1, 3, 5])
def test_a_branch_with_nothing_changed_is_the_same_text(generator: Generator, index: int) -> None:
    whole = write(generator, max_new_tokens=40)
    left = sum(len(event.chunk.token_ids) for event in whole.chunks if event.chunk.index >= index)

    branch = write(generator, Prefix.from_chunks(whole.stored[:index]), max_new_tokens=left)

    assert branch.chunks[0].chunk.index == index
    assert_same_chunks(branch.stored, whole.stored[index:])


def test_a_branch_without_a_neighbor_differs_only_from_there_on(generator: Generator) -> None:
    whole = write(generator, max_new_tokens=40)
    left_out = whole.chunks[4].chunk.neighbors[0]
    assert left_out.chunk_id is not None

    branch = write(
        generator,
        Prefix.from_chunks(whole.stored[:4]),
        max_new_tokens=24,
        steering=Steering(exclude_chunks=(left_out.chunk_id,)),
    )

    seen = [one for event in branch.chunks for one in event.chunk.neighbors]
    assert len(seen) >= 4
    # Neither as a neighbor nor as the continuation of the chunk before it.
    assert {one.chunk_id for one in seen}.isdisjoint({left_out.chunk_id, left_out.chunk_id - 1})
    second = whole.chunks[4].chunk.neighbors[1].chunk_id
    if second != left_out.chunk_id - 1:
        assert branch.chunks[0].chunk.neighbors[0].chunk_id == second
    assert branch.tokens[0].logprob != whole.chunks[4].chunk.logprobs[0]


def test_all_excluded_chunks_are_left_out(generator: Generator) -> None:
    whole = write(generator, max_new_tokens=40)
    ids = [one.chunk_id for one in whole.chunks[4].chunk.neighbors]
    assert len(ids) == 2

    branch = write(
        generator,
        Prefix.from_chunks(whole.stored[:4]),
        max_new_tokens=3,
        steering=Steering(exclude_chunks=tuple(id for id in ids if id is not None)),
    )

    found = [one.chunk_id for one in branch.chunks[0].chunk.neighbors]
    assert len(found) == 2
    assert set(found).isdisjoint(ids)


def test_an_excluded_document_is_never_read(generator: Generator) -> None:
    free = write(generator, max_new_tokens=40)
    documents = {one.document for event in free.chunks for one in event.chunk.neighbors}
    banned = sorted(documents)[0]

    steered = write(generator, max_new_tokens=40, steering=Steering(exclude_documents=(banned,)))

    seen = {one.document for event in steered.chunks for one in event.chunk.neighbors}
    assert banned not in seen
    assert seen


@pytest.mark.parametrize(
    ("steering", "message"),
    [
        (
            Steering(exclude_documents=("no/such.txt",)),
            "name documents of the corpus, got 'no/such",
        ),
        (Steering(exclude_chunks=(10**6,)), r"between 0 and \d+, got 1000000"),
    ],
)
def test_leaving_out_what_is_not_there_is_refused(
    generator: Generator, steering: Steering, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write(generator, steering=steering)


def test_given_neighbors_are_what_the_chunk_reads(generator: Generator) -> None:
    whole = write(generator, max_new_tokens=24)
    found = whole.chunks[2].chunk.neighbors
    assert found[1].chunk_id is not None
    given = (
        GivenNeighbor(chunk_id=found[1].chunk_id),
        GivenNeighbor(chunk_id=found[0].chunk_id, text="The main export"),
        GivenNeighbor(text="Capital: Bergen", continuation=" is a town"),
    )

    branch = write(
        generator,
        Prefix.from_chunks(whole.stored[:2]),
        max_new_tokens=16,
        steering=Steering(given={2: given}),
    )

    read = branch.chunks[0].chunk.neighbors
    assert [one.source for one in read] == ["chosen", "edited", "written"]
    assert [one.rank for one in read] == [1, 2, 3]
    assert (read[0].text, read[0].continuation) == (found[1].text, found[1].continuation)
    assert (read[1].text, read[1].document) == ("The main export", found[0].document)
    assert (read[2].chunk_id, read[2].document, read[2].start) == (None, "", None)
    assert read[2].text + read[2].continuation == "Capital: Bergen is a town"
    assert [one.distance for one in read] == [None] * 3
    assert generator.tokenizer.decode(read[2].token_ids) == "Capital: Bergen"
    assert branch.tokens[0].logprob != whole.chunks[2].chunk.logprobs[0]
    # The next chunk is found by the retriever again.
    assert {one.source for one in branch.chunks[1].chunk.neighbors} == {"retrieved"}


def test_a_long_given_text_goes_on_as_its_continuation(generator: Generator) -> None:
    text = "Zdravo, Belgium?"
    num_tokens = len(generator.tokenizer.encode(text))
    assert 8 < num_tokens <= 16, "the text must need both places"

    written = write(
        generator, max_new_tokens=4, steering=Steering(given={1: (GivenNeighbor(text=text),)})
    )

    shown = next(event.chunk for event in written.chunks if event.chunk.index == 1).neighbors[0]
    assert len(shown.token_ids) == 8
    assert shown.text + shown.continuation == text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (GivenNeighbor(chunk_id=10**6), r"between 0 and \d+, got 1000000"),
        (GivenNeighbor(text="abcdefghijklmnopqrstuvwxyz"), "at most 8 tokens, the model's chunk"),
        (GivenNeighbor(text="a", continuation="abcdefghijklmnop"), "continuation of a neighbor"),
        (GivenNeighbor(text="abcdefghijklmnop", continuation="a"), "The text of a neighbor"),
    ],
)
def test_given_neighbors_that_do_not_fit_are_refused(
    generator: Generator, given: GivenNeighbor, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write(generator, steering=Steering(given={1: (given,)}))


def test_the_id_after_the_last_chunk_is_refused(generator: Generator) -> None:
    assert generator.corpus is not None
    end = generator.corpus.database.num_chunks

    with pytest.raises(InputError, match=f"between 0 and {end - 1}, got {end}"):
        write(generator, steering=Steering(given={1: (GivenNeighbor(chunk_id=end),)}))


def test_no_given_neighbors_mean_none_are_read(generator: Generator) -> None:
    written = write(generator, "Capital:", max_new_tokens=12, steering=Steering(given={1: ()}))
    off = write(generator, "Capital:", max_new_tokens=8, retrieval=False)

    assert written.starts[1].neighbors == []
    assert written.ids[:8] == off.ids
    assert written.chunks[2].chunk.neighbors


@pytest.mark.parametrize("first_part", [16, 13])
def test_a_text_without_neighbors_can_be_continued_with_them(
    generator: Generator, first_part: int
) -> None:
    off = write(generator, max_new_tokens=first_part, retrieval=False)

    on = write(generator, Prefix.from_chunks(off.stored), max_new_tokens=8)

    neighbors = on.chunks[0].chunk.neighbors
    assert neighbors
    # The tokens from before read none; the share is that of the others.
    assert sum(one.attention_share or 0 for one in neighbors) == pytest.approx(1, abs=1e-5)


def test_a_text_with_neighbors_can_be_continued_without_them(generator: Generator) -> None:
    on = write(generator, max_new_tokens=13)

    off = write(generator, Prefix.from_chunks(on.stored), max_new_tokens=8, retrieval=False)

    assert len(off.ids) == 8
    assert all(event.chunk.neighbors == [] for event in off.chunks)


def test_a_chunk_that_was_given_no_neighbors_goes_on_without_any(generator: Generator) -> None:
    begun = write(generator, "Capital:", max_new_tokens=13, steering=Steering(given={2: ()}))
    assert begun.chunks[1].chunk.neighbors

    more = write(generator, Prefix.from_chunks(begun.stored), max_new_tokens=8)

    assert more.starts[0].neighbors == []
    assert more.starts[1].neighbors


def test_a_chosen_chunk_at_the_end_of_a_document_brings_its_own_tokens_alone(
    generator: Generator,
) -> None:
    assert generator.corpus is not None
    database = generator.corpus.database
    ids = np.arange(database.num_retrievable)
    is_short = (database.chunks_CM[ids] == generator.tokenizer.pad_id).any(1)
    last = int(ids[is_short & (database.continuation_ids(ids) < 0)][0])

    written = write(
        generator,
        max_new_tokens=9,
        steering=Steering(given={2: (GivenNeighbor(chunk_id=last),)}),
    )

    shown = next(event.chunk for event in written.chunks if event.chunk.index == 2).neighbors[0]
    row = database.chunks_CM[last].tolist()
    assert shown.token_ids == [token for token in row if token != generator.tokenizer.pad_id]
    assert shown.continuation_token_ids == []
    assert (shown.chunk_id, shown.continuation) == (last, "")
    assert "".join(piece for piece, _ in shown.text_segments) == shown.text


@pytest.mark.parametrize("kept", [[], [1, 2], [0, 2]])
def test_a_prefix_with_a_gap_is_refused(generator: Generator, kept: list[int]) -> None:
    chunks = write(generator, max_new_tokens=16).stored

    with pytest.raises(InputError, match="at least one chunk, counted from 0 without a gap"):
        Prefix.from_chunks([chunks[index] for index in kept])


def test_chunks_of_an_older_version_are_refused_with_the_reason(generator: Generator) -> None:
    chunks = write(generator, max_new_tokens=16).stored
    for neighbor in chunks[1]["neighbors"]:
        del neighbor["token_ids"]

    with pytest.raises(InputError, match="written before they were kept"):
        Prefix.from_chunks(chunks)


def test_prompts_inside_a_chunk_and_of_several_chunks(generator: Generator) -> None:
    for prompt in ("A", PROMPT * 2):
        whole: Sample = write(generator, prompt, max_new_tokens=20)
        begun: Sample = write(generator, prompt, max_new_tokens=5)

        more = write(generator, Prefix.from_chunks(begun.stored), max_new_tokens=15)

        assert begun.ids + more.ids == whole.ids
