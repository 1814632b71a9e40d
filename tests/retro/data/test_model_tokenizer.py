"""Tokenizers of pretrained models: text comes back, and spans cover it."""

import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from retro.data.model_tokenizer import ModelTokenizer
from retro.data.tokenizer import open_tokenizer
from retro.errors import ArtifactMismatchError, InputError
from tests.support.small_models import save_model_with_tokenizer

HOSTILE = [
    "",
    " leading and trailing \r\n\t",
    "caf\u00e9 e\u0301 \u4e2d\u6587 \U0001f469\u200d\U0001f680 \u202eabc\u202c",
    "<|end|> <s> </s> \u2581 <0x0A>",
    "\n" * 300 + "x" * 5000,
]


def characters(seed: int, number: int = 400) -> str:
    draw = random.Random(seed)
    ranges = [(9, 127), (9, 127), (128, 0x2FFF), (0x4E00, 0x9FFF), (0x1F300, 0x1F6FF)]
    return "".join(chr(draw.randrange(*draw.choice(ranges))) for _ in range(number))


def test_hostile_text_comes_back_and_every_character_is_covered(tmp_path: Path) -> None:
    tokenizer = ModelTokenizer.load(save_model_with_tokenizer(tmp_path / "model", "bytes"))

    assert tokenizer.is_lossless
    for text in [*HOSTILE, *(characters(seed) for seed in range(20))]:
        ids, spans = tokenizer.encode_with_spans(text)
        assert tokenizer.decode(ids.tolist()) == text
        assert tokenizer.encode(text) == ids.tolist()
        assert b"".join(tokenizer.token_bytes(id) for id in ids) == text.encode()
        covered = {place for first, end in spans for place in range(first, end)}
        assert covered == set(range(len(text)))
        assert (spans[1:, 0] >= spans[:-1, 0]).all()


def test_special_tokens_are_text_and_say_nothing(tmp_path: Path) -> None:
    tokenizer = ModelTokenizer.load(save_model_with_tokenizer(tmp_path / "model", "bytes"))

    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, 2, -1)
    assert not {1, 2} & set(tokenizer.encode("<s> and <|end|>"))
    assert tokenizer.decode([1, *tokenizer.encode("a"), 2]) == "a"


def test_a_tokenizer_that_changes_text_says_so_and_keeps_spans(tmp_path: Path) -> None:
    tokenizer = ModelTokenizer.load(save_model_with_tokenizer(tmp_path / "model", "composed"))

    text = "cafe\u0301 and more"
    ids, spans = tokenizer.encode_with_spans(text)

    assert not tokenizer.is_lossless
    assert tokenizer.decode(ids.tolist()) == "caf\u00e9 and more"
    assert (spans[0, 0], spans[-1, 1]) == (0, len(text))


def test_vocabularies_that_mark_the_beginning_of_words(tmp_path: Path) -> None:
    tokenizer = ModelTokenizer.load(save_model_with_tokenizer(tmp_path / "model", "word start"))

    for text in ("The capital of Arland is  Belm.", "a\nb", "\u4e2d\u6587"):
        ids, spans = tokenizer.encode_with_spans(text)
        assert tokenizer.decode(ids.tolist()) == text
        assert (spans[0, 0], spans[-1, 1]) == (0, len(text))


def test_what_was_saved_is_the_same_tokenizer(tmp_path: Path) -> None:
    tokenizer = ModelTokenizer.load(save_model_with_tokenizer(tmp_path / "model", "bytes"))
    (tmp_path / "kept").mkdir()

    tokenizer.save(tmp_path / "kept")
    again = open_tokenizer(tmp_path / "kept")

    assert isinstance(again, ModelTokenizer)
    assert (again.fingerprint, again.eos_id) == (tokenizer.fingerprint, tokenizer.eos_id)
    assert again.encode("Arland") == tokenizer.encode("Arland")


def test_half_a_surrogate_pair_and_unknown_kinds_are_refused(tmp_path: Path) -> None:
    folder = save_model_with_tokenizer(tmp_path / "model", "bytes")
    with pytest.raises(InputError, match="surrogate"):
        ModelTokenizer.load(folder).encode("\ud800")
    words = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    words.save(str(folder / "tokenizer.json"))

    with pytest.raises(ArtifactMismatchError, match="whose tokens are parts of a text"):
        ModelTokenizer.load(folder)
