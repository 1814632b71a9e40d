"""Runs: the list, one run, several runs side by side, and the form that starts one."""

import time
from collections.abc import Callable, Sequence
from urllib.parse import quote

import gradio as gr

from app.chart import render_run_plots
from app.format import ago, parameters
from app.html import NOTHING, Html, escape, html, join
from app.live_page import Page
from app.pages import compare, run_about, run_view
from app.pages.new_run import NewRunForm
from app.services.services import Services
from app.services.views.runs import Run, RunSummary
from app.ui import Query, badge, empty, meter, missing
from jobs.errors import NotFoundError

RunPart = Callable[[Services, Run], Html]


def build(services: Services, demo: gr.Blocks) -> None:
    """Add the page to the app.

    What a person may be typing into stands in parts of its own, which only change when
    somebody has saved something.
    """
    page = Page(services, demo, "Runs", "/runs")
    with gr.Column(elem_id="page"):
        page.part("run-about", lambda query: _of_run(services, query, run_about.render_about))
        page.part("runs", lambda query: render_runs(services, query))
        page.part("run-charts", lambda query: render_charts(services, query))
        page.part("run-notes", lambda query: _of_run(services, query, run_about.render_notes))
        page.part("run-details", lambda query: render_details(services, query))
        form = NewRunForm()
    page.wire()
    form.wire(services, demo)


def _of_run(services: Services, query: Query, render: RunPart) -> Html:
    """Return a part of the page of one run; nothing on the other pages."""
    if (run_id := query.get("run")) is None:
        return NOTHING
    try:
        return render(services, services.runs.get(run_id))
    except NotFoundError:
        return NOTHING


def render_runs(services: Services, query: Query) -> Html:
    """Return the list of runs, or what changes all the time about those in the address."""
    if "compare" in query:
        return compare.render_results(services, query["compare"])
    if (run_id := query.get("run")) is not None:
        try:
            return run_view.render_state(services, services.runs.get(run_id))
        except NotFoundError as error:
            return missing(error)
    if (parent_id := query.get("duplicate")) is not None:
        return _duplicate_head(services, parent_id)
    return render_list(services, query.get("tag"))


def render_charts(services: Services, query: Query) -> Html:
    """Return the place of the curves."""
    if "compare" in query:
        return compare.render_plots(services, query["compare"])
    return _of_run(services, query, lambda _services, run: render_run_plots(run.id))


def render_details(services: Services, query: Query) -> Html:
    """Return checkpoints, settings and log, or the settings of the compared runs."""
    if "compare" in query:
        return compare.render_settings(services, query["compare"])
    return _of_run(services, query, run_view.render_details)


def _duplicate_head(services: Services, parent_id: str) -> Html:
    name = services.runs.name_of(parent_id)
    if name is None:
        return missing(NotFoundError(f"There is no run {parent_id}."))
    return html(
        '<p class="small"><a href="/runs">All runs</a></p><div class="head"><h1>Duplicate '
        '{}</h1></div><p class="dim">The form has the settings of that run. Change what shall '
        "be different, then start.</p>",
        name,
    )


def render_list(services: Services, tag: str | None) -> Html:
    """Return all runs, or those with a tag."""
    every = services.runs.list_runs()
    if not every:
        note = html(
            'No run yet. A run trains a model on a corpus; <a href="/corpora">build a corpus</a> '
            'first, or go to <a href="/">Start</a>.'
        )
        ready = any(item.state in ("ready", "building") for item in services.corpora.list_corpora())
        body = empty("No run yet. Start one below." if ready else note)
        return html('<div class="head"><h1>Runs</h1></div>{}', body)
    runs = every if tag is None else [run for run in every if tag in run.tags]
    rows = join(_row(run) for run in runs)
    table = html(
        '<section class="panel"><table class="list stack pickable"><thead><tr><th class="pick">'
        "</th><th>Run</th><th>State</th><th>Steps</th><th>Corpus</th><th>Changed</th></tr>"
        "</thead><tbody>{}</tbody></table></section>",
        rows,
    )
    if not runs:
        table = empty(html('No run has the tag {}. <a href="/runs">Show all runs</a>.', tag))
    button = html(
        '<button type="button" class="btn" id="compare" disabled title="Tick two or more runs '
        'first">Compare</button>'
    )
    return html(
        '<div class="head"><h1>Runs</h1>{}<span class="push">{}</span></div>{}',
        _tags(every, tag),
        button if len(runs) > 1 else "",
        table,
    )


def _tags(runs: Sequence[RunSummary], chosen: str | None) -> Html:
    """Return links to the runs of each tag."""
    words = sorted({word for run in runs for word in run.tags})
    if not words:
        return NOTHING
    links = join(tag_link(word, current=word == chosen) for word in words)
    every = html('<a class="small" href="/runs">all</a>') if chosen is not None else ""
    return html('<nav class="tags" aria-label="Tags">{}{}</nav>', links, every)


def tag_link(tag: str, *, current: bool = False) -> Html:
    """Return a tag as a link to the runs that have it."""
    mark = html(" aria-current=true") if current else ""
    return html('<a class="tag" href="/runs?tag={}"{}>{}</a>', quote(tag, safe=""), mark, tag)


def _row(run: RunSummary) -> Html:
    share = run.step / run.total_steps if run.total_steps else 0.0
    run_id, name = escape(run.id), escape(run.name)
    tags = join(tag_link(tag) for tag in run.tags)
    return html(
        '<tr><td class="pick"><input type="checkbox" data-compare="{}" aria-label="Compare {}">'
        '</td><td><a href="/runs?run={}">{}</a><div class="dim small">{}</div>{}</td><td>'
        '{}</td><td class="wide"><span class="num">{:,} of {:,}</span>{}</td><td>{}</td><td '
        'class="dim num">{}</td></tr>',
        run_id,
        name,
        run_id,
        name,
        _size_words(run),
        html("<div class=tags>{}</div>", tags) if tags else "",
        badge(run.state),
        run.step,
        run.total_steps,
        meter(min(1.0, share)),
        run_view.corpus_link(run),
        ago(run.updated_at, time.time()),
    )


def _size_words(run: RunSummary) -> str:
    settings = run.settings
    words = str(settings.get("preset", ""))
    if settings.get("parameters"):
        words += f", {parameters(settings['parameters'])} parameters"
    return words
