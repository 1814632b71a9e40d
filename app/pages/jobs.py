"""Jobs: the queue, what ended, and one job with its log."""

import time
from typing import Any

import gradio as gr

from app.format import ago, duration, escape, percent
from app.services.jobs import outcome, restart_note, share_done
from app.services.services import Services
from app.ui import (
    Page,
    Query,
    action,
    badge,
    callout,
    describe_job,
    empty,
    facts,
    job_address,
    meter,
    missing,
)
from jobs.errors import NotFoundError
from jobs.states import JobState


def build(services: Services, demo: gr.Blocks) -> None:
    """Add the page to the app."""
    page = Page(services, demo, "Jobs", "/jobs")
    with gr.Column(elem_id="page"):
        page.part("jobs", lambda query: render_jobs(services, query))
    page.wire()


def render_jobs(services: Services, query: Query) -> str:
    """Return one job if the address names it, and the list."""
    jobs = services.jobs.list_jobs(limit=100)
    chosen = ""
    if job_id := query.get("job"):
        try:
            chosen = render_job(services, services.jobs.get(job_id))
        except NotFoundError as error:
            chosen = missing(error)
    if not jobs:
        note = 'Nothing has been started yet. <a href="/">Start</a> has two ways to begin.'
        return f"<h1>Jobs</h1><div style='margin-top:14px'>{empty(note)}</div>"
    warning = ""
    if services.system.lacks_worker():
        warning = callout("No worker is running, so jobs wait. Start the app again.")
    runs, corpora = services.runs.list_runs(), services.corpora.list_corpora()
    names = {item["id"]: item["name"] for item in [*runs, *corpora]}
    rows = "".join(_row(services, job, names) for job in jobs)
    return (
        f'<div class="head"><h1>Jobs</h1></div>{warning}{chosen}'
        '<section class="panel"><table class="list stack"><thead><tr><th>Job</th><th>State</th>'
        "<th>Progress</th><th>Started</th><th></th></tr></thead>"
        f"<tbody>{rows}</tbody></table></section>"
    )


def _row(services: Services, job: dict[str, Any], names: dict[str, str]) -> str:
    now = time.time()
    title = f'<a href="/jobs?job={escape(job["id"])}">{escape(job["kind"])} {job["number"]}</a>'
    if subject := names.get(job["run_id"] or job["corpus_id"]):
        title += f'<div class="dim small"><a href="{job_address(job)}">{escape(subject)}</a></div>'
    started = "-" if job["started_at"] is None else ago(job["started_at"], now)
    return (
        f"<tr><td>{title}</td><td>{badge(job['state'])}</td>"
        f'<td class="wide">{_progress(services, job)}</td>'
        f'<td class="dim num">{started}</td><td>{_buttons(services, job, "tiny")}</td></tr>'
    )


def _progress(services: Services, job: dict[str, Any]) -> str:
    if job["state"] == "running":
        run_id = job["run_id"] if job["kind"] == "train" else None
        left = services.runs.time_left(run_id) if run_id else None
        rest = "" if left is None else f", about {duration(left)} left"
        return (
            f'<div style="min-width:160px">{meter(share_done(job))}<div class="dim small">'
            f"{escape(describe_job(job))}, {percent(share_done(job))}{rest}</div></div>"
        )
    if job["state"] == "queued":
        words = f"{restart_note(job)} {services.jobs.why_waiting(job)}".strip()
        return f'<span class="dim">{escape(words)}</span>'
    return f'<span class="dim">{escape(outcome(job))}</span>'


def _buttons(services: Services, job: dict[str, Any], size: str = "") -> str:
    address = f"/api/v1/jobs/{job['id']}"
    if not JobState(job["state"]).is_finished:
        if job["cancel_requested"]:
            return '<span class="dim small">stopping</span>'
        return action("Cancel", f"POST {address}/cancel", kind=f"danger {size}")
    if job["state"] != "succeeded" and services.jobs.is_newest(job):
        return action("Retry", f"POST {address}/retry", kind=size, done="Submitted again.")
    return ""


def render_job(services: Services, job: dict[str, Any]) -> str:
    """Return one job with its log."""
    now = time.time()
    took = "-"
    if job["started_at"]:
        took = duration((job["finished_at"] or now) - job["started_at"])
    values = {
        "State": badge(job["state"]),
        "Stage": escape(describe_job(job)),
        "Progress": f'<span class="num">{job["done"]:,} of {job["total"]:,}</span>',
        "Took": took,
        "Attempt": str(job["attempt"]),
        "Works on": f'<a href="{job_address(job)}">open</a>',
    }
    log = services.jobs.log(job["id"], 200)
    reason = outcome(job)
    note = callout(reason) if job["state"] in ("failed", "dead") and reason else ""
    if again := restart_note(job):
        note = callout(again, calm=True)
    shown = (
        f'<pre class="log" tabindex="0" aria-label="Log">{escape(log) or "No output yet."}</pre>'
    )
    return (
        f'<section class="panel"><div class="head"><h2 style="margin:0">{escape(job["kind"])} '
        f'{job["number"]}</h2><span class="push">{_buttons(services, job)}</span></div>'
        f"{note}{facts(values)}"
        f"<h3 style='margin:14px 0 6px'>Log</h3>{shown}</section>"
    )
