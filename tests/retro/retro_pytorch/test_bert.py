"""Tokens and vectors are those of transformers, and the encoder is the chosen one."""

import warnings
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from retro.config.training import Precision
from retro.errors import ArtifactMissingError, InputError, ShapeError
from retro.retrieval import bert_embed, tokenize
from retro.retro_pytorch import encoder as module
from retro.retro_pytorch.encoder import TokenEmbedder, TokenEncoder, open_encoder
from tests.small_bert import CLS, SEP, WIDTH, save_small_bert

pytestmark = pytest.mark.usefixtures("small_bert")
BFLOAT16_NOISE = 0.05
TEXTS = ["The for statement", "A", "is used to iterate over the elements of a sequence (string)"]


def literal_embedding(folder: Path, ids: torch.Tensor, *, cls: bool, eps: float) -> torch.Tensor:
    """Write out the definition with plain transformers in float32."""
    model = AutoModel.from_pretrained(folder).eval()
    mask = ids != 0
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    if cls:
        return states[:, 0]
    rows = []
    for state, exists in zip(states, mask, strict=True):
        others = [token for token, real in zip(state[1:], exists[1:], strict=True) if real]
        rows.append(sum(others, torch.zeros(WIDTH)) / (len(others) + eps))
    return torch.stack(rows)


def test_tokens_are_those_of_the_tokenizer(small_bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(small_bert)

    ids = tokenize(TEXTS)

    assert torch.equal(ids, tokenizer(TEXTS, padding=True, return_tensors="pt").input_ids)
    assert ids.dtype == torch.int64
    assert ids[0, 0] == CLS
    assert tokenize("A").tolist() == [[CLS, *tokenize("A", add_special_tokens=False)[0], SEP]]
    assert tokenize([]).shape == (0, 0)


def test_long_text_gives_no_warning(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ids = tokenize("word " * 2000)

    assert ids.shape[1] > 2000
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize("eps", [1e-8, 2.0])
def test_vectors_are_those_of_the_definition(small_bert: Path, cls: bool, eps: float) -> None:
    ids = torch.cat((tokenize(TEXTS), torch.zeros(3, 5, dtype=torch.int64)), 1)
    ids[2, 4] = 0  # padding may stand between tokens
    expected = literal_embedding(small_bert, ids, cls=cls, eps=eps)

    found = bert_embed(ids, return_cls_repr=cls, eps=eps)

    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=BFLOAT16_NOISE)
    exact = TokenEncoder.open(str(small_bert), torch.device("cpu"), Precision.FLOAT32)
    in_float32 = exact.encode_tokens(ids.numpy(), (ids != 0).numpy(), first_token=cls, eps=eps)
    torch.testing.assert_close(torch.from_numpy(in_float32), expected, rtol=1e-4, atol=1e-5)


def test_the_first_token_is_not_in_the_mean(small_bert: Path) -> None:
    # Far more than the noise of bfloat16, so the test above would notice.
    ids = tokenize(["A"])
    model = AutoModel.from_pretrained(small_bert).eval()
    with torch.no_grad():
        states = model(input_ids=ids).last_hidden_state[0]

    assert (states.mean(0) - states[1:].mean(0)).abs().max() > 2 * BFLOAT16_NOISE


def test_rows_of_padding_are_zero_and_finite() -> None:
    ids = torch.tensor([[CLS, 0, 0], [0, 0, 0], [CLS, 200, SEP]])

    vectors = bert_embed(ids)

    assert torch.isfinite(vectors).all()
    assert not vectors[:2].any()
    assert vectors[2].any()


def test_another_padding_id_counts_others() -> None:
    ids = torch.tensor([[CLS, 200, SEP, 201]])

    assert torch.equal(bert_embed(ids, pad_id=201), bert_embed(ids[:, :3]))


def test_rows_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(ShapeError, match="reads at most 512 tokens, got 513"):
        bert_embed(torch.full((1, 513), 200))
    assert bert_embed(torch.cat((torch.full((1, 512), 200), torch.zeros(1, 9).long()), 1)).any()
    with pytest.raises(ShapeError, match=r"below 8192, the vocabulary .*, got 8192"):
        bert_embed(torch.tensor([[CLS, 8192]]))
    with pytest.raises(ShapeError, match=r"at least 0 .* got -1"):
        bert_embed(torch.tensor([[CLS, -1]]))
    for wrong in (torch.zeros(3), torch.zeros(3, 3), torch.zeros(3, dtype=torch.int64)):
        with pytest.raises(ShapeError, match=r"integers of shape \(n, tokens\)"):
            bert_embed(wrong)
    with pytest.raises(ShapeError, match=r"at least one token, got \(1, 0\)"):
        bert_embed(tokenize("", add_special_tokens=False))
    assert bert_embed(tokenize([])).shape == (0, WIDTH)
    with pytest.raises(ShapeError, match="must be a tensor, got list"):
        bert_embed([[CLS]])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="reads texts, got int"):
        tokenize(5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="reads texts, got bytes"):
        tokenize([b"bytes"])  # type: ignore[list-item]


def test_chunks_and_queries_are_read_as_cls_chunk_sep(small_bert: Path) -> None:
    ids = tokenize("iterate over a sequence", add_special_tokens=False)[0].tolist()
    encoder = open_encoder()
    size = len(ids) + 3
    pad = [0] * size
    database = np.array([[CLS, *ids, SEP, *pad][:size], (ids + pad)[:size]], np.int32)

    keys = TokenEmbedder(encoder).embed(database)

    assert np.array_equal(keys[0], keys[1]), "neither [CLS] nor [SEP] is doubled"
    np.testing.assert_array_equal(keys[0], bert_embed(torch.tensor([[CLS, *ids, SEP]]))[0].numpy())
    firsts = TokenEmbedder(encoder, use_cls_repr=True)
    np.testing.assert_array_equal(
        firsts.embed(database[:1])[0],
        bert_embed(torch.tensor([[CLS, *ids, SEP]]), return_cls_repr=True)[0].numpy(),
    )
    assert firsts.fingerprint != TokenEmbedder(encoder).fingerprint
    assert small_bert.name in encoder.name


def test_a_chunk_of_nothing_has_a_key() -> None:
    keys = TokenEmbedder(open_encoder()).embed(np.array([[SEP, 0, 0], [0, 0, 0]], np.int32))

    assert np.isfinite(keys).all()
    assert keys.any(axis=1).all()


def test_the_batch_size_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = open_encoder()
    sizes: list[int] = []
    forward = encoder._encode_batch

    def listen(rows: object, exists: object, pool: object) -> object:
        sizes.append(len(rows))  # type: ignore[arg-type]
        return forward(rows, exists, pool)  # type: ignore[arg-type]

    monkeypatch.setattr(encoder, "_encode_batch", listen)
    chunks = np.full((20, 6), 200, np.int32)

    TokenEmbedder(encoder, most_rows=3).embed(chunks)
    limited, sizes[:] = list(sizes), []
    TokenEmbedder(encoder).embed(chunks)

    assert max(limited) == 3
    assert sum(limited) == 20
    assert max(sizes) > 3


def test_the_encoder_follows_the_environment_and_the_argument(
    small_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = save_small_bert(tmp_path / "other", seed=1, vocab_size=1000)
    ids = tokenize(["iterate"])
    before = bert_embed(ids)
    assert open_encoder() is open_encoder(), "loaded once"

    monkeypatch.setenv("RETRO_ENCODER", str(other))
    assert not torch.equal(tokenize(["iterate over sequences"]), ids)
    assert not torch.equal(bert_embed(ids), before)
    assert torch.equal(bert_embed(ids, encoder=small_bert), before)


def test_the_bundled_encoder_can_be_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRO_ENCODER", "all-MiniLM-L6-v2")

    assert bert_embed(tokenize(["hello world"])).shape == (1, 384)


def test_a_missing_encoder_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "/nonexistent")
    monkeypatch.delenv("RETRO_ENCODER")
    monkeypatch.setattr(module, "DEFAULT_ENCODER", "bert-base-nowhere")

    with pytest.raises(ArtifactMissingError) as refused:
        tokenize(["hello"])

    message = str(refused.value)
    assert "'bert-base-nowhere' is not in the cache and cannot be downloaded" in message
    assert "RETRO_ENCODER=all-MiniLM-L6-v2 is the bundled encoder" in message


def test_the_default_is_that_of_the_readme() -> None:
    assert module.DEFAULT_ENCODER == "bert-base-cased"
