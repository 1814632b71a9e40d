"""What retrieval costs while writing, with a database of 100,000 chunks and preset `small`.

The database is the sample many times over, built as every corpus is. Only its keys are not those
of the encoder, which would take many minutes: they are random, with mean and covariance of real
ones.

Shape suffixes: N any number of rows, M tokens per chunk, Z key width.
"""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.sample_text import SAMPLE, whole_chunks, write_copies
from bench.timing import alternate, is_quick, medians, print_table, rounds, seconds
from bench.writing import (
    NUM_NEIGHBORS,
    Timeline,
    open_built,
    preset_generator,
    sample_prompts,
    timed,
    with_whole_text,
)
from retro.config.corpus import CorpusConfig
from retro.config.sampling import SamplingConfig
from retro.corpus.corpus import Corpus
from retro.corpus.search import open_search
from retro.data.byte_level import END_ID
from retro.data.samples import sample_documents
from retro.data.tokenizer import Tokenizer
from retro.generation.finder import NeighborFinder
from retro.generation.generate import Generator
from retro.generation.steering import NO_STEERING
from retro.model.retro.model import RETRO
from retro.retrieval.embedder import ChunkEmbedder, TextEncoder

GOAL = 0.15
CHUNK_SIZE = 64
WINDOW = 512
KEY = "key of the chunk, by the encoder"
SEARCH = "search"
ALL = "retrieval: these three"
RANDOM = "key of 64 random tokens, which a model with initial weights writes"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured."""

    preset: str = "small"
    copies: int = 58
    vocab_size: int = 4096
    real_keys: int = 1024
    """Keys of the encoder that the others are like."""
    queries: int = 32
    """Chunks that are searched with, one after the other."""
    new_tokens: int = 320


TINY = Sizes(preset="tiny", copies=1, vocab_size=2048, real_keys=16, queries=4, new_tokens=130)


class NormalKeys:
    """Keys with mean and covariance of an encoder's, without its work.

    Real keys lie in clusters, these do not, so an index has to look through more of them. They
    take the encoder's identity, so that the corpus can be searched with the encoder.
    """

    def __init__(self, real_NZ: NDArray[np.float32], fingerprint: str) -> None:
        self.width = real_NZ.shape[1]
        self.fingerprint = fingerprint
        self._mean_Z = real_NZ.mean(0)
        self._spread_NZ = (real_NZ - self._mean_Z) / np.float32(np.sqrt(len(real_NZ) - 1))
        self._rng = np.random.default_rng(0)

    def embed(self, chunks_NM: NDArray[np.int32]) -> NDArray[np.float32]:
        shape = (len(chunks_NM), len(self._spread_NZ))
        drawn_NN = self._rng.standard_normal(shape, dtype=np.float32)
        keys_NZ = self._mean_Z + drawn_NN @ self._spread_NZ
        unit_NZ: NDArray[np.float32] = keys_NZ / np.linalg.norm(keys_NZ, axis=1, keepdims=True)
        return unit_NZ


class KnownKey:
    """Stands for an embedder that takes no time."""

    def __init__(self, key_NZ: NDArray[np.float32], fingerprint: str) -> None:
        self.width = key_NZ.shape[1]
        self.fingerprint = fingerprint
        self._key_NZ = key_NZ

    def embed(self, chunks_NM: NDArray[np.int32]) -> NDArray[np.float32]:  # noqa: ARG002
        return self._key_NZ


def main() -> None:
    sizes = TINY if is_quick() else Sizes()
    with tempfile.TemporaryDirectory() as folder:
        corpus = build(Path(folder), sizes)
        generator = preset_generator(sizes.preset, corpus, WINDOW)
        info = corpus.index_info
        print(
            f"{generator.device.type}, {torch.get_num_threads()} threads, preset {sizes.preset}; "
            f"{info.num_keys} retrievable chunks of {CHUNK_SIZE} tokens; index {info.kind.value}, "
            f"effort {info.effort}, recall {info.recall:.3f}\n"
        )
        parts = retrieval_seconds(generator, corpus, sizes)
        encoding = encoding_seconds(generator)
        chunks = chunk_seconds(generator, sizes)
    report(parts, encoding, chunks)


def build(folder: Path, sizes: Sizes) -> Corpus:
    """Build the corpus; the index is trained and chosen as always."""

    def embedder(tokenizer: Tokenizer) -> NormalKeys:
        real = ChunkEmbedder(TextEncoder.open(), tokenizer)
        return NormalKeys(real.embed(sample_chunks(tokenizer, sizes.real_keys)), real.fingerprint)

    write_copies(folder / "texts", sizes.copies)
    config = CorpusConfig(
        chunk_size=CHUNK_SIZE, vocab_size=sizes.vocab_size, num_neighbors=NUM_NEIGHBORS
    )
    return open_built(folder / "texts", folder / "corpus", config, embedder)


def sample_chunks(tokenizer: Tokenizer, count: int) -> NDArray[np.int32]:
    """Return whole chunks of real text, (count, chunk_size)."""
    ids = [tokenizer.encode(document.text) for document in sample_documents(SAMPLE)]
    return whole_chunks(ids, count, CHUNK_SIZE)


def retrieval_seconds(generator: Generator, corpus: Corpus, sizes: Sizes) -> dict[str, float]:
    """Return the seconds of each part of retrieval, for one chunk of real text at a time."""
    search = open_search(
        corpus.folder,
        corpus.fingerprint,
        corpus.index_info,
        corpus.tokenizer,
        encoder=corpus.config.encoder,
        device=generator.device,
    )
    finder = NeighborFinder(
        corpus,
        generator.tokenizer,
        generator.model.chunk_size,
        NUM_NEIGHBORS,
        NO_STEERING,
        generator.device,
    )
    nothing_X2 = np.zeros((0, 2), dtype=np.int64)
    queries = [chunk_M[None] for chunk_M in sample_chunks(corpus.tokenizer, sizes.queries)]
    searches = [
        replace(search, embedder=KnownKey(search.embedder.embed(chunk_NM), search.keys.embedder))
        for chunk_NM in queries
    ]

    random_NM = np.random.default_rng(0).integers(
        END_ID + 1, corpus.tokenizer.vocab_size, (len(queries), CHUNK_SIZE), dtype=np.int32
    )

    def embed(chunks: Sequence[NDArray[np.int32]]) -> None:
        for chunk_NM in chunks:
            search.embedder.embed(chunk_NM)

    def find_keys() -> None:
        for chunk_NM, known in zip(queries, searches, strict=True):
            known.nearest(chunk_NM, NUM_NEIGHBORS, nothing_X2)

    def find() -> None:
        for chunk_NM in queries:
            finder.find(chunk_NM, [0])

    candidates: dict[str, Callable[[], object]] = {
        KEY: partial(embed, queries),
        SEARCH: find_keys,
        ALL: find,
        RANDOM: partial(embed, np.split(random_NM, len(queries))),
    }
    total = medians(candidates, rounds(5))
    parts = {name: value / len(queries) for name, value in total.items()}
    return {
        KEY: parts[KEY],
        SEARCH: parts[SEARCH],
        "values, and where they come from": parts[ALL] - parts[KEY] - parts[SEARCH],
        ALL: parts[ALL],
        RANDOM: parts[RANDOM],
    }


@torch.inference_mode()
def encoding_seconds(generator: Generator) -> float:
    """Return how much longer the token that ends a chunk takes with neighbors than without."""
    model = generator.model
    assert isinstance(model, RETRO)
    device, vocab_size = generator.device, model.config.num_tokens
    seq = torch.randint(1, vocab_size, (1, CHUNK_SIZE), device=device)
    shape = (1, 1, NUM_NEIGHBORS, 2 * CHUNK_SIZE)
    retrieved = torch.randint(1, vocab_size, shape, device=device)

    def last_token(values: torch.Tensor | None) -> float:
        cache = model.new_cache(1)
        model.read(seq[:, :-1], cache)
        return seconds(lambda: model.read(seq[:, -1:], cache, values).tolist())

    measured = alternate(
        {"on": lambda: last_token(retrieved), "off": lambda: last_token(None)}, rounds(15)
    )
    return measured["on"] - measured["off"]


def chunk_seconds(generator: Generator, sizes: Sizes) -> dict[str, float]:
    """Return the seconds of one written chunk with retrieval on and off."""
    prompt = sample_prompts(generator.tokenizer, [CHUNK_SIZE])[CHUNK_SIZE]
    ways = {"on": True, "off": False}
    lines: dict[str, list[Timeline]] = {way: [] for way in ways}
    configs = {
        way: with_whole_text(
            generator, prompt, SamplingConfig(max_new_tokens=sizes.new_tokens), retrieval=retrieval
        )
        for way, retrieval in ways.items()
    }
    for _ in range(rounds(7)):
        for way, retrieval in ways.items():
            lines[way].append(timed(generator, prompt, configs[way], retrieval=retrieval))
    return {
        way: statistics.median(value for line in lines[way] for value in chunk_times(line))
        for way in ways
    }


def chunk_times(line: Timeline) -> list[float]:
    """Return the seconds of each chunk but the first, from the last token of the one before."""
    starts = range(CHUNK_SIZE, len(line.arrivals) - CHUNK_SIZE + 1, CHUNK_SIZE)
    return [sum(line.gaps(start, start + CHUNK_SIZE)) for start in starts]


def report(parts: dict[str, float], encoding: float, chunks: dict[str, float]) -> None:
    """Print every part with its share of a chunk that is written without retrieval."""
    off, added = chunks["off"], chunks["on"] - chunks["off"]
    rows = {
        **parts,
        "encoding the neighbors for the model": encoding,
        "a chunk written with retrieval off": off,
        "a chunk written with retrieval on": chunks["on"],
        "on - off": added,
    }
    print_table(
        ["per chunk", "ms", "to a chunk with retrieval off"],
        [[name, f"{value * 1000:.2f}", f"{value / off:.1%}"] for name, value in rows.items()],
    )
    met = "met" if parts[ALL] / off <= GOAL else "missed"
    print(
        f"\nRetrieval takes {parts[ALL] / off:.1%} of a chunk's time without it (goal at most "
        f"{GOAL:.0%}: {met}). With all that neighbors bring along (encoding them, reading them for "
        f"every token, comparing with them, and keys of longer, random text) a chunk takes "
        f"{added / off:.1%} more."
    )
