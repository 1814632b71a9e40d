"""Corpora: upload, build, versions, documents, search, delete."""

import time
from typing import Any

import gradio as gr

from app.errors import shows_errors
from app.format import ago, count, percent
from app.html import NOTHING, Html, html, join
from app.live_page import TICK_S, WITH_ADDRESS, Page, read_query
from app.pages.corpus_changes import render_changes, render_copy, render_rebuild
from app.pages.corpus_documents import render_documents
from app.pages.corpus_facts import render_facts
from app.pages.corpus_settings import render_settings
from app.pages.corpus_versions import render_versions
from app.pages.document import render_document
from app.pages.neighbors import render_found
from app.pages.upload import render_report, render_upload
from app.services.jobs import outcome, share_done
from app.services.services import Services
from app.services.views.corpora import Corpus
from app.ui import (
    Query,
    action,
    badge,
    describe_job,
    empty,
    meter,
    missing,
)
from jobs.errors import NotFoundError
from retro.errors import RetroError


def build(services: Services, demo: gr.Blocks) -> None:
    """Add the page to the app."""
    page = Page(services, demo, "Corpora", "/corpora")
    with gr.Column(elem_id="page"):
        page.part("corpus", lambda query: render_top(services, query))
        page.part("settings", lambda query: render_settings(services, query))
        with gr.Column(elem_classes="form-panel", visible=False, elem_id="search") as search_box:
            gr.HTML(SEARCH_HEAD, apply_default_css=False, js_on_load=None)
            with gr.Row(equal_height=True):
                text = gr.Textbox(
                    label="Text to search for", lines=2, scale=4, elem_id="search-text"
                )
                chunk = gr.Number(
                    label="or id of a chunk", value=None, precision=0, minimum=0, scale=1,
                    min_width=130, elem_id="search-chunk",
                )  # fmt: skip
                k = gr.Number(
                    label="Neighbors", value=4, precision=0, minimum=1, maximum=100, scale=1,
                    min_width=110, elem_id="search-k",
                )  # fmt: skip
            button = gr.Button("Search", elem_id="search-button")
            found = gr.HTML(elem_id="search-found", apply_default_css=False, js_on_load=None)
        page.part("upload", lambda query: render_uploads(services, query))
        page.part("documents", lambda query: render_documents(services, query))
        page.part("versions", lambda query: render_versions(services, query))
    page.wire()
    address = gr.Textbox(visible=False)

    def show_search(query: Query) -> Any:
        try:
            corpus = services.corpora.get(query.get("corpus", ""))
        except NotFoundError:
            return gr.update(visible=False)
        return gr.update(visible=bool(corpus.summary) and "document" not in query)

    def load_search(request: gr.Request) -> list[Any]:
        query = dict(request.query_params)
        like = query.get("like", "")
        return [show_search(query), int(like[:15]) if like.isdecimal() else None]

    def follow_search(query_text: str) -> Any:
        return show_search(read_query(query_text))

    @shows_errors
    def search(query_text: str, wanted: str, chunk_id: float | None, number: float | None) -> Html:
        corpus_id = read_query(query_text).get("corpus", "")
        return render_search(services, corpus_id, wanted or "", chunk_id, int(number or 4))

    quiet: dict[str, Any] = {"api_visibility": "private"}
    silent: dict[str, Any] = {**quiet, "queue": False, "show_progress": "hidden"}
    demo.load(load_search, None, [search_box, chunk], **silent)
    # A build may end while its page is open.
    gr.Timer(TICK_S).tick(
        follow_search, address, search_box, js=WITH_ADDRESS, concurrency_limit=None, **silent
    )
    for trigger in (button.click, text.submit, chunk.submit):
        trigger(
            search, [address, text, chunk, k], found,
            js=WITH_ADDRESS, concurrency_id="search", **quiet,
        )  # fmt: skip


SEARCH_HEAD = html("""<h2>Search</h2><p class="dim small">The same search that the model uses: the
chunks whose meaning is nearest to a text, or to a chunk of the corpus, each with its
continuation. Squared L2 distance, lower is nearer.</p>""")


def render_search(
    services: Services, corpus_id: str, text: str, chunk_id: float | None, k: int
) -> Html:
    """Return the neighbors of a text, or of a chunk where no text is given."""
    began = time.perf_counter()
    if chunk_id is not None and not text.strip():
        neighbors = services.corpora.search_like(corpus_id, int(chunk_id), k)
    else:
        neighbors = services.corpora.search(corpus_id, text, k)
    took = 1000 * (time.perf_counter() - began)
    return html(
        '<p class="dim small" id="search-took">{} in {:,.0f} ms</p>',
        count(len(neighbors), "neighbor"),
        took,
    ) + join(render_found(neighbor, corpus_id) for neighbor in neighbors)


def render_top(services: Services, query: Query) -> Html:
    """Return the list of corpora, or the head of the one in the address."""
    corpus_id = query.get("corpus")
    if corpus_id is None:
        return _render_list(services)
    try:
        corpus = services.corpora.get(corpus_id)
        if "document" in query:
            return render_document(services, corpus, query)
    except (NotFoundError, RetroError) as error:
        return missing(error)
    return _render_corpus(services, corpus)


def _render_list(services: Services) -> Html:
    corpora = services.corpora.list_corpora()
    now = time.time()
    rows = join(
        html(
            '<tr><td><a href="/corpora?corpus={}">{}</a></td><td>{}</td><td class="num">{}</td><td '
            'class="num">{}</td><td class="dim num">{}</td></tr>',
            corpus.id,
            corpus.name,
            badge(corpus.state),
            count(corpus.num_documents, "document"),
            count(corpus.num_chunks or 0, "chunk"),
            ago(corpus.updated_at, now),
        )
        for corpus in corpora
    )
    table = html(
        '<table class="list stack"><thead><tr><th>Corpus</th><th>State</th><th>Documents</th>'
        "<th>Chunks</th><th>Changed</th></tr></thead><tbody>{}</tbody></table>",
        rows,
    )
    body = (
        table if corpora else empty("No corpus yet. Upload a folder below, or add the sample text.")
    )
    sample = action(
        "Add the sample text",
        "POST /api/v1/corpora",
        body={"name": "Python documentation (sample)", "sample": "python-docs"},
        then="/corpora?corpus={id}",
    )
    return html(
        '<div class="head"><h1>Corpora</h1><span class="push">{}</span></div><section '
        'class="panel">{}</section>',
        sample,
        body,
    )


def _render_corpus(services: Services, corpus: Corpus) -> Html:
    address = f"/api/v1/corpora/{corpus.id}"
    buttons = []
    if corpus.state in ("uploaded", "failed"):
        buttons.append(
            action("Build the index", f"POST {address}/build", kind="primary", elem_id="build",
                   done="The build was submitted.")
        )  # fmt: skip
        buttons.append(
            action("Build and train", f"POST {address}/train", then="/runs?run={id}",
                   elem_id="build-and-train")
        )  # fmt: skip
    if corpus.state == "ready":
        changed = corpus.has_changes
        train = html('<a class="btn{}" href="/runs?corpus=', "" if changed else " primary")
        buttons.append(html('{}{}">Train a model</a>', train, corpus.id))
        buttons.append(render_rebuild(corpus))
    buttons.append(
        action("Delete", f"DELETE {address}", kind="danger", then="/corpora",
               confirm=f"Delete {corpus.name!r} with its documents and its index?")
    )  # fmt: skip
    return html(
        '<p class="small"><a href="/corpora">All corpora</a></p><div class="head"><h1>{}</h1>'
        '{}<span class="push row">{}</span></div>{}{}<section class="panel">{}{}</section>',
        corpus.name,
        badge(corpus.state),
        join(buttons),
        _render_build(services, corpus),
        render_changes(corpus),
        render_facts(services, corpus),
        render_copy(corpus, services.runs.list_runs()),
    )


def _render_build(services: Services, corpus: Corpus) -> Html:
    if corpus.build_job_id is None:
        return NOTHING
    job = services.jobs.get(corpus.build_job_id)
    if corpus.state == "failed":
        link = html('<a href="/jobs?job={}">Show the log</a>', job.id)
        return html('<div class="callout">{} {}</div>', outcome(job), link)
    if corpus.state != "building":
        return NOTHING
    cancel = action("Cancel", f"POST /api/v1/jobs/{job.id}/cancel", kind="tiny danger")
    if job.state == "queued":
        text = services.jobs.why_waiting(job).capitalize()
    else:
        text = f"{describe_job(job)}, {percent(share_done(job))}"
    return html(
        '<section class="panel" id="build-progress"><div class="row"><b>{}</b><span '
        'class="push">{}</span></div>{}</section>',
        text,
        cancel,
        meter(share_done(job)),
    )


def render_uploads(services: Services, query: Query) -> Html:
    """Return the upload box and the report of the last upload."""
    corpus_id = query.get("corpus")
    if corpus_id is None:
        return html('<section class="panel"><h2>New corpus</h2>{}</section>', render_upload("new"))
    if "document" in query:
        return NOTHING
    try:
        corpus = services.corpora.get(corpus_id)
    except NotFoundError:
        return NOTHING
    if corpus.state == "building":
        return html(
            '<section class="panel"><h2>Add files</h2><p class="dim small">Files can be added when '
            "the build has ended.</p>{}</section>",
            render_report(corpus_id),
        )
    # It stays as it is while files arrive: a part that changes is replaced.
    return html(
        '<section class="panel"><h2>Add files</h2>{}{}</section>',
        render_upload("add", corpus_id),
        render_report(corpus_id),
    )
