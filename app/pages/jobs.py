"""Jobs: the queue, what ended, and one job with its log."""

import time
from typing import Any

import gradio as gr

from app.format import ago, duration, escape, percent
from app.services.jobs import outcome, restart_note, share_done, silence
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
    """Return one job if the address names it, the workers, and the list."""
    jobs = in_order(services)
    chosen = ""
    if job_id := query.get("job"):
        try:
            chosen = render_job(services, services.jobs.get(job_id))
        except NotFoundError as error:
            chosen = missing(error)
    if not jobs:
        note = 'Nothing has been started yet. <a href="/">Start</a> has two ways to begin.'
        return (
            f"<h1>Jobs</h1><div style='margin-top:14px'>{empty(note)}</div>"
            f"{render_workers(services)}"
        )
    runs, corpora = services.runs.list_runs(), services.corpora.list_corpora()
    names = {item["id"]: item["name"] for item in [*runs, *corpora]}
    first = next((job["id"] for job in jobs if job["state"] == "queued"), None)
    rows = "".join(_row(services, job, names, first) for job in jobs)
    return (
        f'<div class="head"><h1>Jobs</h1></div>{chosen}'
        '<section class="panel"><table class="list stack"><thead><tr><th>Job</th><th>State</th>'
        "<th>Progress</th><th>Started</th><th></th></tr></thead>"
        f"<tbody>{rows}</tbody></table></section>{render_workers(services)}"
    )


def in_order(services: Services) -> list[dict[str, Any]]:
    """Return jobs at work, then those that wait as they will start, then the newest ended."""
    jobs = services.jobs.list_jobs(limit=100)
    at_work = [job for job in services.jobs.active() if job["state"] != "queued"]
    ended = [job for job in jobs if JobState(job["state"]).is_finished]
    return [*at_work, *services.jobs.queue(), *ended]


def _row(services: Services, job: dict[str, Any], names: dict[str, str], first: str | None) -> str:
    now = time.time()
    title = f'<a href="/jobs?job={escape(job["id"])}">{escape(job["kind"])} {job["number"]}</a>'
    if subject := names.get(job["run_id"] or job["corpus_id"]):
        title += f'<div class="dim small"><a href="{job_address(job)}">{escape(subject)}</a></div>'
    started = "-" if job["started_at"] is None else ago(job["started_at"], now)
    return (
        f"<tr><td>{title}</td><td>{badge(job['state'])}</td>"
        f'<td class="wide">{_progress(services, job)}</td>'
        f'<td class="dim num">{started}</td><td><span class="row">'
        f"{_place(job, first)}{_buttons(services, job, 'tiny')}</span></td></tr>"
    )


def _place(job: dict[str, Any], first: str | None) -> str:
    """Return what changes the place of a job that waits."""
    if job["state"] != "queued" or job["id"] == first:
        return ""
    return action("Run next", f"POST /api/v1/jobs/{job['id']}/first", kind="tiny")


def _progress(services: Services, job: dict[str, Any]) -> str:
    if job["state"] == "running":
        run_id = job["run_id"] if job["kind"] == "train" else None
        left = services.runs.time_left(run_id) if run_id else None
        rest = "" if left is None else f", about {duration(left)} left"
        quiet = silence(job, time.time())
        if quiet is not None:
            rest += f", nothing reported for {duration(quiet)}: it may hang, see its log"
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
        "Priority": str(job["priority"]),
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
        f"{_events(services, job)}"
        f"<h3 style='margin:14px 0 6px'>Log</h3>{shown}</section>"
    )


def _events(services: Services, job: dict[str, Any]) -> str:
    now = time.time()
    rows = "".join(
        f'<tr><td class="dim num">{ago(event["at"], now)}</td><td>{badge(event["to"])}</td>'
        f'<td class="num">{event["attempt"] or "-"}</td>'
        f'<td class="wide">{escape(event["message"])}</td></tr>'
        for event in services.jobs.events(job["id"])
    )
    return (
        '<details id="job-events"><summary>Changes of its state</summary><div class="scroll">'
        '<table class="list"><thead><tr><th>When</th><th>State</th><th>Attempt</th><th>Why</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def render_workers(services: Services) -> str:
    """Return the workers, when they last reported, and what their slots do."""
    workers = services.system.workers()
    note = ""
    if services.system.lacks_worker():
        note = callout("No worker is running, so jobs wait. Start the app again.")
    rows = "".join(_worker_row(worker) for worker in workers)
    table = (
        '<table class="list stack"><thead><tr><th>Worker</th><th>State</th>'
        f"<th>Last heartbeat</th><th>Slots</th></tr></thead><tbody>{rows}</tbody></table>"
    )
    return (
        f'<section class="panel" id="workers"><h2>Workers</h2>{note}'
        f"{table if rows else empty('No worker has reported in the last day.')}</section>"
    )


def _worker_row(worker: dict[str, Any]) -> str:
    slots = "".join(_slot(item) for item in worker["slots"])
    other = "" if worker["is_this_version"] else '<div class="dim small">another version</div>'
    state = badge("running", "alive") if worker["alive"] else badge("dead", "silent")
    return (
        f'<tr><td>{escape(worker["host"])}<div class="dim small num">process {worker["pid"]}'
        f"</div>{other}</td><td>{state}</td>"
        f'<td class="num">reported {duration(worker["heartbeat_age"])} ago</td>'
        f'<td class="wide">{slots}</td></tr>'
    )


def _slot(item: dict[str, Any]) -> str:
    job = item["job"]
    if job is None:
        return f'<div>{escape(item["slot"])}: <span class="dim">free</span></div>'
    lease = "its lease has ended"
    if job["lease_left"] is not None and job["lease_left"] > 0:
        lease = f"lease for another {duration(job['lease_left'])}"
    return (
        f'<div>{escape(item["slot"])}: <a href="/jobs?job={escape(job["id"])}">'
        f"{escape(job['kind'])} {job['number']}</a> "
        f'<span class="dim small num">process {job["pid"] or "-"}, {lease}</span></div>'
    )
