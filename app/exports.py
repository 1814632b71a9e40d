"""A generation as a file: JSON as the REST routes answer it, a report in Markdown or in HTML."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from app.export_html import render_page
from app.figures import Text, texts_of
from app.services.views.base import plain
from app.services.views.generations import Generation
from app.words import (
    chunk_words,
    labels,
    neighbor_words,
    origin_words,
    setting_words,
    text_title,
    text_words,
)
from retro.errors import ConfigError, shown
from retro.generation.events import OutputChunk, ShownNeighbor


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """A file to be downloaded."""

    content: bytes
    media_type: str
    file_name: str


def export_generation(generation: Generation, format: str) -> Export:
    """Return a generation as a file.

    Args:
        generation: The generation, with its chunks.
        format: ``json``, ``markdown`` or ``html``.

    Raises:
        ConfigError: There is no such format.
    """
    match format:
        case "json":
            text = json.dumps(plain(generation), ensure_ascii=False, indent=2)
            media_type, ending = "application/json", "json"
        case "markdown":
            text, media_type, ending = _markdown(generation), "text/markdown; charset=utf-8", "md"
        case "html":
            text, media_type, ending = render_page(generation), "text/html; charset=utf-8", "html"
        case _:
            raise ConfigError(
                f"format must be one of 'json', 'markdown', 'html', got {shown(format)}."
            )
    name = re.sub(r"[^A-Za-z0-9_-]", "-", generation.id)[:80]
    content = text.encode("utf-8", errors="replace")
    return Export(content=content, media_type=media_type, file_name=f"text-{name}.{ending}")


def _markdown(generation: Generation) -> str:
    return "\n\n".join(_blocks(generation)) + "\n"


def _blocks(generation: Generation) -> Iterator[str]:
    yield "# A text and what it was written from"
    yield "\n".join(f"- {line}" for line in _facts(generation))
    yield "## Prompt"
    yield fence(generation.prompt)
    texts = texts_of(generation)
    for number, text in enumerate(texts):
        yield f"## {text_title(generation, text, number)}"
        yield fence("".join(chunk.text for chunk in text.chunks))
        if words := list(text_words(text)):
            yield ", ".join(words) + "."
        for chunk in text.chunks:
            yield from _chunk_blocks(text, chunk)


def _facts(generation: Generation) -> Iterator[str]:
    yield f"Model: {code(generation.run_name)}"
    yield f"Settings: {', '.join(code(words) for words in setting_words(generation))}"
    moment = datetime.fromtimestamp(generation.created_at, UTC)
    yield f"Written: {moment:%Y-%m-%d %H:%M} UTC, {code(generation.state)}"
    if origin := origin_words(generation):
        yield f"Origin: {code(origin)}"
    if generation.message:
        yield f"Note: {code(generation.message)}"


def _chunk_blocks(text: Text, chunk: OutputChunk) -> Iterator[str]:
    yield f"### Chunk {chunk.index + 1}"
    yield ", ".join(chunk_words(text, chunk)) + "."
    yield fence(chunk.text)
    for neighbor in chunk.neighbors:
        yield from _neighbor_blocks(chunk, neighbor)


def _neighbor_blocks(chunk: OutputChunk, neighbor: ShownNeighbor) -> Iterator[str]:
    source = code(neighbor.document) if neighbor.document else "written by hand"
    yield f"#### Neighbor {neighbor.rank}: {source}"
    words = [*neighbor_words(neighbor), *labels(chunk, neighbor)]
    if words:
        yield ", ".join(words) + "."
    yield fence(neighbor.text)
    if neighbor.continuation:
        yield "It goes on with"
        yield fence(neighbor.continuation)


def fence(text: str) -> str:
    """Return text as a block of Markdown that shows it as it is, whatever it holds."""
    marks = "`" * max(3, _longest_ticks(text) + 1)
    return f"{marks}text\n{text}\n{marks}"


def code(text: str) -> str:
    """Return text for the middle of a line of Markdown; white space becomes single spaces."""
    line = " ".join(text.split())
    marks = "`" * (_longest_ticks(line) + 1)
    return f"{marks} {line} {marks}" if "`" in line or not line else f"{marks}{line}{marks}"


def _longest_ticks(text: str) -> int:
    return max((len(ticks) for ticks in re.findall("`+", text)), default=0)
