"""Mistakes found in other implementations of RETRO, each in a numbered section of its own.

Every test is named after what is right; its docstring names the mistake it would catch.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import BertModel

from retro import RETRO, RETRODataset, TrainingWrapper
from retro.config.corpus import CorpusConfig, Exclusion, IndexKind
from retro.config.model import ModelConfig
from retro.config.sampling import SamplingConfig
from retro.config.training import TrainingConfig
from retro.corpus import embed_stage
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.data.byte_level import ByteLevelTokenizer
from retro.errors import ArtifactMismatchError, ArtifactMissingError, ConfigError, ShapeError
from retro.generation.events import ChunkEvent, FinishEvent
from retro.generation.generate import Generator
from retro.generation.sampling import candidates
from retro.model.layers import rotary_angles, rotate
from retro.model.packing import Packing
from retro.model.retro.cca import ChunkedCrossAttention
from retro.retrieval import (
    bert_embed,
    chunks_to_index_and_embed,
    chunks_to_precalculated_knn_,
    text_folder_to_chunks_,
)
from retro.retrieval.index import Index, build_index
from retro.retrieval.index_info import LARGEST_FLAT, KeyCode, plan_index
from retro.retrieval.keys import KeyStore
from retro.retro_pytorch.encoder import TokenEmbedder, TokenEncoder
from retro.retro_pytorch.filters import top_k, top_p
from retro.training.optimizer import make_optimizer
from tests.conftest import TINY_MODEL
from tests.fakes import HashEmbedder, hash_embedder, random_texts, small_corpus, store_texts
from tests.small_bert import CLS, SEP, write_prose

CPU = torch.device("cpu")
CHUNK, VOCABULARY = 4, 23
SIZES: dict[str, Any] = {
    "num_tokens": VOCABULARY,
    "max_seq_len": 16,
    "chunk_size": CHUNK,
    "enc_dim": 8,
    "enc_depth": 1,
    "dec_dim": 12,
    "dec_depth": 2,
    "dec_cross_attn_layers": (1, 2),
    "heads": 2,
    "dim_head": 8,
}
M, WINDOW = 16, 64
"""Tokens per chunk, and of the window, where a small BERT embeds chunks."""


def make_model(**changes: Any) -> RETRO:
    torch.manual_seed(0)
    return RETRO(**{**SIZES, **changes}).eval()


def make_inputs(num_tokens: int, neighbors: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    seq = torch.randint(1, VOCABULARY, (2, num_tokens), generator=generator)
    shape = (2, num_tokens // CHUNK, neighbors, 2 * CHUNK)
    return seq, torch.randint(1, VOCABULARY, shape, generator=generator)


def random_rows(num_chunks: int, seed: int = 0) -> NDArray[np.int32]:
    rng = np.random.default_rng(seed)
    return rng.integers(104, 2000, size=(num_chunks, M + 1)).astype(np.int32)


def write_rows(place: Path, rows: NDArray[np.int32], documents: list[int]) -> None:
    """Write made-up chunks with their documents."""
    place.mkdir(exist_ok=True)
    rows.tofile(place / "chunks.dat")
    np.array(documents, np.int32).tofile(place / "doc_ids.dat")


def neighbors(place: Path, encoder: Path, **changes: Any) -> NDArray[np.int32]:
    num_chunks = (place / "doc_ids.dat").stat().st_size // 4
    path, _ = chunks_to_precalculated_knn_(
        **{
            "num_nearest_neighbors": 2,
            "num_chunks": num_chunks,
            "chunk_size": M,
            "chunk_memmap_path": place / "chunks.dat",
            "doc_ids_memmap_path": place / "doc_ids.dat",
            "encoder": encoder,
            **changes,
        }
    )
    return np.fromfile(path, np.int32).reshape(num_chunks, -1)


def process(folder: Path, place: Path, encoder: Path) -> NDArray[np.int32]:
    """Cut a folder into chunks and return the stored rows."""
    text_folder_to_chunks_(
        folder=folder,
        chunks_memmap_path=place / "chunks.dat",
        seqs_memmap_path=place / "seq.dat",
        doc_ids_memmap_path=place / "doc_ids.dat",
        chunk_size=M,
        seq_len=WINDOW,
        encoder=encoder,
    )
    return np.fromfile(place / "chunks.dat", np.int32).reshape(-1, M + 1)


def dataset_files(
    place: Path, rows: NDArray[np.int32], neighbor_ids: list[list[int]]
) -> dict[str, Any]:
    """Write raw files of one sequence per two chunks and return what describes them."""
    starts = np.arange(0, len(rows), 2, dtype=np.int32)
    rows.astype(np.int32).tofile(place / "rows.dat")
    np.array(neighbor_ids, np.int32).tofile(place / "knn.dat")
    starts.tofile(place / "starts.dat")
    size = rows.shape[1] - 1
    return {
        "num_chunks": len(rows),
        "chunk_size": size,
        "seq_len": 2 * size,
        "num_sequences": len(starts),
        "num_neighbors": len(neighbor_ids[0]),
        "chunk_memmap_path": place / "rows.dat",
        "chunk_nn_memmap_path": place / "knn.dat",
        "seq_memmap_path": place / "starts.dat",
    }


@pytest.fixture(scope="module")
def wrapper(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> TrainingWrapper:
    """Return a wrapper around an untrained model. Tests must not train it."""
    place = tmp_path_factory.mktemp("wrapper")
    write_prose(place / "text", 6, 700)
    return TrainingWrapper(
        retro=make_model(num_tokens=2100, chunk_size=M, max_seq_len=WINDOW),
        chunk_size=M,
        documents_path=place / "text",
        knn=2,
        chunks_memmap_path=place / "chunks.dat",
        seqs_memmap_path=place / "seq.dat",
        doc_ids_memmap_path=place / "doc_ids.dat",
        processed_stats_json_path=place / "stats.json",
        encoder=bert_folder,
    )


@pytest.fixture(scope="module")
def generator(corpus: Corpus) -> Generator:
    """Return an untrained model that writes from the shared corpus."""
    sizes = {"num_tokens": corpus.tokenizer.vocab_size, "chunk_size": 8, "max_seq_len": 64}
    torch.manual_seed(0)
    model = RETRO(**{**TINY_MODEL, **sizes}).eval()
    # Of so many random logits zero is never the greatest, so no text ends early.
    model.to_logits.weight.data[corpus.tokenizer.eos_id] = 0
    return Generator(model, corpus.tokenizer, corpus)


def prompts(length: int) -> Tensor:
    return torch.randint(104, 2000, (2, length), generator=torch.Generator().manual_seed(1))


def never_ends(logits: Tensor, thres: float) -> Tensor:  # noqa: ARG001  # a filter
    """Keep every token but the end token."""
    if logits.shape[-1] > SEP:
        logits = logits.clone()
        logits[:, SEP] = float("-inf")
    return logits


# ------------------------------------------------------ 1 every argument has an effect

CHANGES: dict[str, Any] = {
    "num_tokens": 29, "max_seq_len": 8, "chunk_size": 8, "enc_dim": 16, "enc_depth": 3,
    "enc_cross_attn_layers": (2,), "dec_dim": 16, "dec_depth": 3, "dec_cross_attn_layers": (2,),
    "heads": 4, "dim_head": 4, "enc_attn_dropout": 0.5, "enc_ff_dropout": 0.5,
    "dec_attn_dropout": 0.5, "dec_ff_dropout": 0.5, "use_deepnet": True, "gated_rmsnorm": True,
    "tie_embeddings": True, "separate_encoder_embedding": True, "pad_id": 1,
}  # fmt: skip


def behavior(**settings: Any) -> tuple[object, object]:
    """Return the shapes of the weights, and the training loss or why there is none."""
    model = make_model(**{"enc_depth": 2, **settings}).train()
    seq, retrieved = make_inputs(10)
    torch.manual_seed(2)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    try:
        loss = model(seq, retrieved[:, : 9 // model.chunk_size], return_loss=True)
    except ShapeError as error:
        return shapes, str(error)
    return shapes, loss.item()


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_of_the_model_has_an_effect(name: str) -> None:
    """Mistake: settings of the model are accepted but not passed on."""
    assert set(CHANGES) == {field.name for field in fields(ModelConfig)}

    assert behavior(**{name: CHANGES[name]}) != behavior()


def test_heads_reach_every_attention() -> None:
    """Mistake: ``heads`` not passed on, always 8."""
    model = make_model(heads=3, dim_head=12)
    projections = [
        value for name, value in model.state_dict().items() if name.endswith("q_proj.weight")
    ]

    assert len(projections) == 2 + 2 + 2  # decoder, chunked cross-attention, encoder
    assert {len(value) for value in projections} == {36}
    # The same weights in fewer heads are another network.
    fewer = make_model(heads=1, dim_head=36)
    fewer.load_state_dict(model.state_dict())
    assert not torch.allclose(model(*make_inputs(8)), fewer(*make_inputs(8)))


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the rows of every block that is embedded."""
    blocks: list[int] = []
    whole = TokenEmbedder.embed

    def count(self: TokenEmbedder, chunks_NM: NDArray[np.int32]) -> NDArray[np.float32]:
        blocks.append(len(chunks_NM))
        return whole(self, chunks_NM)

    monkeypatch.setattr(TokenEmbedder, "embed", count)
    return blocks


def test_the_neighbor_function_embeds_as_it_is_told(
    tmp_path: Path, bert_folder: Path, embedded: list[int]
) -> None:
    """Mistake: the neighbor function drops the arguments that say how chunks are embedded."""
    write_rows(tmp_path, random_rows(40), [row // 4 for row in range(40)])
    batches: list[int] = []

    def count(module: nn.Module, inputs: object, output: Any) -> None:  # noqa: ARG001  # a hook
        if isinstance(module, BertModel):
            batches.append(len(output.last_hidden_state))

    means = neighbors(tmp_path, bert_folder)
    assert embedded == [40]
    with nn.modules.module.register_module_forward_hook(count):
        firsts = neighbors(
            tmp_path, bert_folder,
            use_cls_repr=True, max_rows_per_file=25, chunks_to_embeddings_batch_size=10,
        )  # fmt: skip
    assert not np.array_equal(means, firsts)
    assert embedded == [40, 25, 15]
    assert batches == [10, 10, 5, 10, 5]
    neighbors(tmp_path, bert_folder, use_cls_repr=True, force_reprocess=True)
    assert sum(embedded) == 3 * 40
    with pytest.raises(ConfigError, match="embed_dim must be 32"):
        neighbors(tmp_path, bert_folder, embed_dim=31)
    with pytest.raises(ArtifactMissingError, match="elsewhere"):
        neighbors(tmp_path, "elsewhere")


def test_the_neighbor_function_indexes_and_searches_as_it_is_told(
    tmp_path: Path, bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mistake: the neighbor function drops arguments of index and search."""
    write_rows(tmp_path, random_rows(40), [0] * 40)
    asked: list[int] = []
    search = Index.search

    def listen(self: Index, queries: NDArray[np.float32], num_results: int) -> Any:
        asked.append(num_results)
        return search(self, queries, num_results)

    monkeypatch.setattr(Index, "search", listen)
    wide = neighbors(tmp_path, bert_folder, index_file="own.index", exclusion_window=10 * M)
    assert (tmp_path / "chunks.dat.index" / "own.index").is_file()
    near = neighbors(tmp_path, bert_folder, exclusion_window=M)
    assert not np.array_equal(wide, near)
    assert (np.abs(near - np.arange(40)[:, None]) <= 10).any()
    three = neighbors(
        tmp_path, bert_folder, exclusion_window=M, num_nearest_neighbors=3, num_extra_neighbors=25
    )
    assert three.shape == (40, 3)
    # One more neighbor, and fifteen more candidates than the ten of the default.
    assert asked[-1] == asked[-2] + 1 + 15
    for name in ("max_index_memory_usage", "current_memory_available"):
        with pytest.raises(ConfigError, match=f"{name} must be at least"):
            neighbors(tmp_path, bert_folder, **{name: "1k"})


# ------------------------------------------------- 2 distances in chunked cross-attention


def test_distances_in_chunked_cross_attention_are_those_of_the_paper() -> None:
    """Mistake: CCA queries shifted twice, at 126, 0, 0, ... instead of 63 to 126."""
    torch.manual_seed(0)
    cca = ChunkedCrossAttention(ModelConfig(**{**SIZES, "heads": 1}))
    states_TD, encoded = torch.randn(2 * CHUNK - 1, 12), torch.randn(1, 1, 1, 2 * CHUNK, 8)
    valid = torch.ones(1, 1, 1, 2 * CHUNK, dtype=torch.bool)

    update_BTD, _ = cca(states_TD[None], 0, cca.readable(encoded, valid))

    layer = cca.attention
    keys_RP, values_RP = layer.k_proj(encoded[0, 0, 0]), layer.v_proj(encoded[0, 0, 0])
    for i in range(1, CHUNK + 1):
        token = CHUNK - 2 + i  # the first to read is the last of its chunk
        distance_R = torch.tensor([i - other + CHUNK - 1 for other in range(1, 2 * CHUNK + 1)])
        query_RP = layer.q_proj(states_TD[token]).expand(2 * CHUNK, -1)
        turned_RP = rotate(query_RP, rotary_angles(distance_R, 8))
        shares_R = ((turned_RP * keys_RP).sum(-1) / 8**0.5).softmax(0)
        expected_D = layer.out_proj(shares_R @ values_RP)
        torch.testing.assert_close(update_BTD[0, token], expected_D)


# ------------------------------------------------------- 3 both forms of retrieved values


def test_one_neighbor_needs_no_dimension_of_its_own() -> None:
    """Mistake: the mask is made before 3-D ``retrieved`` is reshaped, so it fails."""
    model = make_model()
    seq, retrieved = make_inputs(13, neighbors=1)
    retrieved[:, 1, :, 5:] = 0
    retrieved[0, 2] = 0

    assert torch.equal(model(seq, retrieved[:, :, 0]), model(seq, retrieved))
    assert torch.equal(
        model(seq, retrieved[:, :, 0], return_loss=True), model(seq, retrieved, return_loss=True)
    )


# --------------------------------------------------- 4 losses with retrieval off, in eval


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("on", [True, False])
def test_there_is_a_loss_with_retrieval_on_and_off_in_training_and_evaluation(
    on: bool, training: bool
) -> None:
    """Mistake: without retrieval ``return_loss`` is ignored; in eval mode a loss is refused."""
    model = make_model().train(training)
    seq, values = make_inputs(13)
    retrieved = values if on else None

    loss = model(seq, retrieved, return_loss=True)

    logits_BTV = model(seq[:, :-1], retrieved)
    expected = F.cross_entropy(logits_BTV.flatten(0, 1), seq[:, 1:].flatten())
    torch.testing.assert_close(loss, expected)
    loss.backward()


# ----------------------------------------------------- 5 files are read, -1 is no neighbor

ROWS = np.arange(1, 31, dtype=np.int32).reshape(6, CHUNK + 1)


@pytest.mark.parametrize("count", ["num_chunks", "num_sequences"])
def test_a_file_with_fewer_rows_is_refused_and_stays_as_it_is(tmp_path: Path, count: str) -> None:
    """Mistake: a file opened ``r+`` with more rows than it has grows by zeros."""
    arguments = dataset_files(tmp_path, ROWS, [[1], [0], [3], [2], [5], [4]])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    with pytest.raises(ArtifactMismatchError, match=f"{count} must be at most"):
        RETRODataset(**{**arguments, count: arguments[count] + 1})
    dataset = RETRODataset(**arguments)
    for number in range(len(dataset)):
        dataset[number]

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_chunk_zero_is_a_neighbor_and_minus_one_is_padding(tmp_path: Path) -> None:
    """Mistake: missing neighbors are stored as 0, which is a chunk."""
    ids = [[0, -1], [-1, -1], [0, 1], [0, 1], [0, 1], [0, 1]]

    _, retrieved = RETRODataset(**dataset_files(tmp_path, ROWS, ids))[0]

    assert retrieved[0, 0, :CHUNK].tolist() == ROWS[0, :-1].tolist()
    assert not retrieved[0, 1].any()
    assert not retrieved[1].any()


def test_neighbors_that_are_missing_are_stored_as_minus_one(
    tmp_path: Path, bert_folder: Path
) -> None:
    """Mistake: rows of the neighbors file that nothing was found for are zero."""
    write_rows(tmp_path, random_rows(4), [0, 0, 1, 1])

    found = neighbors(tmp_path, bert_folder, num_nearest_neighbors=4)

    assert [sorted(row) for row in found.tolist()] == 2 * [[-1, -1, 2, 3]] + 2 * [[-1, -1, 0, 1]]


# ---------------------------------------------------------------- 6 who is excluded, and how


def test_a_chunk_is_excluded_by_its_id_so_duplicates_of_it_are_found(
    tmp_path: Path, bert_folder: Path
) -> None:
    """Mistake: the first hit is dropped as the chunk itself, though a duplicate may come first."""
    rows = random_rows(12)
    rows[6] = rows[9] = rows[2]
    write_rows(tmp_path, rows, list(range(12)))

    found = neighbors(tmp_path, bert_folder)

    assert [sorted(found[row].tolist()) for row in (2, 6, 9)] == [[6, 9], [2, 9], [2, 6]]
    assert not (found == np.arange(12)[:, None]).any()


def test_copies_of_a_document_find_each_other_and_never_themselves(tmp_path: Path) -> None:
    """Mistake: what is excluded is the nearest hit instead of the own document."""
    texts = random_texts(2, 40)
    copies = {f"copy/{path}": text for path, text in texts.items()}
    others = {f"more/{path}": text for path, text in random_texts(2, 40, seed=1).items()}
    config = CorpusConfig(chunk_size=8, vocab_size=300, exclusion=Exclusion.DOCUMENT)
    corpus = small_corpus(tmp_path, {**texts, **copies, **others}, config)

    documents_C = corpus.database.documents_C
    assert (documents_C[corpus.neighbors_CK] != documents_C[:, None]).all()
    assert (corpus.distances_CK[:, 0] == 0).mean() > 0.3


# ---------------------------------------------------------------------- 7 nothing is found


def test_an_index_that_finds_too_few_gives_no_id_at_no_distance(tmp_path: Path) -> None:
    """Mistake: FAISS returns -1 for "nothing", and it is used as an index."""
    database = small_corpus(tmp_path).database
    keys = KeyStore.open(tmp_path / "keys")
    index, _ = build_index(keys, database.num_retrievable, IndexKind.IVF)
    index.set_effort(1)

    ids, distances = index.search(keys.gather(np.arange(20)), database.num_retrievable)

    assert (ids == -1).any()
    assert np.array_equal(np.isinf(distances), ids == -1)


def test_neighbors_that_do_not_exist_are_no_other_chunk(tmp_path: Path) -> None:
    """Mistake: -1 picks the last chunk, its document and its text."""
    corpus = small_corpus(tmp_path, random_texts(3, 12))
    database, retriever = corpus.database, corpus.retriever(CPU, embedder=hash_embedder)
    excluded = database.document_chunks(0)[0]
    allowed = [id for id in range(database.num_retrievable) if id not in excluded]
    assert len(excluded) > 0
    assert 0 < len(allowed) < 100

    ids, distances = retriever.search_chunks(database.chunks_CM, 100, exclude_documents=[0])

    assert [sorted(row) for row in ids[:, : len(allowed)].tolist()] == [allowed] * len(ids)
    assert (ids[:, len(allowed) :] == -1).all()
    assert np.array_equal(np.isinf(distances), ids == -1)
    values = database.retrieved_values(ids)
    assert (values[:, len(allowed) :] == database.pad_id).all()
    assert len(retriever.describe(ids[0], distances[0])) == len(allowed)


def test_nothing_has_no_continuation_where_one_document_is_first_and_last(tmp_path: Path) -> None:
    """Mistake: -1 picks the last chunk's document, which continues with chunk 0."""
    database = small_corpus(tmp_path, random_texts(1, 60)).database

    assert database.documents_C[0] == database.documents_C[-1]
    assert database.continuation_ids(np.array([-1, 0])).tolist() == [-1, 1]
    assert (database.retrieved_values(np.array([-1])) == database.pad_id).all()


# ---------------------------------------------------------- 8 excluded means infinitely far


class FarEmbedder(HashEmbedder):
    """Keys whose squared distances are in the millions."""

    def embed(self, chunks_NM: NDArray[np.int32]) -> NDArray[np.float32]:
        return super().embed(chunks_NM) * 3000


def test_excluded_chunks_are_farther_than_any_key(tmp_path: Path) -> None:
    """Mistake: excluded hits get distance 1e3, below real distances of some encoders."""
    store_texts(tmp_path, random_texts(6, 30))
    config = CorpusConfig(chunk_size=8, vocab_size=300, exclusion=Exclusion.DOCUMENT)
    build_corpus(tmp_path, config, embedder=lambda tokenizer: FarEmbedder(tokenizer.vocab_size))
    corpus = Corpus.open(tmp_path)

    documents_C = corpus.database.documents_C
    assert corpus.distances_CK.min() > 1e3
    assert corpus.neighbors_CK.min() >= 0
    assert (documents_C[corpus.neighbors_CK] != documents_C[:, None]).all()


# ------------------------------------------------------------- 9 a corpus of one document


def test_one_document_has_neighbors_outside_the_window_and_says_so(tmp_path: Path) -> None:
    """Mistake: in a corpus of one document all neighbors are filtered away, silently."""
    window = 5
    config = CorpusConfig(chunk_size=8, vocab_size=300, exclusion_window=window * 8)
    corpus = small_corpus(tmp_path, random_texts(1, 300), config)

    summary = corpus.summary()
    assert (summary.exclusion, summary.num_short) == ("window", 0)
    assert corpus.neighbors_CK.min() >= 0
    distance_CK = np.abs(corpus.neighbors_CK - np.arange(corpus.database.num_chunks)[:, None])
    assert distance_CK.min() > window
    chosen = CorpusConfig(chunk_size=8, vocab_size=300, exclusion=Exclusion.DOCUMENT)
    summary = build_corpus(tmp_path, chosen, embedder=hash_embedder)
    assert summary.num_short == summary.num_chunks


def test_one_document_in_raw_files_is_warned_about(
    tmp_path: Path, bert_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Mistake: in files of one document all neighbors are filtered away, silently."""
    write_rows(tmp_path, random_rows(30), [0] * 30)

    with caplog.at_level(logging.WARNING):
        found = neighbors(tmp_path, bert_folder, exclusion_window=4 * M)
    assert "one document holds more than half" in caplog.text
    assert np.abs(found - np.arange(30)[:, None]).min() > 4
    assert found.min() >= 0
    with caplog.at_level(logging.WARNING):
        found = neighbors(tmp_path, bert_folder, exclusion_window=1000 * M)
    assert (found == -1).all()
    assert "30 of 30 chunks have fewer than 2 neighbors" in caplog.text


# ---------------------------------------------------- 10 what is kept, and whose files it is


def test_other_chunks_under_the_same_name_have_their_own_keys_and_neighbors(
    tmp_path: Path, bert_folder: Path
) -> None:
    """Mistake: the cache is keyed on a file name, so another corpus reuses the old one."""
    documents = [row // 3 for row in range(30)]
    expected: list[NDArray[Any]] = []
    kept: list[NDArray[Any]] = []
    for seed in (0, 1):
        for place, results in ((tmp_path / f"own-{seed}", expected), (tmp_path / "same", kept)):
            write_rows(place, random_rows(30, seed), documents)
            results.append(neighbors(place, bert_folder))
            index, keys_CZ = chunks_to_index_and_embed(
                num_chunks=30, chunk_size=M, chunk_memmap_path=place / "chunks.dat",
                encoder=bert_folder,
            )  # fmt: skip
            results.append(np.array(keys_CZ))
            results.append(index.search(np.array(keys_CZ), k=3)[1])

    for new, right in zip(kept, expected, strict=True):
        np.testing.assert_allclose(new, right, atol=1e-6)
    assert not np.array_equal(kept[0], kept[3])


def test_only_own_files_are_written_and_removed(
    tmp_path: Path, bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mistake: a global folder ``./.tmp`` is wiped."""
    (tmp_path / "here" / ".tmp").mkdir(parents=True)
    (tmp_path / "here" / ".tmp" / "mine.txt").write_text("not yours")
    write_rows(tmp_path / "data", random_rows(12), list(range(12)))
    monkeypatch.chdir(tmp_path / "here")

    neighbors(tmp_path / "data", bert_folder)
    small_corpus(tmp_path / "corpus")

    assert [path.name for path in Path().rglob("*")] == [".tmp", "mine.txt"]


# ----------------------------------------------------- 11 documents of exactly whole chunks


@pytest.mark.parametrize("num_tokens", [M - 1, M, 2 * M - 1, 3 * M - 1])
def test_no_chunk_holds_the_end_token_alone(
    tmp_path: Path, bert_folder: Path, num_tokens: int
) -> None:
    """Mistake: a document of 1 mod 64 tokens gets an extra chunk that holds only [SEP]."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text(" ".join((["a", "("] * M * 2)[:num_tokens]))

    rows = process(tmp_path / "text", tmp_path, bert_folder)

    # [CLS] and the text are cut into chunks; [SEP] follows them.
    assert len(rows) == -(-(num_tokens + 1) // M)
    assert not np.isin(rows[:, :-1], (0, SEP)).all(axis=1).any()
    assert np.count_nonzero(rows[-1] == SEP) == 1


def test_a_corpus_has_no_empty_chunk(tmp_path: Path) -> None:
    """Mistake: where the text ends with a chunk, an empty one follows."""
    texts = {f"{number}.txt": "abcdefgh" * number for number in range(1, 6)}
    config = CorpusConfig(chunk_size=2, vocab_size=258)  # a byte is a token
    database = small_corpus(tmp_path, texts, config).database

    assert database.num_chunks == 4 * (1 + 2 + 3 + 4 + 5)
    assert (database.chunks_CM != database.pad_id).all()


# -------------------------------------------------- 12 one function embeds database and query


def test_a_chunk_is_embedded_the_same_in_the_database_and_as_a_query(
    wrapper: TrainingWrapper,
) -> None:
    """Mistake: queries are embedded as [CLS] chunk [SEP], the database without [SEP]."""
    made = wrapper.search.made
    rows = np.array(made.rows_CW)[:, :-1]

    np.testing.assert_allclose(
        made.search.embedder.embed(rows), made.search.keys.shards[0], atol=1e-2
    )
    assert np.array_equal(wrapper.search.retrieved(rows)[:, 0, :M], rows)


def test_the_encoder_reads_the_same_tokens_for_the_database_and_for_a_query(
    wrapper: TrainingWrapper, tmp_path: Path, bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mistake: queries are embedded as [CLS] chunk [SEP], the database without [SEP]."""
    rows = np.array(wrapper.search.made.rows_CW)
    rows.tofile(tmp_path / "chunks.dat")
    read: list[list[list[int]]] = []
    whole = TokenEncoder.encode_tokens

    def listen(
        self: TokenEncoder, ids: NDArray[np.int64], exists: NDArray[np.bool_], **options: Any
    ) -> NDArray[np.float32]:
        kept = zip(ids.tolist(), exists.tolist(), strict=True)
        read.append([list(itertools.compress(*row)) for row in kept])
        return whole(self, ids, exists, **options)

    monkeypatch.setattr(TokenEncoder, "encode_tokens", listen)
    chunks_to_index_and_embed(
        num_chunks=len(rows), chunk_size=M, chunk_memmap_path=tmp_path / "chunks.dat",
        encoder=bert_folder,
    )  # fmt: skip
    wrapper.search.retrieved(rows[:, :-1])

    database, query = read
    assert database == query
    assert all((row[0], row[-1], row.count(SEP)) == (CLS, SEP, 1) for row in database)


def test_special_tokens_are_read_once(wrapper: TrainingWrapper, bert_folder: Path) -> None:
    """Mistake: [CLS] is doubled in the first chunk of a document."""
    made = wrapper.search.made
    rows = np.array(made.rows_CW)[:, :-1]
    first = rows[0]
    last = rows[(rows == SEP).any(axis=1)][0]
    inner = rows[1]
    assert first[0] == CLS
    assert not np.isin(inner, (CLS, SEP)).any()
    texts = [first[1:].tolist(), inner.tolist(), last[: last.tolist().index(SEP)].tolist()]

    for chunk, text in zip((first, inner, last), texts, strict=True):
        expected = bert_embed(torch.tensor([[CLS, *text, SEP]]), encoder=bert_folder)
        np.testing.assert_allclose(made.search.embedder.embed(chunk[None]), expected, atol=1e-2)


# ------------------------------------------------------------------------------ 13 samplers


def test_an_end_token_in_the_prompt_ends_nothing(wrapper: TrainingWrapper) -> None:
    """Mistake: an EOS in the prompt stops sampling."""
    prompt = prompts(6)
    prompt[0, 2] = SEP
    prompt[1, -1] = SEP

    written = wrapper.generate(prompt, filter_fn=never_ends, temperature=0)

    assert written.shape == (2, WINDOW)
    assert written[:, 6:].all()


def test_top_p_keeps_the_smallest_set_that_reaches_the_mass() -> None:
    """Mistake: top-p keeps the wrong mass."""
    logits = torch.tensor([[0.05, 0.4, 0.3, 0.25]]).log()

    for mass, kept in ((0.35, [1]), (0.5, [1, 2]), (0.9, [1, 2, 3]), (0.99, [0, 1, 2, 3])):
        filtered = top_p(logits, thres=mass)
        assert filtered[0].isfinite().nonzero().flatten().tolist() == kept
        found = candidates(logits[0].numpy(), SamplingConfig(temperature=1, top_p=mass))
        assert found.ids_N.tolist() == kept


def test_top_k_keeps_a_number_of_tokens_and_takes_no_share() -> None:
    """Mistake: top-k 0.9 keeps 2,899 tokens."""
    logits = torch.randn(2, 28_996, generator=torch.Generator().manual_seed(0))

    assert top_k(logits, thres=40).isfinite().sum(-1).tolist() == [40, 40]
    with pytest.raises(ConfigError, match="whole number of tokens"):
        top_k(logits, thres=0.9)
    config = SamplingConfig(temperature=1, top_k=40, top_p=1)
    assert len(candidates(logits[0].numpy(), config).ids_N) == 40


# --------------------------------------------------------- 14 work is done once in generation


@contextmanager
def counted_work(model: RETRO) -> Iterator[Counter[str]]:
    """Count the tokens the decoder reads and the chunks whose neighbors are encoded."""
    work: Counter[str] = Counter()
    encoder = model.decoder.encoder
    assert encoder is not None

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:  # noqa: ARG001  # a hook
        work["chunks" if module is encoder else "tokens"] += inputs[0].shape[1]

    layer = model.decoder.layers[0]
    with (
        layer.attention.register_forward_hook(count),  # type: ignore[union-attr]  # a module
        encoder.register_forward_hook(count),
    ):
        yield work


def test_the_wrapper_reads_each_token_and_encodes_each_chunks_neighbors_once(
    wrapper: TrainingWrapper,
) -> None:
    """Mistake: no KV cache, and all neighbors are encoded again for each new token."""
    with counted_work(wrapper.retro) as work:
        written = wrapper.generate(prompts(5), filter_fn=never_ends, temperature=0)

    assert written.shape[1] == WINDOW
    num_read = WINDOW - 1
    assert work == {"tokens": num_read, "chunks": (num_read + M - 5) // M}


@pytest.mark.parametrize("in_numpy", [True, False])
def test_the_generator_reads_each_token_and_encodes_each_chunks_neighbors_once(
    generator: Generator, monkeypatch: pytest.MonkeyPatch, in_numpy: bool
) -> None:
    """Mistake: no KV cache, and all neighbors are encoded again for each new token."""
    prompt = "The climate of Arland"
    num_tokens = len(generator.tokenizer.encode(prompt))
    step, num_steps = generator.reader(), 0
    assert step is not None
    read = step.read

    def counted_step(*inputs: Any) -> NDArray[np.float32]:
        nonlocal num_steps
        num_steps += 1
        return read(*inputs)

    monkeypatch.setattr(step, "read", counted_step)
    if not in_numpy:
        monkeypatch.setattr(generator, "_readers", {False: None})
    with counted_work(generator.model) as work:
        events = list(generator.generate(prompt, SamplingConfig(max_new_tokens=20, temperature=0)))

    finish = events[-1]
    assert isinstance(finish, FinishEvent)
    assert (finish.reason, finish.num_tokens) == ("length", 20)
    num_read = num_tokens + 20 - 1
    assert (num_steps > 10) == in_numpy
    work["tokens"] += num_steps
    assert work == {"tokens": num_read, "chunks": (num_read + -num_tokens % 8) // 8}


# -------------------------------------------------------------------- 15 order of parameters


def test_moments_go_to_the_weights_they_belong_to(wrapper: TrainingWrapper) -> None:
    """Mistake: parameter groups are built from sets, whose order differs between processes."""
    first = make_model(dec_depth=4)
    second = make_model(dec_depth=4)
    optimizers = [make_optimizer(model, TrainingConfig()) for model in (first, second)]
    for model, optimizer in zip((first, second), optimizers, strict=True):
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        place_of = {name: place for place, name in enumerate(names.values())}
        for group in optimizer.param_groups:
            places = [place_of[names[id(parameter)]] for parameter in group["params"]]
            assert places == sorted(places)
    first(*make_inputs(9), return_loss=True).backward()
    optimizers[0].step()
    optimizers[1].load_state_dict(optimizers[0].state_dict())

    for own, other in zip(first.parameters(), second.parameters(), strict=True):
        moments = [optimizers[0].state[own]["exp_avg"], optimizers[1].state[other]["exp_avg"]]
        assert torch.equal(*moments)
    order = {id(parameter): row for row, parameter in enumerate(wrapper.retro.parameters())}
    for group in wrapper.get_optimizer().param_groups:
        rows = [order[id(parameter)] for parameter in group["params"]]
        assert rows == sorted(rows)


# ------------------------------------------------------------------------- 16 continuations

ENDS = np.array(
    [
        [CLS, 11, 12, 13, 14], [14, 15, 16, 17, SEP],  # [SEP] is in the last column alone
        [CLS, 21, 22, 23, 24], [24, 25, SEP, 0, 0],
        [CLS, 31, 32, 33, 34], [34, 35, 36, 37, 38],  # cut off at the end of the file
    ],
    np.int32,
)  # fmt: skip


def test_continuations_in_raw_files_end_with_their_document(tmp_path: Path) -> None:
    """Mistake: the continuation is the next row, across documents, or wraps around."""
    ids = [[0, 1], [3, 5], [0, 0], [0, 0], [0, 0], [0, 0]]

    _, retrieved = RETRODataset(**dataset_files(tmp_path, ENDS, ids))[0]

    values = [retrieved[0, 0], retrieved[0, 1], retrieved[1, 0], retrieved[1, 1]]
    assert [value[:CHUNK].tolist() for value in values] == ENDS[[0, 1, 3, 5], :-1].tolist()
    assert values[0][CHUNK:].tolist() == ENDS[1, :-1].tolist()
    assert not any(value[CHUNK:].any() for value in values[1:])


def test_continuations_in_a_corpus_end_with_their_document(tmp_path: Path) -> None:
    """Mistake: the continuation is the next row, across documents, or wraps around."""
    database = small_corpus(tmp_path, random_texts(6, 20)).database
    ids = np.arange(database.num_chunks)

    continuations = database.retrieved_values(ids)[:, database.chunk_size :]

    for chunk in ids.tolist():
        place, num_chunks = database.chunk_position(chunk)
        if place + 1 < num_chunks:
            assert np.array_equal(continuations[chunk], database.chunks_CM[chunk + 1])
        else:
            assert (continuations[chunk] == database.pad_id).all()


# ------------------------------------------------------------------ 17 indexes of every size


@pytest.mark.parametrize("kind", IndexKind)
@pytest.mark.parametrize("num_documents", [2, 20])
def test_small_corpora_get_an_index_that_finds_them(
    tmp_path: Path, kind: IndexKind, num_documents: int
) -> None:
    """Mistake: a template with 65,536 lists fails on a small corpus."""
    config = CorpusConfig(chunk_size=8, vocab_size=300, index_kind=kind)
    corpus = small_corpus(tmp_path, random_texts(num_documents, 40), config)
    database = corpus.database
    retriever = corpus.retriever(CPU, embedder=hash_embedder)
    own = np.arange(database.num_retrievable)

    _, distances = retriever.search_chunks(database.chunks_CM[own], 1)

    assert corpus.index_info.num_keys == len(own)
    assert kind is not IndexKind.AUTO or corpus.index_info.kind is IndexKind.FLAT
    assert np.abs(distances).max() < 1e-6


@pytest.mark.parametrize("num_keys", [1, 100, LARGEST_FLAT, LARGEST_FLAT + 1, 10**7])
def test_the_index_is_chosen_by_size_with_full_keys_where_memory_allows(num_keys: int) -> None:
    """Mistake: IVFPQ whatever the size, which a GPU refuses for wide keys."""
    plan = plan_index(IndexKind.AUTO, num_keys, 768)

    assert plan.kind is (IndexKind.FLAT if num_keys <= LARGEST_FLAT else IndexKind.IVF)
    assert plan.code is KeyCode.FULL
    assert plan.num_lists <= plan.num_training <= num_keys


# ---------------------------------------------------------- 18 the database makes a difference


@pytest.mark.parametrize("variant", [{}, {"use_deepnet": True}, {"gated_rmsnorm": True}])
def test_swapped_neighbors_change_the_logits(variant: dict[str, Any]) -> None:
    """Mistake: the published gain did not depend on the database at all."""
    model = make_model(**variant)
    seq, retrieved = make_inputs(12)
    seq[1] = seq[0]
    swapped = retrieved.flip(0)

    logits, others = model(seq, retrieved), model(seq, swapped)

    readers = slice(CHUNK - 1, None)
    assert torch.equal(logits[:, : CHUNK - 1], others[:, : CHUNK - 1])
    assert ((logits - others)[:, readers].abs().amax(-1) > 1e-3).all()
    torch.testing.assert_close(others, logits.flip(0))
    assert not torch.allclose(logits[:, readers], model(seq)[:, readers])
    for values in (retrieved, swapped):
        read = model.read(seq, model.new_cache(2), values, all_logits=True)
        torch.testing.assert_close(read, model(seq, values))


def test_swapped_neighbors_change_the_logits_of_packed_rows() -> None:
    """Mistake: the published gain did not depend on the database at all."""
    model = make_model()
    seq, retrieved = make_inputs(12)
    starts = torch.arange(0, 24, CHUNK)
    packing = Packing(torch.tensor([[0] * 12, [1] * 12]), starts)

    packed = [
        model(seq, values.flatten(0, 1), packing=packing)
        for values in (retrieved, retrieved.flip(0))
    ]

    torch.testing.assert_close(packed[0], model(seq, retrieved))
    torch.testing.assert_close(packed[1], model(seq, retrieved.flip(0)))
    assert not torch.allclose(*packed)


# ----------------------------------------------------------------------- 19 lossless tokenizer

ODD = "Mixed CASE\nand\r\n\ttabs,  two spaces \n\n\n Zażółć GĘŚLĄ 🙂 e\u0301 \u00a0 end \n"


def test_the_tokenizer_loses_nothing() -> None:
    """Mistake: newlines and case are lost by the tokenizer."""
    tokenizer = ByteLevelTokenizer.train(["some other text"], 300)

    assert tokenizer.decode(tokenizer.encode(ODD)) == ODD


def test_the_chunks_of_a_corpus_spell_its_documents(tmp_path: Path) -> None:
    """Mistake: newlines and case are lost by the tokenizer."""
    texts = {"odd.txt": ODD * 4, **random_texts(4, 20)}
    corpus = small_corpus(tmp_path, texts)
    retriever = corpus.retriever(CPU, embedder=hash_embedder)

    for number, document in enumerate(corpus.database.documents):
        own = itertools.chain(*corpus.database.document_chunks(number))
        assert "".join(retriever.chunk_text(chunk) for chunk in own) == texts[document.path]


# --------------------------------------------------------------------------- 20 short prompts


@pytest.mark.parametrize("length", [1, 5, M - 1])
def test_a_prompt_shorter_than_a_chunk_reads_neighbors(
    wrapper: TrainingWrapper, length: int
) -> None:
    """Mistake: prompts shorter than a chunk get no retrieval, or crash."""
    seen: list[Tensor] = []

    def listen(logits: Tensor, thres: float) -> Tensor:
        seen.append(logits)
        return never_ends(logits, thres)

    prompt = prompts(length)
    wrapper.generate(prompt, filter_fn=listen)

    model, padding = wrapper.retro, M - length
    values = wrapper.search.retrieved(F.pad(prompt, (padding, 0)).numpy())
    retrieved = torch.from_numpy(values)[:, None]
    with torch.no_grad():
        on, off = (
            model(prompt, given, left_padding=padding)[:, -1, 104:2000].log_softmax(-1)
            for given in (retrieved, None)
        )
    first = next(logits for logits in seen if logits.shape[-1] > SEP)
    torch.testing.assert_close(first[:, 104:2000].log_softmax(-1), on)
    assert not torch.allclose(on, off)


def test_the_first_chunk_written_after_a_short_prompt_shows_neighbors(
    generator: Generator,
) -> None:
    """Mistake: prompts shorter than a chunk get no retrieval, or crash."""
    assert len(generator.tokenizer.encode("A")) == 1
    events = generator.generate("A", SamplingConfig(max_new_tokens=2, temperature=0))

    chunks = [event.chunk for event in events if isinstance(event, ChunkEvent)]

    assert [chunk.is_prompt for chunk in chunks] == [True, False]
    assert len(chunks[1].neighbors) == 2


# ---------------------------------------------------------------------- 21 shards stay in order


def test_searching_the_key_of_a_chunk_finds_the_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mistake: shards sorted as text (0, 10, 100, 11, ...) scramble ids."""
    monkeypatch.setattr(embed_stage, "ROWS_PER_SHARD", 3)
    corpus = small_corpus(tmp_path, random_texts(8, 60))
    database = corpus.database
    ids = np.arange(database.num_retrievable)
    assert len(ids) > 100  # so the order of numbers is not that of text
    assert len(np.unique(database.chunks_CM[ids], axis=0)) == len(ids)

    found, distances = corpus.retriever(CPU, embedder=hash_embedder).search_chunks(
        database.chunks_CM[ids], 1
    )

    assert np.array_equal(found[:, 0], ids)
    assert distances.max() < 1e-6


def test_keys_of_raw_files_stay_in_the_order_of_the_chunks(
    tmp_path: Path, bert_folder: Path
) -> None:
    """Mistake: blocks of keys sorted as text scramble ids."""
    rows = random_rows(36)
    write_rows(tmp_path, rows, [0] * 36)

    index, keys_CZ = chunks_to_index_and_embed(
        num_chunks=36, chunk_size=M, chunk_memmap_path=tmp_path / "chunks.dat",
        max_rows_per_file=3, encoder=bert_folder,
    )  # fmt: skip

    wanted = [
        bert_embed(torch.tensor([[CLS, *row[:-1], SEP]]), encoder=bert_folder) for row in rows
    ]
    np.testing.assert_allclose(keys_CZ, torch.cat(wanted), atol=1e-2)
    assert index.search(np.array(keys_CZ), k=1)[1][:, 0].tolist() == list(range(36))
