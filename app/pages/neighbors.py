"""A neighbor as a box: where it comes from, what it weighed, its text, and what comes after it."""

from urllib.parse import quote

from app.figures import runs_in_neighbor
from app.html import DOT, NOTHING, Html, escape, html, join
from app.pages.marks import render_segments, render_tokens
from app.services.views.documents import Neighbor
from app.words import attention_words, labels, place_words
from retro.generation.events import OutputChunk, Segments, ShownNeighbor


def render_neighbor(
    neighbor: ShownNeighbor,
    corpus_id: str | None,
    chunk: OutputChunk | None = None,
    actions: str = "",
) -> Html:
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
    tags = join(html('<span class="tag">{}</span>', tag) for tag in found)
    return (
        html(
            '<div class="neighbor"{}><h4>{} {}<small>{}</small></h4>{}<div class="text">{}</div>',
            _data(neighbor),
            neighbor.rank,
            _name(neighbor, corpus_id),
            DOT.join(place_words(neighbor)),
            _share(neighbor),
            _text(neighbor.text, neighbor.text_segments, own),
        )
        + (html('<div class="text continuation">{}</div>', continuation) if continuation else "")
        + (html('<div class="tags">{}</div>', tags) if tags else "")
        + (html('<div class="acts">{}</div>', actions) if actions else "")
        + html("</div>")
    )


def render_found(found: Neighbor, corpus_id: str) -> Html:
    """Return a chunk that was found in a corpus."""
    return render_neighbor(ShownNeighbor.from_dict(dict(found)), corpus_id)


def _data(neighbor: ShownNeighbor) -> Html:
    return NOTHING if neighbor.chunk_id is None else html(' data-chunk-id="{}"', neighbor.chunk_id)


def _name(neighbor: ShownNeighbor, corpus_id: str | None) -> Html:
    if not neighbor.document:
        return html("<span>written by hand</span>")
    name = html('<span class="path">{}</span>', neighbor.document)
    if corpus_id is None:
        return name
    return html('<a href="{}">{}</a>', document_address(corpus_id, neighbor), name)


def _share(neighbor: ShownNeighbor) -> Html:
    share = neighbor.attention_share
    if share is None:
        return NOTHING
    after = min(neighbor.continuation_share or 0.0, share)
    return html(
        '<div class="share"><span class="meter" aria-hidden="true"><span style="width:{:.1f}%">'
        '</span><span class="after" style="width:{:.1f}%"></span></span><small>{}</small></div>',
        100 * (share - after),
        100 * after,
        attention_words(neighbor),
    )


def _runs(
    chunk: OutputChunk | None, neighbor: ShownNeighbor
) -> tuple[list[list[int]], list[list[int]]]:
    return runs_in_neighbor(chunk, neighbor) if chunk is not None else ([], [])


def _text(text: str, segments: Segments, runs: list[list[int]]) -> Html:
    if not segments:
        return escape(text)
    return render_tokens(segments, runs) if any(runs) else render_segments(segments)


def document_address(corpus_id: str, neighbor: ShownNeighbor) -> Html:
    """Return the address of the page that shows a neighbor in its document."""
    return escape(
        f"/corpora?corpus={quote(corpus_id)}&document={quote(neighbor.document, safe='')}"
        f"&start={neighbor.start}&end={neighbor.end}#place"
    )
