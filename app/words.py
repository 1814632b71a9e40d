"""A generation in words, the same on pages and in exports: plain text, to be escaped there."""

from collections.abc import Iterator, Mapping
from typing import Any

from app.figures import Text, longest_copied_run, mean_logprob, mode_of
from app.format import count, number, percent
from app.services.views.base import Json
from app.services.views.generations import Generation, GenerationSummary
from retro.generation.events import OutputChunk, ShownNeighbor
from retro.generation.overlap import COPIED_RUN

MOST_NAMED = 6
"""Exclusions that are listed one by one."""

REASON_WORDS = {
    "length": "length reached",
    "end": "ended by the model",
    "stop": "ended before a stop string",
    "stopped": "stopped",
}
OWN_ENDS = {
    "end": "The model ended this text. Regenerate from a chunk for another end.",
    "stop": "A stop string ended this text. Regenerate from a chunk for another end.",
}
SETTING_WORDS = {
    "seed": "seed",
    "checkpoint_step": "checkpoint",
    "max_new_tokens": "length",
    "num_neighbors": "neighbors",
    "temperature": "temperature",
    "top_p": "top-p",
    "top_k": "top-k",
    "min_p": "min-p",
    "repetition_penalty": "repetition penalty",
    "num_samples": "texts",
}
SOURCE_WORDS = {"chosen": "chosen by hand", "edited": "edited", "written": "written by hand"}


def setting_words(generation: GenerationSummary) -> Iterator[str]:
    """Yield the settings that a text was written with; those that do nothing are left out."""
    settings = generation.settings
    quiet = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "num_samples": 1}
    if mode_of(generation) == "off":
        quiet["num_neighbors"] = settings.get("num_neighbors", 0)
    for name, words in SETTING_WORDS.items():
        value = settings.get(name)
        if value is not None and value != quiet.get(name):
            yield f"{words} {value:,}" if isinstance(value, int) else f"{words} {value:g}"
    if settings.get("fast"):
        yield "weights of 8 bits"
    for text in settings.get("stop") or ():
        yield f"stop string {text!r}"


def own_end(finish: Json) -> str:
    """Return why a text cannot be continued, nothing if it can.

    Args:
        finish: How it ended, as in the result of its generation.
    """
    return OWN_ENDS.get(str(finish.get("reason")), "")


def text_title(generation: Generation, text: Text, place: int) -> str:
    """Return what a text of a generation is called."""
    side = "retrieval on" if text.has_retrieval else "retrieval off"
    if mode_of(generation) == "both" or not generation.samples:
        return f"Text, {side}"
    return f"Text {place + 1}, {side}, seed {text.seed}"


def text_words(text: Text) -> Iterator[str]:
    """Yield the figures of a text."""
    yield count(text.num_written, "token")
    if text.has_retrieval and text.copied_share is not None:
        yield f"copied {percent(text.copied_share)}"
    yield from _logprob_words(text.has_retrieval, text.mean_logprob, text.other_mean_logprob)
    if text.distinct_pairs is not None:
        yield f"distinct-2 {number(text.distinct_pairs)}"
    if text.seconds_per_chunk is not None:
        yield f"{number(text.seconds_per_chunk)} s per chunk"
    if reason := REASON_WORDS.get(str(text.finish.get("reason"))):
        yield reason
    if text.finish.get("slid"):
        yield "longer than the window of the model"


def _logprob_words(has_retrieval: bool, own: float | None, other: float | None) -> Iterator[str]:
    if own is not None and other is not None:
        on, off = (own, other) if has_retrieval else (other, own)
        yield f"mean log-prob with retrieval on {number(on)}, off {number(off)}"
    elif own is not None:
        yield f"mean log-prob {number(own)}"


def chunk_words(text: Text, chunk: OutputChunk) -> Iterator[str]:
    """Yield the facts about a chunk."""
    first = text.first_token(chunk.index)
    yield f"tokens {first:,}-{first + len(chunk.token_ids) - 1:,}"
    if chunk.is_prompt:
        yield "prompt"
    if chunk.neighbors:
        yield f"copied {percent(chunk.copied_fraction)}"
    elif text.has_retrieval:
        yield "no neighbors"
    own, other = mean_logprob([chunk]), mean_logprob([chunk], other=True)
    yield from _logprob_words(text.has_retrieval, own, other)


def place_words(neighbor: ShownNeighbor) -> Iterator[str]:
    """Yield where a neighbor stands and how far it is."""
    if neighbor.num_chunks and neighbor.chunk_index is not None:
        yield f"chunk {neighbor.chunk_index + 1:,} of {neighbor.num_chunks:,}"
    if neighbor.start is not None:
        yield f"characters {neighbor.start:,}-{neighbor.end:,}"
    if neighbor.distance is not None:
        yield f"distance {neighbor.distance:.3f}, lower is nearer"


def attention_words(neighbor: ShownNeighbor) -> str:
    """Return what a neighbor got of the cross-attention; nothing where that is not known."""
    share = neighbor.attention_share
    if share is None:
        return ""
    after = neighbor.continuation_share
    on_it = f", {percent(after)} on its continuation" if after else ""
    return f"{percent(share)} of attention{on_it}"


def neighbor_words(neighbor: ShownNeighbor) -> Iterator[str]:
    """Yield the facts about a neighbor, without its text."""
    yield from place_words(neighbor)
    if words := attention_words(neighbor):
        yield words


def steering_of(generation: GenerationSummary) -> Json:
    """Return what was changed about retrieval; empty for nothing."""
    return generation.settings.get("steering") or {}


def exclusion_words(generation: GenerationSummary, names: Mapping[int, str]) -> list[str]:
    """Return what was left out.

    Args:
        generation: The generation.
        names: Chunk id to what the chunk is called, where that is known.
    """
    steering = steering_of(generation)
    named = [
        f"neighbor {names[one]}" if one in names else f"chunk {one}"
        for one in steering.get("exclude_chunks") or []
    ]
    named += [f"document {path}" for path in steering.get("exclude_documents") or []]
    if len(named) > MOST_NAMED:
        return [*named[:MOST_NAMED], f"{len(named) - MOST_NAMED:,} more"]
    return named


def has_given_neighbors(generation: GenerationSummary) -> bool:
    """Return whether the chunk that a text branched at was written from neighbors set by hand."""
    given = steering_of(generation).get("given") or {}
    return str(generation.branch_index) in given


def origin_words(generation: GenerationSummary) -> str:
    """Return where a text comes from and what was changed; nothing for one of its own."""
    words = exclusion_words(generation, {})
    without = f"without {', '.join(words)}" if words else ""
    if generation.parent_id is None:
        return without.capitalize()
    start = (generation.branch_index or 0) + 1
    parts = [f"From chunk {start:,} on another version of text {generation.parent_id}", without]
    if has_given_neighbors(generation):
        parts.append("with neighbors set by hand")
    return ", ".join(part for part in parts if part)


def labels(chunk: OutputChunk, neighbor: ShownNeighbor) -> list[str]:
    """Return what is remarkable about a neighbor, in a few words each."""
    others = [one for one in chunk.neighbors if one.rank != neighbor.rank]
    found = []
    if neighbor.source in SOURCE_WORDS:
        found.append(SOURCE_WORDS[neighbor.source])
    if neighbor.document and neighbor.document in [one.document for one in others]:
        found.append("same document")
    nearer = [one for one in others if one.rank < neighbor.rank]
    if _tokens(neighbor) in [_tokens(one) for one in nearer]:
        found.append("duplicate")
    run = longest_copied_run(chunk, neighbor)
    if run >= COPIED_RUN:
        found.append(f"copied run, {run} tokens")
    return found


def _tokens(neighbor: ShownNeighbor) -> Any:
    return neighbor.token_ids or neighbor.text
