"""Text that grows: characters of several tokens, and stop strings."""

import random

import pytest

from retro.generation.text import StopWatch, TokenDecoder, pieces
from tests.fakes import ByteTokenizer


@pytest.mark.parametrize("text", ["", "plain", "Zażółć 🙂", "\ufeff\0"])
def test_pieces_are_the_whole_text(text: str) -> None:
    tokenizer = ByteTokenizer()
    tokens = tokenizer.encode(text)

    found = pieces(tokens, tokenizer)

    assert len(found) == len(tokens)
    assert "".join(found) == text


def test_pieces_show_a_character_that_was_cut() -> None:
    tokenizer = ByteTokenizer()

    found = pieces(tokenizer.encode("a🙂")[:-1], tokenizer)

    assert found == ["a", "", "", "\N{REPLACEMENT CHARACTER}"]


def test_a_character_appears_with_its_last_byte() -> None:
    tokenizer = ByteTokenizer()
    decoder = TokenDecoder(tokenizer)

    assert [decoder.add(token) for token in tokenizer.encode("a🙂b")] == [
        "a",
        "",
        "",
        "",
        "🙂",
        "b",
    ]
    decoder.add(tokenizer.encode("🙂")[0])
    assert decoder.finish() == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("seed", range(200))
def test_a_stop_string_is_found_where_it_first_begins(seed: int) -> None:
    rng = random.Random(seed)
    text = "".join(rng.choice("ab") for _ in range(60))
    stops = ["".join(rng.choice("ab") for _ in range(rng.randint(2, 9))) for _ in range(3)]
    watch = StopWatch(stops)
    fed, told = "", 0
    while len(fed) < len(text) and watch.found_at is None:
        piece = text[len(fed) : len(fed) + rng.randint(1, 4)]
        fed += piece
        watch.add(piece)
        assert watch.length == len(fed)
        # What was called safe stays safe.
        assert watch.safe_length() >= told or watch.found_at is not None
        assert watch.found_at is None or watch.found_at >= told
        if watch.found_at is None:
            told = watch.safe_length()
    places = [fed.find(stop) for stop in stops if stop in fed]
    assert watch.found_at == (min(places) if places else None)


@pytest.mark.parametrize(
    ("text", "safe"), [("abc", 3), ("abcS", 3), ("abcST", 3), ("abcSS", 4), ("abcSTx", 6)]
)
def test_only_the_beginning_of_a_stop_string_is_held_back(text: str, safe: int) -> None:
    watch = StopWatch(["STOP"])
    watch.add(text)

    assert watch.safe_length() == safe


def test_without_stop_strings_everything_is_safe() -> None:
    watch = StopWatch([])
    watch.add("abc")

    assert (watch.safe_length(), watch.found_at, watch.is_watching) == (3, None, False)
