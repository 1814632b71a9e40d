"""The tokenizer loses nothing."""

import time
from pathlib import Path

import numpy as np
import pytest

from retro.data import byte_level as module
from retro.data.byte_level import END_ID, PAD_ID, SPECIAL_TOKENS, ByteLevelTokenizer, split_text
from retro.data.samples import sample_documents
from retro.data.tokenizer import choose_vocab_size
from retro.errors import ArtifactMismatchError, ArtifactMissingError, ConfigError, InputError

HARD_TEXTS = [
    "",
    " ",
    "\r\n\t  \n\n x ",
    "no text end of text <pad> <|endoftext|> [SEP]",
    "caf\u00e9 \u4e2d\u6587 \U0001f600 e\u0301 \u202eabc\u202c \ufeff \u00a0\u2028",
    "".join(chr(code) for code in range(0x250)),
    "\0\x01\x7f\x85",
    "\U0010ffff\uffff\ufffd",
]


@pytest.fixture(scope="module")
def tokenizer() -> ByteLevelTokenizer:
    texts = (document.text for document in sample_documents("python-docs"))
    return ByteLevelTokenizer.train(texts, 600)


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_text_comes_back_exactly(tokenizer: ByteLevelTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)

    assert tokenizer.decode(ids) == text
    assert b"".join(tokenizer.token_bytes(id) for id in ids) == text.encode()
    assert not {PAD_ID, END_ID} & set(ids)


def test_random_unicode_comes_back_exactly(tokenizer: ByteLevelTokenizer) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        codes = rng.integers(0x110000, size=30)
        text = "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_no_merge_can_produce_a_special_token() -> None:
    texts = [" ".join(SPECIAL_TOKENS) * 500, "no text", "end of text"]
    tokenizer = ByteLevelTokenizer.train(texts, 400)

    for text in texts:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert not {PAD_ID, END_ID} & set(ids)


def test_special_tokens_have_no_text(tokenizer: ByteLevelTokenizer) -> None:
    ids = tokenizer.encode("word")

    assert tokenizer.decode([PAD_ID, *ids, END_ID, PAD_ID]) == "word"


def test_half_a_character_becomes_a_replacement(tokenizer: ByteLevelTokenizer) -> None:
    ids = tokenizer.encode("\U0001f600")

    assert len(ids) > 1
    assert "\ufffd" in tokenizer.decode(ids[:1])


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_spans_cover_the_text_in_order(tokenizer: ByteLevelTokenizer, text: str) -> None:
    ids, spans = tokenizer.encode_with_spans(text)

    assert ids.tolist() == tokenizer.encode(text)
    assert spans.shape == (len(ids), 2)
    for id, (start, end) in zip(ids.tolist(), spans.tolist(), strict=True):
        assert tokenizer.token_bytes(id) in text[start:end].encode()
    if text:
        assert spans[0, 0] == 0
        assert spans[-1, 1] == len(text)
        assert (np.diff(spans[:, 0]) >= 0).all()


@pytest.mark.parametrize("size", [1, 7, 100])
def test_pieces_change_no_token(tokenizer: ByteLevelTokenizer, size: int) -> None:
    text = next(sample_documents("python-docs")).text[:3000] + "\n\n\n  x  \n y\u00a0 z"

    pieces = list(split_text(text, size))

    assert len(pieces) > 1
    assert "".join(pieces) == text
    natural = [piece for piece in pieces if len(piece) < 2 * size]
    assert natural or size == 1
    if size >= 100:
        ids = [id for piece in pieces for id in tokenizer.encode(piece)]
        assert ids == tokenizer.encode(text)


def test_spans_go_on_across_pieces(
    tokenizer: ByteLevelTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "caf\u00e9 \U0001f600 words and words\n" * 20
    whole_ids, whole_spans = tokenizer.encode_with_spans(text)
    monkeypatch.setattr(module, "PIECE_CHARACTERS", 50)

    ids, spans = tokenizer.encode_with_spans(text)

    assert np.array_equal(ids, whole_ids)
    assert np.array_equal(spans, whole_spans)


@pytest.mark.slow
@pytest.mark.parametrize("line", ["a", "\u4e2d", " ", "ab1 "])
def test_a_line_of_a_million_characters_is_no_trouble(line: str) -> None:
    text = (line * 1_000_000)[:1_000_000]
    began = time.monotonic()

    tokenizer = ByteLevelTokenizer.train([text], 1000)
    assert tokenizer.decode(tokenizer.encode(text)) == text

    assert time.monotonic() - began < 30


def test_lone_surrogates_are_refused(tokenizer: ByteLevelTokenizer) -> None:
    with pytest.raises(InputError, match=r"'\\ud800' at character 2"):
        tokenizer.encode("ab\ud800")


def test_training_twice_gives_the_same_tokenizer() -> None:
    texts = [document.text for document in sample_documents("python-docs")][:10]

    first, second = (ByteLevelTokenizer.train(texts, 500) for _ in range(2))

    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != ByteLevelTokenizer.train(texts, 501).fingerprint


def test_saving_and_loading_changes_nothing(tokenizer: ByteLevelTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)

    loaded = ByteLevelTokenizer.load(tmp_path)

    assert (loaded.fingerprint, loaded.vocab_size) == (tokenizer.fingerprint, 600)
    assert [loaded.encode(text) for text in HARD_TEXTS] == [
        tokenizer.encode(text) for text in HARD_TEXTS
    ]


def test_files_that_are_no_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissingError, match=r"no tokenizer\.json"):
        ByteLevelTokenizer.load(tmp_path)
    for content in (
        "{",
        "",
        '{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}',
    ):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(ArtifactMismatchError, match=r"tokenizer\.json is damaged"):
            ByteLevelTokenizer.load(tmp_path)


def test_a_vocabulary_must_hold_every_byte() -> None:
    with pytest.raises(ConfigError, match="at least 258, got 257"):
        ByteLevelTokenizer.train(["text"], 257)
    assert ByteLevelTokenizer.train([], 258).vocab_size == 258


def test_larger_corpora_have_larger_vocabularies() -> None:
    sizes = [choose_vocab_size(10**power) for power in range(1, 12)]

    assert sizes == sorted(sizes)
    assert choose_vocab_size(466_117) == 2048
    assert choose_vocab_size(1_791_857) == 4096
