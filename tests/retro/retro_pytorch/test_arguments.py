"""Unknown and missing arguments of public functions are refused by name."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from retro import RETRODataset, TrainingWrapper
from retro.errors import ConfigError
from retro.retrieval import (
    bert_embed,
    chunks_to_index_and_embed,
    chunks_to_precalculated_knn_,
    text_folder_to_chunks_,
    tokenize,
)

PUBLIC = {
    RETRODataset: ("num_chunk", "num_chunks"),
    TrainingWrapper: ("document_path", "documents_path"),
    bert_embed: ("return_cls_rep", "return_cls_repr"),
    chunks_to_index_and_embed: ("chunks_memmap_path", "chunk_memmap_path"),
    chunks_to_precalculated_knn_: ("num_nearest_neighbours", "num_nearest_neighbors"),
    text_folder_to_chunks_: ("chunks_path", "chunks_memmap_path"),
    tokenize: ("add_special_token", "add_special_tokens"),
}


@pytest.mark.parametrize("function", PUBLIC, ids=lambda function: function.__name__)
def test_an_unknown_argument_is_refused_with_the_nearest_known_one(
    function: Callable[..., Any],
) -> None:
    wrong, meant = PUBLIC[function]

    with pytest.raises(ConfigError) as refused:
        function(**{wrong: 1})

    message = str(refused.value)
    assert f"{function.__name__}() has no argument {wrong!r}" in message
    assert f"Did you mean {meant!r}?" in message


@pytest.mark.parametrize("function", PUBLIC, ids=lambda function: function.__name__)
def test_a_missing_argument_is_refused_with_its_name(function: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"missing a required.*Its arguments are"):
        function()


@pytest.mark.parametrize("function", PUBLIC, ids=lambda function: function.__name__)
def test_help_shows_the_arguments_and_what_they_mean(function: Callable[..., Any]) -> None:
    shown = inspect.signature(function)

    assert PUBLIC[function][1] in shown.parameters
    assert not any(
        parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        for parameter in shown.parameters.values()
    )
    for name in shown.parameters:
        assert name in (function.__doc__ or "")
