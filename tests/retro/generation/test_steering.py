"""Steering is checked before any work starts, and survives JSON."""

import json
from typing import Any

import pytest

from retro.errors import ConfigError, RetroError
from retro.generation.steering import (
    NO_STEERING,
    GivenNeighbor,
    Steering,
    steering_from_dict,
    steering_to_dict,
)


def test_steering_survives_json() -> None:
    steering = Steering(
        exclude_chunks=(3, 17),
        exclude_documents=("a/b.txt",),
        given={
            4: (GivenNeighbor(chunk_id=5), GivenNeighbor(text="x", continuation="y")),
            2: (),
        },
    )

    stored = json.loads(json.dumps(steering_to_dict(steering)))

    assert steering_from_dict(stored) == steering
    assert steering_from_dict({}) == NO_STEERING


def test_what_is_excluded_twice_counts_once() -> None:
    steering = steering_from_dict(
        {"exclude_chunks": [3, 3, 1], "exclude_documents": ["b", "a", "b"]}
    )

    assert (steering.exclude_chunks, steering.exclude_documents) == ((3, 1), ("b", "a"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"exclude": [1]}, "steering has no setting 'exclude'"),
        ({"exclude_chunks": 3}, "exclude_chunks must be a list, got 3"),
        ({"exclude_chunks": [-1]}, "whole number from 0 on, got -1"),
        ({"exclude_chunks": [True]}, "got True"),
        ({"exclude_chunks": [2**63]}, "got 9223372036854775808"),
        ({"exclude_chunks": [[1]]}, "list of plain values"),
        ({"exclude_chunks": list(range(1001))}, "at most 1,000 entries, got 1,001"),
        ({"exclude_documents": [3]}, "path of a document, got 3"),
        ({"given": [1]}, "given must map positions"),
        ({"given": {"x": []}}, "position of given must be a whole number from 0 on, got 'x'"),
        ({"given": {"-1": []}}, "got '-1'"),
        ({"given": {"1": "text"}}, "must be a list, got 'text'"),
        ({"given": {"1": ["text"]}}, "has chunk_id, text, continuation, got 'text'"),
        ({"given": {"1": [{"test": "a"}]}}, "has chunk_id, text, continuation, got {'test'"),
        ({"given": {"1": [{}]}}, "needs a chunk_id or a text, got neither"),
        ({"given": {"1": [{"text": ""}]}}, "at least one character, got an empty text"),
        ({"given": {"1": [{"text": 3}]}}, "at most 20,000 characters, got 3"),
        ({"given": {"1": [{"text": "a" * 20_001}]}}, "at most 20,000 characters, got 'aaa"),
        ({"given": {"1": [{"text": "\ud800"}]}}, "surrogate"),
        ({"given": {"1": [{"chunk_id": 1.5}]}}, r"got 1\.5"),
        ({"given": {"1": [{"chunk_id": 1, "continuation": "a"}]}}, "needs a text by hand"),
        ({"given": {"1": [{"chunk_id": 1}] * 101}}, "at most 100 neighbors, got 101"),
    ],
)
def test_wrong_values_are_refused_with_the_value(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RetroError, match=message) as caught:
        steering_from_dict(values)

    assert len(str(caught.value)) < 400


def test_a_chunk_by_itself_and_a_text_by_itself_are_enough() -> None:
    assert GivenNeighbor(chunk_id=0).text is None
    assert GivenNeighbor(text="a").chunk_id is None
    assert GivenNeighbor(text="", continuation="a").continuation == "a"
    with pytest.raises(ConfigError, match="got neither"):
        GivenNeighbor()
