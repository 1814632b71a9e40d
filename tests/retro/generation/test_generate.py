"""Generation: equal to the full forward pass, and truthful about its neighbors."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from retro.config.sampling import SamplingConfig
from retro.corpus.corpus import Corpus
from retro.errors import ArtifactMissingError, InputError
from retro.generation.events import ChunkEvent, Event, FinishEvent, TokenEvent
from retro.generation.generate import Generator
from retro.run import Run

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
PROMPT = "The climate of Arland"


@pytest.fixture(scope="module")
def run(trained_run: Run) -> Run:
    return trained_run


@pytest.fixture(scope="module")
def generator(run: Run) -> Generator:
    return Generator.open(run.path, device=CPU)


def sampling(**changes: object) -> SamplingConfig:
    return SamplingConfig(**{"max_new_tokens": 20, "seed": 3, **changes})  # type: ignore[arg-type]


def collect(events: Iterator[Event]) -> tuple[list[TokenEvent], list[ChunkEvent], FinishEvent]:
    kept = list(events)
    tokens = [event for event in kept if isinstance(event, TokenEvent)]
    chunks = [event for event in kept if isinstance(event, ChunkEvent)]
    assert isinstance(kept[-1], FinishEvent)
    return tokens, chunks, kept[-1]


@pytest.mark.parametrize("retrieval", [True, False])
@pytest.mark.parametrize("prompt", ["A", "Capital:", PROMPT, PROMPT + " is cold, very cold"])
def test_every_token_is_the_likeliest_of_a_full_forward_pass(
    generator: Generator, corpus: Corpus, prompt: str, retrieval: bool
) -> None:
    tokens, _, _ = collect(
        generator.generate(prompt, sampling(temperature=0, max_new_tokens=12), retrieval=retrieval)
    )

    sequence = generator.tokenizer.encode(prompt)
    padding = -len(sequence) % 8
    assert len(tokens) >= 5
    for event in tokens:
        retrieved = None
        if retrieval:
            whole = (len(sequence) + padding) // 8 * 8
            chunks = np.array([0] * padding + sequence, dtype=np.int32)[:whole].reshape(-1, 8)
            ids, _ = corpus.retriever(CPU).search_chunks(chunks, 2)
            values = corpus.database.retrieved_values(ids)
            retrieved = torch.from_numpy(values[None].astype(np.int64))
        logits = generator.model(torch.tensor([sequence]), retrieved, left_padding=padding)[0, -1]
        expected = logits.log_softmax(-1)[event.token_id].item()
        logits[generator.tokenizer.pad_id] = float("-inf")
        assert event.token_id == int(logits.argmax())
        assert event.logprob == pytest.approx(expected, abs=1e-4)
        sequence.append(event.token_id)


def test_a_chunk_shows_the_neighbors_found_with_the_chunk_before(
    generator: Generator, corpus: Corpus
) -> None:
    _, chunks, _ = collect(generator.generate(PROMPT, sampling(max_new_tokens=24, seed=2)))

    assert chunks[0].chunk.neighbors == []
    checked = 0
    for before, after in itertools.pairwise(chunks):
        ids = [0] * (8 - len(before.chunk.token_ids)) + before.chunk.token_ids
        found, distances = corpus.retriever(CPU).search_chunks(np.array([ids], dtype=np.int32), 2)
        shown = after.chunk.neighbors
        assert [one.chunk_id for one in shown] == found[0].tolist()
        assert [one.distance for one in shown] == pytest.approx(distances[0].tolist(), abs=1e-5)
        for one in shown:
            text = "".join(piece for piece, _ in one.text_segments)
            document = corpus.folder / "documents" / one.document
            characters = document.read_bytes().decode()
            assert text == one.text == characters[one.start : one.end]
            checked += 1
    assert checked >= 6


def test_chunks_and_tokens_spell_prompt_and_text(generator: Generator) -> None:
    tokens, chunks, finish = collect(generator.generate(PROMPT, sampling()))

    prompt = [event.chunk for event in chunks if event.chunk.is_prompt]
    written = [event.chunk for event in chunks if not event.chunk.is_prompt]
    assert "".join(chunk.text for chunk in prompt) == PROMPT
    assert [t for chunk in written for t in chunk.token_ids] == [t.token_id for t in tokens]
    assert [chunk.index for chunk in prompt + written] == list(range(len(chunks)))
    assert all(len(chunk.token_ids) == 8 for chunk in written[:-1])
    assert finish.num_tokens == len(tokens)
    nll = -sum(token.logprob for token in tokens[:8]) / 8
    assert written[0].mean_nll == pytest.approx(nll)


def test_a_character_of_several_bytes_is_never_torn(generator: Generator) -> None:
    prompt = "Zażółć 🙂 gęślą"

    _, chunks, _ = collect(generator.generate(prompt, sampling(max_new_tokens=3)))

    texts = [event.chunk.text for event in chunks if event.chunk.is_prompt]
    assert len(texts) > 1
    assert "".join(texts) == prompt


def test_a_seed_repeats_and_another_differs(generator: Generator) -> None:
    def ids(seed: int) -> list[int]:
        tokens, _, _ = collect(generator.generate(PROMPT, sampling(seed=seed, temperature=1.5)))
        return [token.token_id for token in tokens]

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)


def test_off_needs_no_corpus_and_on_says_that_it_does(run: Run) -> None:
    alone = Generator.open(run.path, device=CPU, with_corpus=False)

    tokens, chunks, _ = collect(alone.generate(PROMPT, sampling(), retrieval=False))

    assert tokens
    assert all(event.chunk.neighbors == [] for event in chunks)
    with pytest.raises(ArtifactMissingError, match="Retrieval needs a corpus"):
        next(alone.generate(PROMPT, sampling()))


def test_neighbors_change_what_is_written(generator: Generator) -> None:
    def probabilities(retrieval: bool) -> list[float]:
        tokens, _, _ = collect(
            generator.generate(PROMPT, sampling(max_new_tokens=3), retrieval=retrieval)
        )
        return [token.logprob for token in tokens]

    assert probabilities(True) != probabilities(False)


def test_stopping_keeps_what_was_written(generator: Generator) -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    tokens, chunks, finish = collect(
        generator.generate(PROMPT, sampling(temperature=0), should_stop=should_stop)
    )

    assert (finish.reason, finish.num_tokens) == ("stopped", 3)
    assert chunks[-1].chunk.token_ids == [token.token_id for token in tokens]


def test_beyond_the_window_the_older_half_is_forgotten(
    generator: Generator, corpus: Corpus
) -> None:
    config = sampling(max_new_tokens=70, temperature=1.0)
    # The end token would end the text early: take a seed that never draws it.
    for seed in range(50):
        tokens, chunks, finish = collect(
            generator.generate(PROMPT, sampling(max_new_tokens=70, temperature=1.0, seed=seed))
        )
        if finish.reason == "length":
            break
    assert finish.slid
    assert finish.num_tokens == len(tokens) == config.max_new_tokens

    # The window is full for the first time when 32 tokens are read.
    prompt = generator.tokenizer.encode(PROMPT)
    padding = -len(prompt) % 8
    sequence = (prompt + [token.token_id for token in tokens])[:33]
    kept = sequence[16 - padding :]
    grid = np.array(kept[: len(kept) // 8 * 8], dtype=np.int32).reshape(-1, 8)
    ids, _ = corpus.retriever(CPU).search_chunks(grid, 2)
    values = torch.from_numpy(corpus.database.retrieved_values(ids)[None].astype(np.int64))
    logits = generator.model(torch.tensor([kept]), values)[0, -1]
    following = tokens[33 - len(prompt)]
    expected = logits.log_softmax(-1)[following.token_id].item()
    assert following.logprob == pytest.approx(expected, abs=1e-4)
    assert len(chunks) == -(-(len(prompt) + padding + 70) // 8)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "at least one character, got none"),
        ("x" * 500, "window of 32 tokens, got 500"),
        ("\ud800", "surrogate"),
    ],
)
def test_prompts_that_cannot_be_used_are_refused(
    generator: Generator, prompt: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        next(generator.generate(prompt, sampling()))


@pytest.mark.parametrize("prompt", ["\0", "‮ right to left", "�", "<script>", " "])
def test_odd_prompts_are_continued(generator: Generator, prompt: str) -> None:
    _, chunks, _ = collect(generator.generate(prompt, sampling(max_new_tokens=2)))

    texts = [event.chunk.text for event in chunks if event.chunk.is_prompt]
    assert "".join(texts) == prompt
    assert not chunks[-1].chunk.is_prompt


def test_a_missing_checkpoint_is_named_with_those_there_are(run: Run) -> None:
    with pytest.raises(ArtifactMissingError, match=r"no checkpoint of step 5; it has .*40"):
        Generator.open(run.path, step=5, device=CPU)
