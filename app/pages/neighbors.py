"""A neighbor as a box: where it comes from, what it weighed, its text, and what comes after it."""

from urllib.parse import quote

from app.figures import runs_in_neighbor
from app.format import escape
from app.pages.marks import DOT, render_segments, render_tokens
from app.services.views.documents import Neighbor
from app.words import attention_words, labels, place_words
from retro.generation.events import OutputChunk, Segments, ShownNeighbor


def render_neighbor(
    neighbor: ShownNeighbor,
    corpus_id: str | None,
    chunk: OutputChunk | None = None,
    actions: str = "",
) -> str:
    """Return one neighbor.

    Args:
        neighbor: The neighbor; with segments, it is colored.
        corpus_id: Corpus it comes from, None if that is gone.
        chunk: The chunk that was written from it; its runs are marked in the neighbor.
        actions: Buttons below it, as HTML.
    """
    own, after = _runs(chunk, neighbor)
    continuation = _text(neighbor.continuation, neighbor.continuation_segments, after)
    found = labels(chunk, neighbor) if chunk is not None else []
    tags = "".join(f'<span class="tag">{escape(tag)}</span>' for tag in found)
    return (
        f'<div class="neighbor"{_data(neighbor)}>'
        f"<h4>{neighbor.rank} {_name(neighbor, corpus_id)}"
        f"<small>{DOT.join(place_words(neighbor))}</small></h4>{_share(neighbor)}"
        f'<div class="text">{_text(neighbor.text, neighbor.text_segments, own)}</div>'
        + (f'<div class="text continuation">{continuation}</div>' if continuation else "")
        + (f'<div class="tags">{tags}</div>' if tags else "")
        + (f'<div class="acts">{actions}</div>' if actions else "")
        + "</div>"
    )


def render_found(found: Neighbor, corpus_id: str) -> str:
    """Return a chunk that was found in a corpus."""
    return render_neighbor(ShownNeighbor.from_dict(dict(found)), corpus_id)


def _data(neighbor: ShownNeighbor) -> str:
    return "" if neighbor.chunk_id is None else f' data-chunk-id="{neighbor.chunk_id}"'


def _name(neighbor: ShownNeighbor, corpus_id: str | None) -> str:
    if not neighbor.document:
        return "<span>written by hand</span>"
    name = f'<span class="path">{escape(neighbor.document)}</span>'
    if corpus_id is None:
        return name
    return f'<a href="{document_address(corpus_id, neighbor)}">{name}</a>'


def _share(neighbor: ShownNeighbor) -> str:
    share = neighbor.attention_share
    if share is None:
        return ""
    after = min(neighbor.continuation_share or 0.0, share)
    return (
        '<div class="share"><span class="meter" aria-hidden="true">'
        f'<span style="width:{100 * (share - after):.1f}%"></span>'
        f'<span class="after" style="width:{100 * after:.1f}%"></span></span>'
        f"<small>{attention_words(neighbor)}</small></div>"
    )


def _runs(
    chunk: OutputChunk | None, neighbor: ShownNeighbor
) -> tuple[list[list[int]], list[list[int]]]:
    return runs_in_neighbor(chunk, neighbor) if chunk is not None else ([], [])


def _text(text: str, segments: Segments, runs: list[list[int]]) -> str:
    if not segments:
        return escape(text)
    return render_tokens(segments, runs) if any(runs) else render_segments(segments)


def document_address(corpus_id: str, neighbor: ShownNeighbor) -> str:
    """Return the address of the page that shows a neighbor in its document."""
    return escape(
        f"/corpora?corpus={quote(corpus_id)}&document={quote(neighbor.document, safe='')}"
        f"&start={neighbor.start}&end={neighbor.end}#place"
    )
