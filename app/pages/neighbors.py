"""A neighbor as a box: where it comes from, its text, and what comes after it."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from app.format import escape

LONGEST_CLASS = 5


def render_segments(segments: Sequence[Sequence[Any]]) -> str:
    """Return pieces of text colored by the length of the run that ends at each.

    Args:
        segments: (text, run length in tokens) per token.

    Returns:
        HTML; neighboring pieces of one class share an element.
    """
    parts: list[str] = []
    open_class, pieces = 0, list[str]()
    for text, run in [*segments, ("", -1)]:
        css = min(int(run), LONGEST_CLASS)
        if css != open_class:
            parts.append(_span(open_class, "".join(pieces)))
            open_class, pieces = css, []
        pieces.append(str(text))
    return "".join(parts)


def _span(css: int, text: str) -> str:
    if not text:
        return ""
    if css <= 0:
        return escape(text)
    # White space at the ends is left out of the color, so that runs look like words.
    core = text.strip()
    if not core:
        return escape(text)
    before, after = text[: text.index(core)], text[text.index(core) + len(core) :]
    return f'{escape(before)}<span class="run lcp{css}">{escape(core)}</span>{escape(after)}'


def render_neighbor(neighbor: dict[str, Any], corpus_id: str | None) -> str:
    """Return one neighbor.

    Args:
        neighbor: As the REST routes answer it; with segments, it is colored.
        corpus_id: Corpus it comes from, None if that is gone.
    """
    place = ""
    if neighbor.get("num_chunks"):
        place = (
            f"chunk {neighbor['chunk_index'] + 1:,} of {neighbor['num_chunks']:,} \N{MIDDLE DOT} "
        )
    text = _text(neighbor, "text")
    continuation = _text(neighbor, "continuation")
    after = f'<div class="text continuation">{continuation}</div>' if continuation else ""
    name = f'<span class="path">{escape(neighbor["document"])}</span>'
    if corpus_id is not None:
        name = f'<a href="{document_address(corpus_id, neighbor)}">{name}</a>'
    return (
        f'<div class="neighbor" data-chunk-id="{int(neighbor["chunk_id"])}"><h4>{neighbor["rank"]} '
        f"{name}<small>{place}characters {neighbor['start']:,}-{neighbor['end']:,} \N{MIDDLE DOT} "
        f"distance {neighbor['distance']:.3f}, lower is nearer</small></h4>"
        f'<div class="text">{text}</div>{after}</div>'
    )


def _text(neighbor: dict[str, Any], name: str) -> str:
    segments = neighbor.get(f"{name}_segments")
    if segments:
        return render_segments(segments)
    return escape(neighbor.get(name) or "")


def document_address(corpus_id: str, neighbor: dict[str, Any]) -> str:
    """Return the address of the page that shows a neighbor in its document."""
    return escape(
        f"/corpora?corpus={quote(corpus_id)}&document={quote(neighbor['document'], safe='')}"
        f"&start={neighbor['start']}&end={neighbor['end']}"
    )
