"""Several texts side by side, stop strings, settings, scores the other way, colors."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from retro.data.byte_level import ByteLevelTokenizer
from retro.errors import ArtifactMissingError
from retro.generation.generate import Generator
from retro.generation.overlap import run_lengths
from retro.generation.prefix import Prefix
from retro.generation.steering import GivenNeighbor, Steering
from retro.retrieval.retriever import Retriever
from retro.run import Run
from tests.retro.generation.conftest import CPU, PROMPT, by_sample, never_ends, sampling, write
from tests.support.scripted_model import scripted

pytestmark = pytest.mark.slow


def test_texts_side_by_side_are_those_of_their_seeds(generator: Generator) -> None:
    config = sampling(num_samples=3, max_new_tokens=40)

    samples = by_sample(generator.generate(PROMPT, config, score_other=True), 3)

    alone = [
        write(generator, max_new_tokens=40, seed=3 + number, score_other=True)
        for number in range(3)
    ]
    assert [sample.ids for sample in samples] == [one.ids for one in alone]
    assert len({tuple(sample.ids) for sample in samples}) == 3
    for sample, one in zip(samples, alone, strict=True):
        assert [chunk["segments"] for chunk in sample.stored] == [
            chunk["segments"] for chunk in one.stored
        ]
        for chunk, expected in zip(sample.stored, one.stored, strict=True):
            for values in ("logprobs", "other_logprobs"):
                assert chunk[values] == pytest.approx(expected[values], abs=1e-4), values
            for name in ("attention_share", "continuation_share"):
                shares = [[item[name] for item in side["neighbors"]] for side in (chunk, expected)]
                assert shares[0] == pytest.approx(shares[1], abs=1e-4), name


def test_a_text_that_ends_early_leaves_the_others_alone(trained_run: Run) -> None:
    generator = Generator.open(trained_run.path, device=CPU)
    config = sampling(num_samples=6, max_new_tokens=40)

    samples = by_sample(generator.generate(PROMPT, config), 6)

    assert {sample.reason for sample in samples} == {"end", "length"}
    for number, sample in enumerate(samples):
        assert sample.ids == write(generator, max_new_tokens=40, seed=3 + number).ids


def test_without_the_fast_step_the_text_is_the_same(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = write(generator, max_new_tokens=60)
    monkeypatch.setattr(generator, "_readers", {False: None})

    slow = write(generator, max_new_tokens=60)

    assert fast.ids == slow.ids
    for one, other in zip(fast.chunks, slow.chunks, strict=True):
        assert one.chunk.logprobs == pytest.approx(other.chunk.logprobs, abs=1e-4)


def texts_of(generator: Generator, **settings: object) -> str:
    return write(generator, max_new_tokens=60, **settings).text


def test_the_text_ends_in_front_of_a_stop_string(generator: Generator) -> None:
    tokenizer = generator.tokenizer
    text = " of Arland is mild, \u00e4nd \u2603 \U0001f327 often. The \u6f22\u5b57 river is wide."
    says = scripted(tokenizer, PROMPT, text)
    # Strings of several lengths from every place, within a token and over chunk borders.
    borders = 0
    for place, size in itertools.product(range(len(text) - 12), (1, 2, 5, 12)):
        stop = text[place : place + size]
        expected = text[: text.index(stop)]

        written = write(says, max_new_tokens=60, retrieval=False, stop=("never there", stop))

        assert written.text == expected
        assert written.reason == "stop"
        assert "".join(event.text for event in written.tokens) == expected
        told = [t for e in written.chunks if not e.chunk.is_prompt for t in e.chunk.token_ids]
        assert told == written.ids
        assert [start.index for start in written.starts] == [
            event.chunk.index for event in written.chunks
        ]
        assert written.finish is not None
        assert written.finish.num_tokens == len(written.tokens)
        borders += bool(told) and len(written.chunks[-1].chunk.token_ids) == 8
    assert borders


def test_the_end_token_ends_a_text_without_being_a_part_of_it(trained_run: Run) -> None:
    says = scripted(ByteLevelTokenizer.load(trained_run.tokenizer_dir), PROMPT, " is mild.")

    written = write(says, max_new_tokens=60, retrieval=False)

    assert (written.text, written.reason) == (" is mild.", "end")


@pytest.mark.parametrize("place", [9, 23, 40])
def test_a_text_that_a_stop_string_cut_is_told_like_one_of_that_length(
    generator: Generator, place: int
) -> None:
    stop = texts_of(generator)[place : place + 12]

    cut = write(generator, max_new_tokens=60, stop=(stop,), score_other=True)

    short = write(generator, max_new_tokens=len(cut.ids), score_other=True)
    assert cut.reason == "stop"
    assert cut.ids == short.ids
    for one, other in zip(cut.stored, short.stored, strict=True):
        for name in ("index", "token_ids", "is_prompt", "runs"):
            assert one[name] == other[name], name
        for values in ("logprobs", "other_logprobs"):
            assert one[values] == pytest.approx(other[values], abs=1e-4), values
        for name in ("attention_share", "continuation_share"):
            shares = [[item[name] for item in side["neighbors"]] for side in (one, other)]
            assert shares[0] == pytest.approx(shares[1], abs=1e-5), name


def test_a_stop_string_that_never_comes_holds_nothing_back_at_the_end(
    generator: Generator,
) -> None:
    free = texts_of(generator)

    # The text ends with the beginning of this one.
    assert texts_of(generator, stop=(free[-4:] + "zzz",)) == free


def test_tokens_are_told_as_soon_as_they_are_safe(generator: Generator) -> None:
    written = 0

    def count() -> bool:
        nonlocal written
        written += 1
        return False

    lags = [
        written - number
        for number, _ in enumerate(
            event
            for event in generator.generate(
                PROMPT, sampling(stop=("never there",)), should_stop=count
            )
            if type(event).__name__ == "TokenEvent"
        )
    ]
    assert len(lags) == 20
    assert max(lags) <= 4


@pytest.mark.parametrize("stops", [False, True])
def test_a_text_that_ends_inside_a_character_shows_that(generator: Generator, stops: bool) -> None:
    cut = 0
    # Tokens that are nearly random, single bytes among them; no length ends with a chunk.
    for length in [*range(1, 8), *range(9, 16)]:
        asked = itertools.count(1)
        written = write(
            generator,
            "Capital:",
            max_new_tokens=length + stops,
            temperature=100.0,
            should_stop=lambda asked=asked, length=length: stops and next(asked) > length,
        )

        assert len(written.ids) == length
        prompt = generator.tokenizer.encode("Capital:")
        whole = generator.tokenizer.decode([*prompt, *written.ids])
        assert "Capital:" + written.text == whole
        cut += written.text != "".join(event.text for event in written.tokens)
    assert cut


def test_greedy_takes_the_likeliest_and_needs_no_seed(generator: Generator) -> None:
    first, second = (texts_of(generator, temperature=0, seed=seed) for seed in (1, 2))

    assert first == second


def test_the_repetition_penalty_reduces_repetition(generator: Generator) -> None:
    def distinct(penalty: float) -> int:
        ids = write(generator, max_new_tokens=60, temperature=0, repetition_penalty=penalty).ids
        return len(set(ids))

    assert distinct(1.8) > distinct(1.0)
    # Nothing is said twice, and nothing that the prompt has.
    strong = write(generator, max_new_tokens=25, temperature=0, repetition_penalty=10.0).ids
    assert len({*generator.tokenizer.encode(PROMPT), *strong}) == len(
        {*generator.tokenizer.encode(PROMPT)}
    ) + len(strong)


@pytest.mark.parametrize("retrieval", [True, False])
def test_other_log_probabilities_are_those_of_the_same_tokens_the_other_way(
    generator: Generator, retrieval: bool
) -> None:
    written = write(generator, max_new_tokens=14, retrieval=retrieval, score_other=True)

    chunks = [event.chunk for event in written.chunks]
    sequence = [token for chunk in chunks for token in chunk.token_ids]
    padding = -len(chunks[0].token_ids) % 8
    retrieved = None
    if not retrieval:
        assert generator.corpus is not None
        whole = (len(sequence) + padding) // 8 * 8
        grid = np.array([0] * padding + sequence, dtype=np.int32)[:whole].reshape(-1, 8)
        ids, _ = generator.corpus.retriever(CPU).search_chunks(grid, 2)
        values = generator.corpus.database.retrieved_values(ids)
        retrieved = torch.from_numpy(values[None].astype(np.int64))
    with torch.inference_mode():
        logits = generator.model(torch.tensor([sequence]), retrieved, left_padding=padding)[0]
    expected = logits.log_softmax(-1)[range(len(sequence) - 1), sequence[1:]]
    others = [value for chunk in chunks for value in chunk.other_logprobs or []]
    assert others[0] is None
    assert others[1:] == pytest.approx(expected.tolist(), abs=1e-4)
    own = [value for chunk in chunks for value in chunk.logprobs]
    assert own[-8:] != pytest.approx(others[-8:], abs=1e-4)


def test_the_other_way_reads_what_is_stored_and_what_was_given_by_hand(
    generator: Generator,
) -> None:
    prompt, hand, rest = "Capital:", "Zdravo", " is"
    steering = Steering(given={1: (GivenNeighbor(text="Bergen"),)})
    begun = write(generator, prompt, max_new_tokens=13, steering=steering)

    more = write(
        generator,
        Prefix.from_chunks(begun.stored),
        max_new_tokens=9,
        retrieval=False,
        score_other=True,
        steering=Steering(given={3: (GivenNeighbor(text=hand, continuation=rest),)}),
    )

    sequence = generator.tokenizer.encode(prompt) + begun.ids + more.ids
    values = np.zeros((1, 3, 2, 16), dtype=np.int64)
    for row, event in enumerate(begun.chunks[1:]):
        for rank, one in enumerate(event.chunk.neighbors):
            values[0, row, rank, : len(one.token_ids)] = one.token_ids
            after = one.continuation_token_ids
            values[0, row, rank, 8 : 8 + len(after)] = after
    hand_ids = generator.tokenizer.encode(hand)
    values[0, 2, 0, : len(hand_ids)] = hand_ids
    rest_ids = generator.tokenizer.encode(rest)
    values[0, 2, 0, 8 : 8 + len(rest_ids)] = rest_ids
    padding = -len(begun.chunks[0].chunk.token_ids) % 8
    with torch.inference_mode():
        read = torch.tensor([sequence]), torch.from_numpy(values)
        logits = generator.model(*read, left_padding=padding)[0]
    expected = logits.log_softmax(-1)[range(len(sequence) - 1), sequence[1:]][-9:]
    others = [value for event in more.chunks for value in event.chunk.other_logprobs or []]
    assert others[:5] == [None] * 5
    assert others[5:] == pytest.approx(expected.tolist(), abs=1e-4)


def test_off_touches_neither_encoder_nor_index(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(*_: object, **__: object) -> None:
        raise AssertionError("searched")

    monkeypatch.setattr(Retriever, "search_chunks", search)

    assert write(generator, retrieval=False, max_new_tokens=30).ids
    with pytest.raises(AssertionError, match="searched"):
        write(generator)


def test_scores_the_other_way_need_a_corpus(trained_run: Run) -> None:
    alone = Generator.open(trained_run.path, device=CPU, with_corpus=False)
    never_ends(alone)

    assert write(alone, retrieval=False).chunks[-1].chunk.other_logprobs is None
    with pytest.raises(ArtifactMissingError, match="Retrieval needs a corpus"):
        write(alone, retrieval=False, score_other=True)


def test_each_chunk_is_searched_once(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []
    search = Retriever.search_chunks

    def counted(self: Retriever, chunks_NM: np.ndarray, *args: object, **options: object) -> object:
        searched.append(len(chunks_NM))
        return search(self, chunks_NM, *args, **options)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(Retriever, "search_chunks", counted)
    num_prompt = -(-len(generator.tokenizer.encode(PROMPT)) // 8)

    by_sample(generator.generate(PROMPT, sampling(num_samples=2, max_new_tokens=25)), 2)

    # All chunks of the prompt at once, then one of each text whenever a chunk is complete.
    assert searched == [num_prompt, 2, 2, 2]


def test_colors_and_runs_equal_a_plain_comparison(generator: Generator) -> None:
    written = write(generator, max_new_tokens=60, temperature=0.5)

    checked = copied = 0
    for event in written.chunks:
        chunk = event.chunk
        sources = [one.value_ids for one in chunk.neighbors]
        assert [run for _, run in chunk.segments] == plain_runs(chunk.token_ids, sources)
        for one in chunk.neighbors:
            colors = [run for _, run in one.text_segments + one.continuation_segments]
            assert colors == plain_runs(one.value_ids, [chunk.token_ids])
        for run in chunk.runs:
            tokens = chunk.token_ids[run.start : run.end]
            assert run.places
            for place in run.places:
                value = sources[place.source]
                assert value[place.start : place.start + len(tokens)] == tokens
            checked += 1
            copied += len(tokens) >= 3
        covered = {t for run in chunk.runs for t in range(run.start, run.end)}
        assert covered == {t for t, (_, run) in enumerate(chunk.segments) if run}
    assert checked > 10
    assert copied


def plain_runs(tokens: list[int], sources: list[list[int]]) -> list[int]:
    def occurs(run: list[int]) -> bool:
        return any(s[i : i + len(run)] == run for s in sources for i in range(len(s)))

    return [
        max((n for n in range(1, end + 1) if occurs(tokens[end - n : end])), default=0)
        for end in range(1, len(tokens) + 1)
    ]


def test_runs_told_while_writing_are_those_of_the_chunk(generator: Generator) -> None:
    written = write(generator, max_new_tokens=60, temperature=0.5)

    chunks = [event.chunk for event in written.chunks if not event.chunk.is_prompt]
    told = [event.run for event in written.tokens]
    assert told == [run for chunk in chunks for _, run in chunk.segments]
    assert any(told)
    assert run_lengths([], []) == []


@pytest.mark.parametrize(("prompt", "length"), [(PROMPT, 21), (PROMPT + " is cold, very cold", 10)])
def test_attention_shares_are_the_mean_over_the_tokens_of_the_chunk(
    generator: Generator, prompt: str, length: int
) -> None:
    written = write(generator, prompt, max_new_tokens=length)

    chunks = [event.chunk for event in written.chunks]
    sequence = [token for chunk in chunks for token in chunk.token_ids]
    padding = -len(chunks[0].token_ids) % 8
    assert generator.corpus is not None
    whole = (len(sequence) + padding) // 8 * 8
    grid = np.array([0] * padding + sequence, dtype=np.int32)[:whole].reshape(-1, 8)
    ids, _ = generator.corpus.retriever(CPU).search_chunks(grid, 2)
    values = torch.from_numpy(generator.corpus.database.retrieved_values(ids)[None].astype("i8"))
    with torch.inference_mode():
        cache = generator.model.new_cache(1, left_padding=padding, keeps_shares=True)
        ids_BT = torch.tensor([sequence])
        logits = generator.model.read(ids_BT, cache, values, all_logits=True)[0]
    logprobs = logits.log_softmax(-1)[range(len(sequence) - 1), sequence[1:]].tolist()
    told = [value for chunk in chunks for value in chunk.logprobs]
    assert told[0] is None
    assert told[1:] == pytest.approx(logprobs, abs=1e-4)
    assert cache.share_BTK2 is not None
    start = len(chunks[0].token_ids)
    for chunk in chunks[1:]:
        stop = start + len(chunk.token_ids)
        # The state before a token predicts it.
        expected = cache.share_BTK2[0, start - 1 : stop - 1].mean(0)
        found = [one.attention_share for one in chunk.neighbors]
        rest = [one.continuation_share for one in chunk.neighbors]
        assert found == pytest.approx(expected.sum(-1).tolist(), abs=1e-5)
        assert rest == pytest.approx(expected[:, 1].tolist(), abs=1e-5)
        assert sum(share or 0 for share in found) == pytest.approx(1, abs=1e-5)
        start = stop
    assert chunks[0].neighbors == []


def test_shares_of_a_prompt_whose_chunks_have_different_numbers_of_neighbors(
    generator: Generator,
) -> None:
    given = (GivenNeighbor(text="Capital"), GivenNeighbor(chunk_id=3), GivenNeighbor(text="a"))
    prompt = PROMPT + " is cold, very cold"
    free = write(generator, prompt)

    written = write(generator, prompt, steering=Steering(given={1: given}))

    assert written.chunks[1].chunk.is_prompt
    assert [one.rank for one in written.chunks[1].chunk.neighbors] == [1, 2, 3]
    # The next chunk's are found with the chunk before it, as ever.
    ids = [[one.chunk_id for one in side.chunks[2].chunk.neighbors] for side in (free, written)]
    assert ids[0] == ids[1]

    shares = [[one.attention_share for one in event.chunk.neighbors] for event in written.chunks]
    assert [len(shares[index]) for index in (0, 1, 2, 3)] == [0, 3, 2, 2]
    for found in shares[1:]:
        assert sum(share or 0 for share in found) == pytest.approx(1, abs=1e-5)


def test_neighbors_are_told_before_the_tokens_that_read_them(generator: Generator) -> None:
    events = list(generator.generate(PROMPT, sampling(max_new_tokens=20)))

    names = [type(event).__name__ for event in events]
    prompt = names.index("TokenEvent") - 1
    assert names[:prompt] == ["ChunkStart", "ChunkEvent"] * (prompt // 2)
    grouped = [name for name, _ in itertools.groupby(names[prompt:])]
    assert grouped == ["ChunkStart", "TokenEvent", "ChunkEvent"] * 3 + ["FinishEvent"]


def test_a_stopped_text_can_go_on(generator: Generator) -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 13

    stopped = write(generator, max_new_tokens=40, should_stop=should_stop)
    assert (stopped.reason, len(stopped.ids)) == ("stopped", 13)

    more = write(generator, Prefix.from_chunks(stopped.stored), max_new_tokens=27)

    assert stopped.ids + more.ids == write(generator, max_new_tokens=40).ids


def test_a_corpus_that_disappears_keeps_what_was_written(trained_run: Run, tmp_path: Path) -> None:
    """The arrays stay readable; only what was never opened is missing."""
    copy = tmp_path / "corpus"
    shutil.copytree(trained_run.corpus_path, copy)
    generator = Generator.open(trained_run.path, corpus_dir=copy, device=CPU)
    never_ends(generator)
    events = generator.generate(PROMPT, sampling(max_new_tokens=40))
    first = [next(events) for _ in range(8)]
    shutil.rmtree(copy)

    rest = list(events)

    whole = write(generator, max_new_tokens=40)
    assert by_sample([*first, *rest])[0].ids == whole.ids
