"""The measurements of writing in tiny sizes: generation, retrieval and peer-generation."""

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from bench import generation, retrieval
from bench.__main__ import BENCHMARKS, GROUPS
from bench.peer import generation as peer_generation
from bench.peer.ours import Writing
from bench.peer.processes import WorkerError
from bench.peer.step import SIZES
from bench.writing import Timeline, prompt_of, sample_prompts, timed, with_whole_text, write_sample
from retro.config.sampling import SamplingConfig
from retro.data.samples import sample_documents
from retro.generation.generate import Generator
from retro.retrieval.encoder_files import find_encoder
from tests.fakes import ByteTokenizer


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return generation.make_generator(tmp_path_factory.mktemp("corpus"), generation.TINY)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_QUICK", "1")


def test_the_comparison_of_writing_belongs_to_the_group_of_the_peer() -> None:
    assert "peer-generation" in GROUPS["peer"]
    assert {"generation", "retrieval"} <= set(BENCHMARKS)


def test_every_bin_has_the_tokens_of_one_chunk_and_one_retrieval() -> None:
    sizes = generation.Sizes()
    bins = [generation.position_bin(position, sizes) for position in sizes.positions]

    assert sizes.positions == (64, 128, 256, 512)
    assert bins == [(32, 96), (96, 160), (224, 288), (448, 512)]
    for start, stop in bins:
        # With a prompt of one padded chunk, every 64th token comes after a search.
        assert sum(number % sizes.chunk_size == 0 for number in range(start, stop)) == 1


def test_a_token_takes_the_time_since_the_one_before() -> None:
    line = Timeline([0.5, 1.0, 3.0, 6.0])

    assert (line.first, line.last) == (0.5, 6.0)
    assert line.gaps(1, 4) == [0.5, 2.0, 3.0]


def test_the_time_of_a_chunk_runs_from_the_last_token_of_the_one_before() -> None:
    size = retrieval.CHUNK_SIZE
    # Searching takes 10 s before every chunk, a token takes 1 s.
    gaps = [11.0 if number % size == 0 else 1.0 for number in range(3 * size)]

    times = retrieval.chunk_times(Timeline(np.cumsum(gaps).tolist()))

    assert times == [size + 10.0] * 2


def test_prompts_have_exactly_so_many_tokens() -> None:
    assert prompt_of(ByteTokenizer(), ["ab", "word of text"], 4) == "word"
    with pytest.raises(ValueError, match="13 tokens"):
        prompt_of(ByteTokenizer(), ["ab", "word of text"], 13)


def test_the_sample_is_written_up_to_a_size_and_whole(tmp_path: Path) -> None:
    write_sample(tmp_path / "part", 10_000)
    write_sample(tmp_path / "whole")

    part = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "part").iterdir()}
    documents = {document.path: document.text for document in sample_documents("python-docs")}
    assert 10_000 <= sum(map(len, part.values())) < sum(map(len, documents.values())) / 4
    assert part.items() <= documents.items()
    assert {path.name for path in (tmp_path / "whole").iterdir()} == set(documents)


def test_the_peers_vocabulary_is_read_by_the_encoder_and_spells_every_word() -> None:
    encoder = find_encoder(None)
    made = tokenizers.Tokenizer.from_str(peer_generation.first_word_pieces(encoder, 8192))
    whole = json.loads((encoder / "tokenizer.json").read_text(encoding="utf-8"))
    ids_of = whole["model"]["vocab"]

    ids = made.encode("the parenthesized expression " * 200).ids

    assert made.get_vocab_size() == 8192
    assert len(ids) > 600
    assert max(ids) < 8192
    assert ids_of["[UNK]"] not in ids
    assert (ids[0], ids[-1]) == (101, 102)
    assert all(ids_of[made.id_to_token(id)] == id for id in set(ids))


def test_keys_are_like_those_of_an_encoder() -> None:
    rng = np.random.default_rng(1)
    mean = np.array([4.0, 0, 0, 0], np.float32)
    real = mean + rng.standard_normal((500, 4)).astype(np.float32) * [1, 1, 0.1, 0.01]
    real = (real / np.linalg.norm(real, axis=1, keepdims=True)).astype(np.float32)
    made = retrieval.NormalKeys(real, "encoder")

    keys = made.embed(np.zeros((4000, 8), np.int32))

    assert (made.width, made.fingerprint) == (4, "encoder")
    assert keys.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(keys, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(keys.mean(0), real.mean(0), atol=0.03)
    np.testing.assert_allclose(keys.std(0)[1:3], real.std(0)[1:3], rtol=0.15)
    assert len(np.unique(keys, axis=0)) == 4000


@pytest.mark.slow
def test_tokens_are_timed_as_they_come_and_no_text_ends_early(generator: Generator) -> None:
    prompt = sample_prompts(generator.tokenizer, [1])[1]
    config = with_whole_text(generator, prompt, SamplingConfig(max_new_tokens=40, num_samples=2))

    arrivals = timed(generator, prompt, config).arrivals

    assert len(arrivals) == 2 * 40
    assert arrivals == sorted(arrivals)
    assert 0 < arrivals[0] < arrivals[-1]


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_writing_is_measured_by_position_to_the_first_token_and_for_samples(
    generator: Generator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "make_generator", lambda *_: generator)

    generation.main()

    said = capsys.readouterr().out
    assert "| retrieval | ms per token | 16 | 32 | 64 | 128 | last / first | goal |" in said
    for count in (1, 16, 112):
        assert f"| {count} | on |" in said
    for number in (1, 4, 8):
        assert f"| {number} | off |" in said
    assert "| recomputed |" in said


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_retrieval_is_compared_with_a_chunk_written_without_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    retrieval.main()

    said = capsys.readouterr().out
    for row in (retrieval.KEY, retrieval.SEARCH, retrieval.ALL, "on - off"):
        assert f"| {row} |" in said
    assert "| a chunk written with retrieval off | " in said
    assert "index flat" in said


@pytest.mark.slow
def test_our_worker_writes_whole_texts_with_and_without_retrieval(tmp_path: Path) -> None:
    write_sample(tmp_path / "texts", 20_000)
    writing = Writing()

    facts = writing.prepare(
        str(tmp_path / "texts"), str(tmp_path / "corpus"), {**SIZES, "max_seq_len": 128}
    )

    assert facts["chunks"] > 20
    assert 258 < facts["vocabulary"] <= SIZES["num_tokens"]
    assert writing.write(retrieval=True) > 0
    assert writing.write(retrieval=False) > 0


class Recorded:
    """A worker that only notes what it is asked."""

    def __init__(self, name: str, asked: list[tuple[str, str]], vocabulary: int = 8192) -> None:
        self.name, self.asked, self.vocabulary = name, asked, vocabulary

    def ask(self, command: str, **_: object) -> object:
        self.asked.append((self.name, command))
        if command == "prepare_writing":
            facts = {"chunks": 7, "parameters": 10, "changes": ["a change"]}
            return {**facts, "vocabulary": self.vocabulary}
        return {"ours": 0.5, "peer": 40.0}.get(self.name, 30.0)


def test_ours_writes_before_between_and_after_the_peer(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[str, str]] = []
    workers = {name: Recorded(name, asked) for name in ("ours", *peer_generation.PEERS)}

    measured = peer_generation.measure(workers, 1)  # type: ignore[arg-type]  # asks them only
    peer_generation.report(measured, 512)

    ours, peers = ["ours"] * 2, peer_generation.PEERS
    assert [name for name, _ in asked] == [*ours, peers[0], *ours, peers[1], *ours]
    said = capsys.readouterr().out
    assert "| ours | retrieval on | 3 | 0.50 | 1024.0 | 60.0 |" in said
    assert "60.0 times as fast (goal 50: met)" in said


def test_another_vocabulary_than_the_peers_is_refused(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []
    workers = {name: Recorded(name, asked, 5000) for name in ("ours", *peer_generation.PEERS)}

    with pytest.raises(WorkerError, match="8192 tokens, got 5000"):
        peer_generation.prepare(workers, tmp_path, SIZES)  # type: ignore[arg-type]
