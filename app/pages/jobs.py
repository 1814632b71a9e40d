"""Jobs: the queue, what ended, and one job with its log."""

import time

import gradio as gr

from app.html import NOTHING, Html, html, join
from app.live_page import Page
from app.pages.job_detail import render_chosen
from app.pages.job_filters import Filter, find_jobs, render_filters, render_pages
from app.pages.job_parts import buttons, progress, time_words
from app.pages.workers import render_workers
from app.services.services import Services
from app.services.views.jobs import Job
from app.ui import Query, action, badge, empty, job_address


def build(services: Services, demo: gr.Blocks) -> None:
    """Add the page to the app."""
    page = Page(services, demo, "Jobs", "/jobs")
    with gr.Column(elem_id="page"):
        page.part("jobs-head", lambda _query: html("<h1>Jobs</h1>"))
        page.part("job", lambda query: render_chosen(services, query))
        page.part("jobs", lambda query: render_jobs(services, query))
        page.part("worker-list", lambda _query: render_workers(services))
    page.wire()


def render_jobs(services: Services, query: Query) -> Html:
    """Return the list: filtered, and page by page."""
    numbers = services.jobs.count()
    if not numbers:
        return empty(
            html(
                'Nothing has been started yet. <a href="/">Start</a> has two ways to begin: sample '
                "text, or a folder of your own."
            )
        )
    chosen = Filter.of(query)
    jobs, following = find_jobs(services, chosen)
    runs, corpora = services.runs.list_runs(), services.corpora.list_corpora()
    names = {item.id: item.name for item in runs} | {item.id: item.name for item in corpora}
    first = next((job.id for job in services.jobs.queue()), None)
    rows = join(_row(services, job, names, first) for job in jobs)
    shown = html(
        '<div class="scroll"><table class="list stack"><thead><tr><th>Job</th><th>State</th>'
        "<th>Progress</th><th>Time</th><th><span class=only-read>Actions</span></th></tr>"
        "</thead><tbody>{}</tbody></table></div>",
        rows,
    )
    if not rows:
        shown = empty(html('No job is like that. <a href="/jobs">Show all jobs</a>'))
    return html(
        '<section class="panel">{}{}{}</section>',
        render_filters(numbers, chosen),
        shown,
        render_pages(chosen, following),
    )


def _row(services: Services, job: Job, names: dict[str, str], first: str | None) -> Html:
    now = time.time()
    title = html('<a href="/jobs?job={}">{} {}</a>', job.id, job.kind, job.number)
    if subject := names.get(job.run_id or job.corpus_id or ""):
        title += html('<div class="dim small"><a href="{}">{}</a></div>', job_address(job), subject)
    return html(
        '<tr><td>{}</td><td>{}</td><td class="wide">{}</td><td class="dim small">{}</td><td>'
        '<span class="row">{}{}</span></td></tr>',
        title,
        badge(job.state),
        progress(services, job),
        time_words(job, now),
        _place(job, first),
        buttons(services, job, "tiny"),
    )


def _place(job: Job, first: str | None) -> Html:
    """Return what changes the place of a job that waits."""
    if job.state != "queued" or job.id == first:
        return NOTHING
    return action("Run next", f"POST /api/v1/jobs/{job.id}/first", kind="tiny")
