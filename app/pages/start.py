"""Start: two doors for a new user, else the three steps with their state."""

import gradio as gr

from app.errors import shows_errors
from app.format import count, duration, parameters, percent
from app.html import NOTHING, Html, escape, html, join
from app.live_page import Page
from app.pages.upload import render_upload
from app.services.jobs import outcome, share_done
from app.services.pretrained import pretrained_models
from app.services.services import Services
from app.services.views.corpora import ListedCorpus
from app.services.views.runs import RunSummary, WritableRun
from app.ui import PRIVATE, Query, action, badge, callout, describe_job, meter, write_button

ENDED_EARLY = ("failed", "interrupted", "canceled")
SAMPLE_BUTTON = "Try with sample text"

INTRO = html("""<h1>A language model that reads while it writes</h1>
<p class="lead">For every 64 tokens it has written, RETRO looks up the nearest passages in your
text and reads them before it goes on. You can see which passages shaped each piece of its
output, and where they come from.</p>""")

SAMPLE_DOOR = html("""<h2>Try with sample text</h2><p class="dim">Builds an index from the language
reference of Python, which is part of this program. {then} Neither a GPU nor a network is
needed.</p>""")
SAMPLE_THEN = {
    True: "A pretrained model writes from it about a minute later.",
    False: "A small model is trained on it, and writes its first text after a few minutes.",
}

UPLOAD_DOOR = html("""<h2>Upload a folder</h2><p class="dim">Your own text: notes, books, manuals,
code. It stays on this machine. Afterwards one click builds the index.</p>
{box}""")


def build(services: Services, demo: gr.Blocks) -> None:
    """Add the page to the app."""
    page = Page(services, demo, "Start", "/")
    with gr.Column(elem_id="page"):
        page.part("steps", lambda query: render_steps(services, query))
        # Shown, by a style, as long as the part above is the introduction.
        with gr.Row(elem_classes="doors"):
            with gr.Column(elem_classes=["form-panel", "door"]):
                then = SAMPLE_THEN[bool(pretrained_models())]
                gr.HTML(SAMPLE_DOOR.format(then=then), apply_default_css=False, js_on_load=None)
                sample = gr.Button(SAMPLE_BUTTON, variant="primary", elem_id="try-sample")
            with gr.Column(elem_classes=["form-panel", "door"]):
                box = UPLOAD_DOOR.format(box=render_upload("start"))
                gr.HTML(box, apply_default_css=False, js_on_load=None)
    page.wire()

    @shows_errors
    def try_sample() -> None:
        services.doors.try_sample()

    sample.click(try_sample, None, None, **PRIVATE)


def render_steps(services: Services, _query: Query) -> Html:
    """Return the introduction, or the three steps once there is a corpus."""
    corpora = services.corpora.list_corpora()
    if not corpora:
        return INTRO
    runs = services.runs.list_runs()
    at_work = (item for item in runs if item.state in ("starting", "running"))
    run = next(at_work, runs[0] if runs else None)
    corpus = corpora[0]
    if run is not None:
        corpus = next((item for item in corpora if item.id == run.corpus_id), corpus)
    writable = next(iter(services.runs.list_writable()), None)
    written = services.generations.list_generations(limit=1)
    pretrained = pretrained_models()
    train = _train_step(services, run, corpus, is_third=bool(pretrained))
    write = _write_step(writable, bool(written), corpus, is_second=bool(pretrained))
    cards = [
        _text_step(services, corpus),
        *([write, train] if pretrained else [train, write]),
    ]
    return html('<h1>Start</h1><div class="steps" style="margin-top:14px">{}</div>', join(cards))


def _step(
    position: int, title: str, name: str, state: str, body: str, link: str, now: bool
) -> Html:
    return html(
        '<section class="step{}"><div class="which"><b>{}</b>{}{}</div><div class=name>{}</div>'
        '{}<div class="bottom row small">{}</div></section>',
        " now" if now else "",
        position,
        title,
        state,
        name,
        body,
        link,
    )


def _progress(services: Services, job_id: str | None) -> Html:
    if job_id is None:
        return NOTHING
    job = services.jobs.get(job_id)
    if job.state == "queued":
        return html('<div class="dim small">{}</div>', services.jobs.why_waiting(job))
    if job.state not in ("starting", "running"):
        return callout(outcome(job)) if job.state in ("failed", "dead") else NOTHING
    if job.kind == "train" and job.run_id:
        left = services.curves.time_left(job.run_id)
    else:
        left = services.jobs.time_left(job)
    rest = "" if left is None else f", about {duration(left)} left"
    return html(
        "{}<div class='dim small'>{}, {}{}</div>",
        meter(share_done(job)),
        describe_job(job),
        percent(share_done(job)),
        rest,
    )


def _text_step(services: Services, corpus: ListedCorpus) -> Html:
    summary = corpus.summary or {}
    body = html("<div class=dim>{}", count(corpus.num_documents, "document"))
    if corpus.num_chunks:
        body += f", {count(corpus.num_chunks, 'chunk')}"
    if summary.get("index_kind"):
        body += f", {summary['index_kind']} index"
    body += html("</div>")
    building = corpus.state == "building"
    if building or corpus.state == "failed":
        body += _progress(services, corpus.build_job_id)
    link = html('<a href="/corpora?corpus={}">Open the corpus</a>', corpus.id)
    if corpus.state in ("uploaded", "failed"):
        button = action(
            "Build the index",
            f"POST /api/v1/corpora/{corpus.id}/build",
            kind="primary",
            elem_id="build",
        )
        link = html("{} {}", button, link)
    state = badge(corpus.state)
    return _step(1, "Text", escape(corpus.name), state, body, link, corpus.state != "ready")


def _train_step(
    services: Services, run: RunSummary | None, corpus: ListedCorpus, *, is_third: bool
) -> Html:
    position = 3 if is_third else 2
    if run is None and is_third:
        body = html(
            '<div class="dim">A model that learns from your text writes more like it, and makes '
            "more of what it reads.</div>"
        )
        link = html('<a href="/runs?corpus={}">Train a model</a>', corpus.id)
        return _step(position, "Train", "Not needed to write", "", body, link, False)
    if run is None:
        link = action(
            "Build and train",
            f"POST /api/v1/corpora/{corpus.id}/train",
            kind="primary",
            elem_id="build-and-train",
        )
        if corpus.state == "empty":
            link = html('<a href="/corpora?corpus={}">Upload files first</a>', corpus.id)
        body = html('<div class="dim">No model has been trained yet.</div>')
        return _step(position, "Train", "No model yet", "", body, link, corpus.state == "ready")
    body = html("<div class=dim>step {:,} of {:,}</div>", run.step, run.total_steps)
    if run.state in ("queued", "starting", "running"):
        body += _progress(services, run.job_id)
    elif run.message and run.state in ENDED_EARLY and corpus.state != "failed":
        body += callout(run.message, calm=run.state != "failed")
    link = html('<a href="/runs?run={}">Open the run</a>', run.id)
    active = run.state in ("starting", "running")
    return _step(position, "Train", escape(run.name), badge(run.state), body, link, active)


def _write_step(
    run: WritableRun | None, has_written: bool, corpus: ListedCorpus, *, is_second: bool
) -> Html:
    position = 2 if is_second else 3
    if run is None and corpus.num_chunks and is_second:
        model = pretrained_models()[0]
        body = html(
            "<div class=dim>{}, a pretrained model of {} parameters, reads the neighbors of this "
            "corpus without any training.</div>",
            model.title,
            parameters(model.parameters),
        )
        button = action(
            "Write now",
            f"POST /api/v1/corpora/{corpus.id}/write",
            kind="primary",
            then="/generate?gen={id}",
            elem_id="write-pretrained",
        )
        form = html("/generate?run={}&amp;corpus={}", model.name, corpus.id)
        link = html('{} <a href="{}">Open the writing page</a>', button, form)
        return _step(position, "Write", "Ready to write", badge("ready"), body, link, True)
    if run is None:
        awaited = "the index is built" if is_second else "training has written its first checkpoint"
        body = html('<div class="dim">Possible as soon as {}.</div>', awaited)
        return _step(position, "Write", "Not yet", "", body, "", False)
    newest = run.checkpoints[-1]
    body = html(
        "<div class=dim>{}, step {:,}. More training writes better text; you can write at any "
        "time.</div>",
        run.name,
        newest.step,
    )
    title = "Ready to write again" if has_written else "Ready to write"
    link = write_button(run) + html(' <a href="/generate">Open the writing page</a>')
    return _step(position, "Write", title, badge("ready"), body, link, not has_written)
