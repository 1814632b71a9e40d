"""One function embeds database and queries, and a key does not depend on its batch."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import BertConfig, BertModel, BertTokenizer

from retro.config.training import Precision
from retro.data.byte_level import ByteLevelTokenizer
from retro.data.samples import sample_documents
from retro.errors import ArtifactMismatchError, ArtifactMissingError
from retro.retrieval.embedder import ChunkEmbedder, TextEncoder
from retro.retrieval.encoder_files import encoder_fingerprint, find_encoder

CPU = torch.device("cpu")
BFLOAT16_NOISE = 1e-3
"""Squared distance; different sentences are some tenths apart."""


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder.open(None, CPU)


@pytest.fixture(scope="module")
def tokenizer() -> ByteLevelTokenizer:
    texts = [document.text for document in sample_documents("python-docs")]
    return ByteLevelTokenizer.train(texts[:20], 1000)


def squared_distances(a: object, b: object) -> np.ndarray:
    return np.square(np.asarray(a) - np.asarray(b)).sum(-1)


def test_similar_texts_are_near(encoder: TextEncoder) -> None:
    cat, kitten, tax = encoder.encode(
        ["A cat sleeps.", "The kitten is asleep.", "Income tax law of 1913."]
    )

    assert encoder.width == len(cat) == 384
    assert squared_distances(cat, kitten) < 0.8 < 1.2 < squared_distances(cat, tax)


def test_vectors_have_unit_length_where_the_encoder_says_so(encoder: TextEncoder) -> None:
    vectors = encoder.encode(["one", "two words", "x " * 5000])

    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_a_key_does_not_depend_on_its_batch(encoder: TextEncoder) -> None:
    text = "".join(document.text for document in sample_documents("python-docs"))
    texts = [text[start : start + 20 + start // 10 % 300] for start in range(0, 40_000, 1000)]
    together = encoder.encode(texts)

    alone = np.concatenate([encoder.encode([text]) for text in texts])
    backwards = encoder.encode(texts[::-1])[::-1]

    assert squared_distances(together, alone).max() < 1e-6
    assert squared_distances(together, backwards).max() < 1e-6
    # Within rounding, the vector is the one of float32.
    exact = TextEncoder.open(None, CPU, Precision.FLOAT32).encode(texts)
    assert squared_distances(together, exact).max() < BFLOAT16_NOISE
    between = squared_distances(exact[:, None], exact[None])
    assert between[~np.eye(len(texts), dtype=bool)].min() > BFLOAT16_NOISE


def test_the_mean_is_over_real_tokens_only(encoder: TextEncoder) -> None:
    short, long = "word", "many more words than the other text has " * 10

    alone = encoder.encode([short])
    rows = encoder._tokenizer([short, long])["input_ids"]
    width = max(len(ids) for ids in rows)
    ids_NT = np.array([[*ids, *[0] * (width - len(ids))] for ids in rows])
    exists_NT = np.arange(width) < np.array([[len(ids)] for ids in rows])
    padded = encoder._encode_batch(ids_NT, exists_NT, encoder._pool)[:1]

    assert squared_distances(alone, padded).max() < BFLOAT16_NOISE


def test_nothing_readable_still_has_a_key(
    encoder: TextEncoder, tokenizer: ByteLevelTokenizer
) -> None:
    embedder = ChunkEmbedder(encoder, tokenizer)
    texts = ["    \n\n\t", "\0\x01\x02", "\u202e\u200b", "\ufffd", ""]
    chunks_NM = np.zeros((len(texts), 16), np.int32)
    for row, text in enumerate(texts):
        ids = tokenizer.encode(text)[:16]
        chunks_NM[row, : len(ids)] = ids

    keys_NZ = embedder.embed(chunks_NM)

    assert np.isfinite(keys_NZ).all()
    np.testing.assert_allclose(np.linalg.norm(keys_NZ, axis=1), 1, rtol=1e-5)


def test_no_texts_have_no_keys(encoder: TextEncoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


def test_padding_and_cut_characters_change_no_key(
    encoder: TextEncoder, tokenizer: ByteLevelTokenizer
) -> None:
    embedder = ChunkEmbedder(encoder, tokenizer)
    ids = tokenizer.encode("words about lists")
    half = tokenizer.encode("\U0001f600")[:1]

    plain = embedder.embed(np.array([ids], np.int32))
    padded = embedder.embed(np.array([ids + [tokenizer.pad_id] * 5], np.int32))
    cut = embedder.embed(np.array([ids + half], np.int32))

    np.testing.assert_array_equal(plain, padded)
    np.testing.assert_array_equal(plain, cut)


def test_an_encoder_never_sees_half_a_character(tokenizer: ByteLevelTokenizer) -> None:
    class ListeningEncoder(TextEncoder):
        """Keeps what it is given."""

        def __init__(self) -> None:
            self.width, self.fingerprint = 2, "listening"
            self.heard: list[str] = []

        def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
            self.heard += texts
            return np.ones((len(texts), 2), np.float32)

    encoder = ListeningEncoder()
    ids = tokenizer.encode("\U0001f600 words \U0001f600")

    ChunkEmbedder(encoder, tokenizer).embed(np.array([ids[1:-1]], np.int32))

    assert encoder.heard == [" words "]


def test_another_tokenizer_is_another_embedder(
    encoder: TextEncoder, tokenizer: ByteLevelTokenizer
) -> None:
    other = ByteLevelTokenizer.train(["text"], 300)

    prints = {ChunkEmbedder(encoder, each).fingerprint for each in (tokenizer, other, tokenizer)}

    assert len(prints) == 2


def local_encoder(folder: Path, **settings: object) -> Path:
    """Write a random BERT of three letters, without sentence-encoder files."""
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b"]))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=6, hidden_size=12, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=20, **settings,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def test_any_local_folder_works(tmp_path: Path) -> None:
    folder = local_encoder(tmp_path / "bert")

    encoder = TextEncoder.open(str(folder), CPU, Precision.FLOAT32)

    vectors = encoder.encode(["a", "b", "a b " * 100])
    assert vectors.shape == (3, 12)
    # Without modules.json, nothing asks for unit length.
    assert abs(np.linalg.norm(vectors[0]) - 1) > 0.1
    assert encoder.fingerprint == encoder_fingerprint(folder)


def test_pooling_follows_the_sentence_encoder(tmp_path: Path) -> None:
    folder = local_encoder(tmp_path / "bert")
    mean = TextEncoder.open(str(folder), CPU).encode(["a b"])
    modules = [{"path": "1_Pooling", "type": "x.Pooling"}, {"path": "", "type": "x.Normalize"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')

    first = TextEncoder.open(str(folder), CPU).encode(["a b"])

    assert np.linalg.norm(first) == pytest.approx(1, rel=1e-5)
    assert squared_distances(first, mean / np.linalg.norm(mean)).max() > BFLOAT16_NOISE


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    folder = local_encoder(tmp_path / "bert")
    before = encoder_fingerprint(folder)
    copy = shutil.copytree(folder, tmp_path / "copy")

    (folder / "vocab.txt").write_text("changed")

    assert encoder_fingerprint(copy) == before
    assert encoder_fingerprint(folder) != before


def test_an_encoder_that_cannot_be_had_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    for name in ("nobody/has-this", "not a name!", "bert-base-nowhere"):
        with pytest.raises(ArtifactMissingError, match=f"{name}.*bundled all-MiniLM-L6-v2"):
            find_encoder(name)


def test_a_folder_that_is_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMismatchError, match=r"cannot be used .*bundled all-MiniLM-L6-v2"):
        TextEncoder.open(str(tmp_path), CPU)
    folder = local_encoder(tmp_path / "bert")
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ArtifactMismatchError, match="cannot be used"):
        TextEncoder.open(str(folder), CPU)


def test_an_encoder_that_gives_nan_is_refused(tmp_path: Path) -> None:
    encoder = TextEncoder.open(str(local_encoder(tmp_path / "bert")), CPU)
    for parameter in encoder._model.parameters():
        parameter.data.fill_(float("nan"))

    with pytest.raises(ArtifactMismatchError, match="gave 1 of 1 keys that are zero or not finite"):
        encoder.encode(["a"])
