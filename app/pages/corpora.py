"""Corpora: upload, build, documents, search, delete."""

import time
from typing import Any
from urllib.parse import quote

import gradio as gr

from app.errors import MissingError, shows_errors
from app.format import ago, count, escape, percent, size
from app.pages.corpus_changes import render_changes, render_copy, render_rebuild
from app.pages.neighbors import render_neighbor
from app.pages.upload import render_report, render_upload
from app.services.jobs import outcome, share_done
from app.services.services import Services
from app.ui import (
    TICK_S,
    Page,
    Query,
    action,
    badge,
    describe_job,
    empty,
    facts,
    meter,
    missing,
    read_query,
)
from jobs.errors import NotFoundError
from retro.errors import RetroError
from retro.retrieval.corpus_tokenizer import tokenizer_words

DOCUMENTS_PER_PAGE = 25
AROUND_CHARACTERS = 3_000


def build(services: Services, demo: gr.Blocks) -> None:
    """Add the page to the app."""
    page = Page(services, demo, "Corpora", "/corpora")
    with gr.Column(elem_id="page"):
        page.part("corpus", lambda query: render_top(services, query))
        with gr.Column(elem_classes="form-panel", visible=False, elem_id="search") as search_box:
            gr.HTML(SEARCH_HEAD, apply_default_css=False, js_on_load=None)
            with gr.Row(equal_height=True):
                text = gr.Textbox(
                    label="Text to search for", lines=2, scale=4, elem_id="search-text"
                )
                k = gr.Number(
                    label="Neighbors", value=4, precision=0, minimum=1, maximum=100, scale=1,
                    min_width=110, elem_id="search-k",
                )  # fmt: skip
            button = gr.Button("Search", elem_id="search-button")
            found = gr.HTML(elem_id="search-found", apply_default_css=False, js_on_load=None)
        page.part("upload", lambda query: render_uploads(services, query))
        page.part("documents", lambda query: render_documents(services, query))
    page.wire()

    def show_search(query: Query) -> Any:
        try:
            corpus = services.corpora.get(query.get("corpus", ""))
        except NotFoundError:
            return gr.update(visible=False)
        return gr.update(visible=bool(corpus["summary"]) and "document" not in query)

    def load_search(request: gr.Request) -> Any:
        return show_search(dict(request.query_params))

    def follow_search(query_text: str) -> Any:
        return show_search(read_query(query_text))

    @shows_errors
    def search(query_text: str, wanted: str, number: float | None) -> str:
        corpus_id = read_query(query_text).get("corpus", "")
        neighbors = services.corpora.search(corpus_id, wanted or "", int(number or 4))
        return "".join(render_neighbor(neighbor, corpus_id) for neighbor in neighbors)

    quiet: dict[str, Any] = {"api_visibility": "private"}
    silent: dict[str, Any] = {**quiet, "queue": False, "show_progress": "hidden"}
    demo.load(load_search, None, search_box, **silent)
    # A build may end while its page is open.
    gr.Timer(TICK_S).tick(follow_search, page.query, search_box, concurrency_limit=None, **silent)
    for trigger in (button.click, text.submit):
        trigger(search, [page.query, text, k], found, concurrency_id="search", **quiet)


SEARCH_HEAD = """<h2>Search</h2><p class="dim small">The same search that the model uses: the
chunks whose meaning is nearest to a text, each with its continuation.</p>"""


def render_top(services: Services, query: Query) -> str:
    """Return the list of corpora, or the head of the one in the address."""
    corpus_id = query.get("corpus")
    if corpus_id is None:
        return _render_list(services)
    try:
        corpus = services.corpora.get(corpus_id)
        if "document" in query:
            return _render_place(services, corpus, query)
    except (NotFoundError, RetroError) as error:
        return missing(error)
    return _render_corpus(services, corpus)


def _render_list(services: Services) -> str:
    corpora = services.corpora.list_corpora()
    now = time.time()
    rows = "".join(
        f'<tr><td><a href="/corpora?corpus={escape(corpus["id"])}">'
        f"{escape(corpus['name'])}</a></td>"
        f"<td>{badge(corpus['state'])}</td>"
        f'<td class="num">{count(corpus["num_documents"], "document")}</td>'
        f'<td class="num">{count(corpus["num_chunks"] or 0, "chunk")}</td>'
        f'<td class="dim num">{ago(corpus["updated_at"], now)}</td></tr>'
        for corpus in corpora
    )
    table = (
        '<table class="list stack"><thead><tr><th>Corpus</th><th>State</th><th>Documents</th>'
        f"<th>Chunks</th><th>Changed</th></tr></thead><tbody>{rows}</tbody></table>"
    )
    body = table if corpora else empty("No corpus yet. Upload a folder, or use the sample text.")
    sample = action(
        "Add the sample text",
        "POST /api/v1/corpora",
        body={"name": "Python documentation (sample)", "sample": "python-docs"},
        then="/corpora?corpus={id}",
    )
    return (
        f'<div class="head"><h1>Corpora</h1><span class="push">{sample}</span></div>'
        f'<section class="panel">{body}</section>'
    )


def _render_corpus(services: Services, corpus: dict[str, Any]) -> str:
    address = f"/api/v1/corpora/{corpus['id']}"
    buttons = []
    if corpus["state"] in ("uploaded", "failed"):
        buttons.append(
            action("Build and train", f"POST {address}/train", kind="primary",
                   then="/runs?run={id}", elem_id="build-and-train")
        )  # fmt: skip
        buttons.append(
            action("Build only", f"POST {address}/build", done="The build was submitted.")
        )
    if corpus["state"] == "ready":
        changed = corpus["has_changes"]
        train = f'<a class="btn{"" if changed else " primary"}" href="/runs?corpus='
        buttons.append(f'{train}{escape(corpus["id"])}">Train a model</a>')
        buttons.append(render_rebuild(corpus))
    buttons.append(
        action("Delete", f"DELETE {address}", kind="danger", then="/corpora",
               confirm=f"Delete {corpus['name']!r} with its documents and its index?")
    )  # fmt: skip
    return (
        f'<p class="small"><a href="/corpora">All corpora</a></p>'
        f'<div class="head"><h1>{escape(corpus["name"])}</h1>{badge(corpus["state"])}'
        f'<span class="push row">{"".join(buttons)}</span></div>'
        f"{_render_build(services, corpus)}{render_changes(corpus)}"
        f'<section class="panel">{facts(_facts(services, corpus))}'
        f"{render_copy(corpus, services.runs.list_runs())}</section>"
    )


def _render_build(services: Services, corpus: dict[str, Any]) -> str:
    if corpus["build_job_id"] is None:
        return ""
    job = services.jobs.get(corpus["build_job_id"])
    if corpus["state"] == "failed":
        link = f'<a href="/jobs?job={escape(job["id"])}">Show the log</a>'
        return f'<div class="callout">{escape(outcome(job))} {link}</div>'
    if corpus["state"] != "building":
        return ""
    cancel = action("Cancel", f"POST /api/v1/jobs/{job['id']}/cancel", kind="tiny danger")
    if job["state"] == "queued":
        text = services.jobs.why_waiting(job).capitalize()
    else:
        text = f"{describe_job(job)}, {percent(share_done(job))}"
    return (
        f'<section class="panel" id="build-progress"><div class="row"><b>{escape(text)}</b>'
        f'<span class="push">{cancel}</span></div>{meter(share_done(job))}</section>'
    )


EXCLUSION_WORDS = {
    "document": "never from the same document",
    "window": "not from near by in the same document, because few documents hold most of the text",
}
INDEX_WORDS = {"flat": "flat, exact", "ivf": "IVF, approximate", "hnsw": "HNSW, approximate"}


def _facts(services: Services, corpus: dict[str, Any]) -> dict[str, str]:
    summary = corpus["summary"] or {}
    values = {
        "Documents": f"{corpus['num_documents']:,}",
        "Size on disk": size(services.corpora.disk_bytes(corpus["id"])),
        "Chunk size": count(corpus["settings"]["chunk_size"], "token"),
        "Neighbors per chunk": str(corpus["settings"]["num_neighbors"]),
    }
    if summary:
        held_out = summary["num_chunks"] - summary["num_retrievable"]
        kind = str(summary["index_kind"])
        recall = summary["recall"]
        values |= {
            "Chunks": f"{summary['num_chunks']:,}",
            "Held out for validation": count(held_out, "chunk"),
            "Tokens": f"{summary['num_tokens']:,}",
            "Vocabulary": count(summary["vocab_size"], "token"),
            "Tokenizer": escape(tokenizer_words(summary)),
            "Index": escape(INDEX_WORDS.get(kind, kind)),
            "Measured recall": "-" if recall is None else f"{recall:.3f}",
            "Encoder": escape(summary["encoder"] or "bundled MiniLM"),
            "Exclusion rule": escape(
                EXCLUSION_WORDS.get(summary["exclusion"], summary["exclusion"])
            ),
        }
        if summary["num_short"]:
            values["Short of neighbors"] = count(summary["num_short"], "chunk")
    return values


def _render_place(services: Services, corpus: dict[str, Any], query: Query) -> str:
    start, end = _number(query.get("start")), _number(query.get("end"))
    place = services.corpora.passage(corpus["id"], query["document"], start, end, AROUND_CHARACTERS)
    mark = (
        f'<span class="run lcp3" id="place">{escape(place["text"])}</span>' if place["text"] else ""
    )
    first = "" if place["start"] == 0 else "... "
    return (
        f'<p class="small"><a href="/corpora?corpus={escape(corpus["id"])}">'
        f'{escape(corpus["name"])}</a></p><div class="head"><h1 class="path">'
        f'{escape(query["document"])}</h1><span class="dim small push">'
        f"{place['num_characters']:,} characters</span></div>"
        f'<section class="panel"><div class="text">{first}{escape(place["before"])}{mark}'
        f"{escape(place['after'])}{' ...' if place['has_more'] else ''}</div></section>"
    )


def _number(text: str | None) -> int:
    if text is None:
        return 0
    if not text.isdecimal() or len(text) > 15:
        raise MissingError(f"A place in a document is a number, got {text[:40]!r}.")
    return int(text)


def render_uploads(services: Services, query: Query) -> str:
    """Return the upload box and the report of the last upload."""
    corpus_id = query.get("corpus")
    if corpus_id is None:
        return f'<section class="panel"><h2>New corpus</h2>{render_upload("new")}</section>'
    if "document" in query:
        return ""
    try:
        corpus = services.corpora.get(corpus_id)
    except NotFoundError:
        return ""
    if corpus["state"] == "building":
        return f'<section class="panel"><h2>Upload</h2>{render_report(corpus_id)}</section>'
    primary = corpus["state"] == "empty"
    return (
        '<section class="panel"><h2>Add files</h2>'
        f"{render_upload('add', corpus_id, primary=primary)}"
        f"{render_report(corpus_id)}</section>"
    )


def render_documents(services: Services, query: Query) -> str:
    """Return a page of the documents."""
    corpus_id = query.get("corpus")
    if corpus_id is None or "document" in query:
        return ""
    number = query.get("page", "1")
    page = max(1, int(number[:9])) if number.isdecimal() else 1
    try:
        found = services.corpora.documents(
            corpus_id, DOCUMENTS_PER_PAGE, (page - 1) * DOCUMENTS_PER_PAGE
        )
    except NotFoundError:
        return ""
    if not found["total"]:
        return ""
    rows = "".join(_document_row(corpus_id, item) for item in found["documents"])
    last = -(-found["total"] // DOCUMENTS_PER_PAGE)
    links = [
        f'<a href="/corpora?corpus={escape(corpus_id)}&amp;page={target}">{label}</a>'
        for target, label in ((page - 1, "Previous"), (page + 1, "Next"))
        if 1 <= target <= last
    ]
    pages = f'<span class="dim small">page {page:,} of {last:,}</span>' if last > 1 else ""
    return (
        f'<section class="panel"><div class="head"><h2 style="margin:0">Documents</h2>'
        f'<span class="push row small">{pages}{"".join(links)}</span></div>'
        '<table class="list stack"><thead><tr><th>Path</th><th class="right">Size</th>'
        f"<th>Encoding</th></tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _document_row(corpus_id: str, item: dict[str, Any]) -> str:
    address = escape(f"/corpora?corpus={quote(corpus_id)}&document={quote(item['path'], safe='')}")
    note = f'<div class="dim small">{escape(item["note"])}</div>' if item["note"] else ""
    return (
        f'<tr><td><a class="path" href="{address}">{escape(item["path"])}</a>{note}</td>'
        f'<td class="num right">{size(item["bytes"])}</td>'
        f'<td class="dim">{escape(item["encoding"])}</td></tr>'
    )
