"""A document: its text by pages, its chunks, and the neighbors of the chunk in focus."""

from app.errors import MissingError
from app.format import count, size
from app.html import NOTHING, Html, escape, html, join
from app.pages.corpus_documents import api_address, document_page
from app.pages.neighbors import render_found
from app.services.services import Services
from app.services.views.corpora import Corpus
from app.services.views.documents import DocumentChunk, DocumentText
from app.ui import Query, action, empty

SPLIT_WORDS = {
    "train": "can be retrieved",
    "validation": "held out for validation",
    "both": "its last chunks are held out for validation",
}
HELP = (
    "A small number stands before each chunk. Point at it to see its id and tokens, press it to "
    "see the neighbors that training reads with it."
)


def render_document(services: Services, corpus: Corpus, query: Query) -> Html:
    """Return a page of the document in the address.

    Raises:
        MissingError: The place in the address is no number, or not of this document.
    """
    path = query["document"]
    numbers = {name: _number(query, name) for name in ("page", "chunk", "start", "end")}
    chunk_id = numbers["chunk"]
    found = services.corpora.document(
        corpus.id, path, page=numbers["page"], chunk_id=chunk_id, start=numbers["start"]
    )
    marked = None
    if chunk_id is None and numbers["start"] is not None and numbers["end"]:
        marked = (numbers["start"], numbers["end"])
    text = (
        join(_chunk(corpus.id, path, chunk, chunk_id, marked) for chunk in found.chunks)
        if found.chunks
        else _plain(found, marked)
    )
    before = "... " if found.start > 0 and not found.chunks else ""
    panel = (
        html(
            '<section class="panel"><div class="head"><h2 style="margin:0">Text</h2>{}</div>',
            _pages(corpus.id, found),
        )
        + (html('<p class="dim small">{}</p>', HELP) if found.chunks else "")
        + html('<div class="text document-text">{}{}</div></section>', before, text)
    )
    if chunk_id is not None:
        panel = html(
            '<div class="document-columns">{}{}</div>',
            panel,
            _neighbors(services, corpus, chunk_id),
        )
    return _head(corpus, found) + panel


def _number(query: Query, name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 15:
        raise MissingError(f"A place in a document is a number, got {text[:40]!r}.")
    return int(text)


def _head(corpus: Corpus, found: DocumentText) -> Html:
    words = [f"{found.num_characters:,} characters", size(found.bytes)]
    words += [found.encoding] if found.encoding else []
    words += [found.note] if found.note else []
    if found.num_chunks is not None and found.split is not None:
        words += [count(found.num_chunks, "chunk"), SPLIT_WORDS[found.split]]
    remove = ""
    if found.is_stored and corpus.state != "building":
        remove = action(
            "Remove",
            f"DELETE {api_address(corpus.id, found.path)}",
            kind="danger",
            confirm=f"Remove {found.path!r}? It leaves the index with the next build.",
            then=f"/corpora?corpus={corpus.id}",
        )
    return html(
        '<p class="small"><a href="/corpora?corpus={}">{}</a></p><div class="head"><h1 '
        'class="path">{}</h1><span class="push">{}</span></div><p class="dim small">{}</p>{}',
        corpus.id,
        corpus.name,
        found.path,
        remove,
        ", ".join(words),
        _state(found),
    )


def _state(found: DocumentText) -> Html:
    if not found.is_stored:
        words = "The document was removed. This is its text in the last build."
    elif found.is_changed and found.chunks:
        words = "The document was replaced since the last build. This is its text in that build."
    elif found.is_changed:
        words = "The document was replaced since the last build. Build to see its chunks."
    elif found.num_chunks is None:
        words = "The document is not built yet. Build the corpus to see its chunks."
    else:
        return NOTHING
    return html('<div class="callout calm">{}</div>', words)


def _chunk(
    corpus_id: str,
    path: str,
    chunk: DocumentChunk,
    chosen: int | None,
    marked: tuple[int, int] | None,
) -> Html:
    facts = [f"Chunk id {chunk.chunk_id:,}", count(chunk.num_tokens, "token")]
    facts += ["held out for validation"] if chunk.is_held_out else []
    tip = escape(", ".join(facts))
    number = chunk.chunk_index + 1
    address = escape(document_page(corpus_id, path, chunk=chunk.chunk_id))
    is_chosen = chunk.chunk_id == chosen
    classes = "chunk" + (" held" if chunk.is_held_out else "") + (" chosen" if is_chosen else "")
    here = html(' aria-current="true"') if is_chosen else ""
    return html(
        '<span class="{}"><a class="chunk-number" href="{}#chunk" id="chunk-{}" data-tip="{}" '
        'aria-label="Chunk {}: {}"{}>{:,}</a>{}</span>',
        classes,
        address,
        chunk.chunk_id,
        tip,
        number,
        tip,
        here,
        number,
        _marked(chunk.text, chunk.start, marked),
    )


def _plain(found: DocumentText, marked: tuple[int, int] | None) -> Html:
    return _marked(found.text, found.start, marked)


def _marked(text: str, first: int, marked: tuple[int, int] | None) -> Html:
    """Return a text with the part of it that lies in a place."""
    if marked is None:
        return escape(text)
    start = min(max(marked[0] - first, 0), len(text))
    end = min(max(marked[1] - first, start), len(text))
    if start == end:
        return escape(text)
    place = html(' id="place"') if marked[0] >= first else ""
    return html(
        '{}<span class="run lcp3"{}>{}</span>{}', text[:start], place, text[start:end], text[end:]
    )


def _pages(corpus_id: str, found: DocumentText) -> Html:
    page, last = found.page, found.num_pages
    links = [
        html('<a href="{}">{}</a>', document_page(corpus_id, found.path, page=target), label)
        for target, label in ((page - 1, "Previous"), (page + 1, "Next"))
        if 1 <= target <= last
    ]
    return html(
        '<span class="push row small"><span class="dim small">page {:,} of {:,}</span>{}</span>',
        page,
        last,
        join(links),
    )


def _neighbors(services: Services, corpus: Corpus, chunk_id: int) -> Html:
    chunk = services.corpora.chunk(corpus.id, chunk_id)
    found = join(render_found(item, corpus.id) for item in chunk.neighbors)
    place = f"{chunk.chunk_index + 1:,} of {chunk.num_chunks:,}"
    search = html("/corpora?corpus={}&amp;like={}#search", corpus.id, chunk_id)
    return html(
        '<aside class="panel" id="chunk"><div class="head"><h2 style="margin:0">Neighbors of '
        'chunk {}</h2></div><p class="dim small">Id {:,}, {}. Squared L2 distance, lower is '
        'nearer. <a href="{}">Search with this chunk</a></p>{}</aside>',
        place,
        chunk_id,
        count(chunk.num_tokens, "token"),
        search,
        found or empty("No neighbor is left under the exclusion rule."),
    )
