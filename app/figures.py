"""A generation taken apart: its texts, with the figures that pages and exports show.

Rows that were written by earlier versions lack some of the fields; everything here gets by
without them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from app.services.views.base import Json
from app.services.views.generations import Generation, GenerationSummary, Sample
from retro.generation.events import OutputChunk, ShownNeighbor


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """One text of a generation; there are several with *both* and with several samples."""

    variant: str
    """``on`` or ``off``, with ``:`` and the number of the sample beyond the first."""
    seed: int
    chunks: Sequence[OutputChunk]
    finish: Json
    """How it ended: ``reason``, ``num_tokens``, ``seconds``, ``slid``; empty before the end."""

    @property
    def has_retrieval(self) -> bool:
        """Whether it was written with retrieval."""
        return self.variant.startswith("on")

    @property
    def written(self) -> list[OutputChunk]:
        """The chunks behind the prompt."""
        return [chunk for chunk in self.chunks if not chunk.is_prompt]

    @property
    def num_written(self) -> int:
        """Tokens behind the prompt."""
        return sum(len(chunk.token_ids) for chunk in self.written)

    @property
    def copied_share(self) -> float | None:
        """Share of the written tokens in runs of five or more that occur in the neighbors."""
        total = self.num_written
        copied = sum(c.copied_fraction * len(c.token_ids) for c in self.written)
        return copied / total if total else None

    @property
    def mean_logprob(self) -> float | None:
        """Mean log-probability of the written tokens in nats."""
        return mean_logprob(self.written)

    @property
    def other_mean_logprob(self) -> float | None:
        """The same with retrieval the other way; None where that was not measured."""
        return mean_logprob(self.written, other=True)

    @property
    def distinct_pairs(self) -> float | None:
        """Share of the pairs of tokens next to each other that are different pairs (distinct-2)."""
        tokens = [token for chunk in self.written for token in chunk.token_ids]
        pairs = list(pairwise(tokens))
        return len(set(pairs)) / len(pairs) if pairs else None

    @property
    def seconds_per_chunk(self) -> float | None:
        """Seconds for each chunk that was written in this generation; None before the end."""
        seconds, num_tokens = self.finish.get("seconds"), self.finish.get("num_tokens")
        longest = max((len(chunk.token_ids) for chunk in self.chunks), default=0)
        return seconds * longest / num_tokens if seconds and num_tokens and longest else None

    def first_token(self, index: int) -> int:
        """Return the position of a chunk's first token in the text, from 1."""
        return 1 + sum(len(chunk.token_ids) for chunk in self.chunks if chunk.index < index)


def texts_of(generation: Generation) -> list[Text]:
    """Return the texts of a generation: one, one per side, or one per sample."""
    mode = mode_of(generation)
    if mode == "both":
        sides = (("on", generation.on), ("off", generation.off))
        return [_text(generation, side, variant) for variant, side in sides]
    samples: Sequence[Generation | Sample] = generation.samples or [generation]
    return [
        _text(generation, sample, mode if number == 0 else f"{mode}:{number}")
        for number, sample in enumerate(samples)
    ]


def _text(generation: Generation, text: Generation | Sample, variant: str) -> Text:
    return Text(
        variant=variant,
        seed=text.seed,
        chunks=[OutputChunk.from_dict(chunk) for chunk in text.chunks],
        finish=(generation.result or {}).get(variant) or {},
    )


def mode_of(generation: GenerationSummary) -> str:
    """Return ``on``, ``off`` or ``both``."""
    return str(generation.settings.get("retrieval", "on"))


def mean_logprob(chunks: Sequence[OutputChunk], *, other: bool = False) -> float | None:
    """Return the mean log-probability of the tokens of some chunks in nats.

    Args:
        chunks: The chunks.
        other: Take the values with retrieval the other way.

    Returns:
        The mean over all tokens whose value is known; None if there are none.
    """
    total, num_tokens = 0.0, 0
    for chunk in chunks:
        values = chunk.other_logprobs or [] if other else chunk.logprobs
        known = [value for value in values if value is not None]
        if not known and not other and chunk.mean_nll is not None:
            known = [-chunk.mean_nll] * len(chunk.token_ids)
        total, num_tokens = total + sum(known), num_tokens + len(known)
    return total / num_tokens if num_tokens else None


def is_inherited(generation: GenerationSummary, chunk: OutputChunk) -> bool:
    """Return whether a chunk was taken over from the text that this one branched from."""
    return generation.parent_id is not None and chunk.index < (generation.branch_index or 0)


def longest_copied_run(chunk: OutputChunk, neighbor: ShownNeighbor) -> int:
    """Return the length of the longest run that a chunk shares with one of its neighbors."""
    here = [
        run.end - run.start
        for run in chunk.runs
        if any(place.source + 1 == neighbor.rank for place in run.places)
    ]
    pieces = [*neighbor.text_segments, *neighbor.continuation_segments]
    return max([*here, *(length for _, length in pieces)], default=0)


def runs_in_chunk(chunk: OutputChunk) -> list[list[int]]:
    """Return, for each token of a chunk, the numbers of the runs it lies in, longest first."""
    spans = [(number, run.start, run.end) for number, run in enumerate(chunk.runs)]
    return _by_token(spans, len(chunk.segments))


def runs_in_neighbor(
    chunk: OutputChunk, neighbor: ShownNeighbor
) -> tuple[list[list[int]], list[list[int]]]:
    """Return the same for the tokens of a neighbor's text and of its continuation."""
    num_own = len(neighbor.text_segments)
    num_all = num_own + len(neighbor.continuation_segments)
    spans = [
        (number, place.start, place.start + run.end - run.start)
        for number, run in enumerate(chunk.runs)
        for place in run.places
        if place.source + 1 == neighbor.rank
    ]
    found = _by_token(spans, num_all)
    return found[:num_own], found[num_own:]


def _by_token(spans: Sequence[tuple[int, int, int]], num_tokens: int) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in range(num_tokens)]
    for number, start, end in sorted(spans, key=lambda span: span[1] - span[2]):
        for token in found[start:end]:
            if number not in token:
                token.append(number)
    return found
