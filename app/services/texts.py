"""Generations as pages and REST routes get them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.services.live import RETRIEVAL_MODES, split_variant, variants_of
from app.services.views.base import Json, plain
from app.services.views.generations import Generation, GenerationSummary
from jobs.store.rows import GenerationRow


def generation_of(row: GenerationRow) -> Generation:
    """Return a generation with its chunks.

    Its samples are under ``samples`` where there are several; with retrieval "both", one text
    is under ``on`` and one under ``off``.
    """
    return Generation.model_validate(_filled(outline(row), row.chunks))


@dataclass(frozen=True, slots=True)
class TextOf:
    """Stands in an outline for a whole text."""

    variant: str


@dataclass(frozen=True, slots=True)
class ChunksOf:
    """Stands in an outline for the list of a text's chunks."""

    variant: str


def outline(row: GenerationRow) -> Json:
    """Return a generation as JSON, with ``TextOf`` and ``ChunksOf`` where texts and chunks go."""
    summary = plain(GenerationSummary.of(row))
    modes = RETRIEVAL_MODES[row.settings["retrieval"]]
    if len(modes) > 1:
        texts = {mode: _outline_text(row, mode) for mode in modes}
        return {**summary, **{mode: {"id": row.id, **text} for mode, text in texts.items()}}
    whole = {**summary, **_outline_text(row, modes[0])}
    variants = variants_of(row.settings)
    if len(variants) > 1:
        names = ("text", "seed", "chunks")
        samples = [_outline_text(row, variant) for variant in variants]
        whole["samples"] = [{name: sample[name] for name in names} for sample in samples]
    return whole


def _outline_text(row: GenerationRow, variant: str) -> Json:
    return {
        "text": TextOf(variant),
        "prompt": row.prompt,
        "seed": row.settings["seed"] + split_variant(variant)[1],
        "chunks": ChunksOf(variant),
    }


def _filled(value: Any, chunks: Mapping[str, list[Json]]) -> Any:
    match value:
        case TextOf(variant):
            return "".join(chunk["text"] for chunk in chunks.get(variant, []))
        case ChunksOf(variant):
            return chunks.get(variant, [])
        case dict():
            return {name: _filled(item, chunks) for name, item in value.items()}
        case list():
            return [_filled(item, chunks) for item in value]
        case _:
            return value


def json_parts(value: Any) -> list[str | TextOf | ChunksOf]:
    """Return an outline as JSON in parts: what is there, and what is to be put in between."""
    parts: list[str | TextOf | ChunksOf] = []
    for part in _json_parts(value):
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += part
        else:
            parts.append(part)
    return parts


def _json_parts(value: Any) -> Iterator[str | TextOf | ChunksOf]:
    match value:
        case TextOf() | ChunksOf():
            yield value
        case dict():
            for place, (name, item) in enumerate(value.items()):
                yield f"{', ' if place else '{'}{json_text(name)}: "
                yield from _json_parts(item)
            yield "}" if value else "{}"
        case list():
            for place, item in enumerate(value):
                yield ", " if place else "["
                yield from _json_parts(item)
            yield "]" if value else "[]"
        case _:
            yield json_text(value)


def json_text(value: Any) -> str:
    """Return JSON as streams of events have it."""
    return json.dumps(value, ensure_ascii=False)
