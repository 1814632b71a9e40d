"""One job: what it does, how its state changed, and its log."""

import time

from app.format import ago, duration
from app.html import NOTHING, Html, escape, html, join
from app.pages.job_parts import buttons, progress
from app.services.jobs import outcome, restart_note
from app.services.services import Services
from app.services.views.jobs import Job
from app.ui import Query, badge, callout, describe_job, facts, job_address, missing
from jobs.errors import NotFoundError

LOG_LINES = 200


def render_chosen(services: Services, query: Query) -> Html:
    """Return the job that the address names, if it names one."""
    job_id = query.get("job")
    if not job_id:
        return NOTHING
    try:
        return render_job(services, services.jobs.get(job_id))
    except NotFoundError as error:
        return missing(error)


def render_job(services: Services, job: Job) -> Html:
    """Return one job with its log."""
    now = time.time()
    took = "-"
    if job.started_at:
        took = duration((job.finished_at or now) - job.started_at)
    values = {
        "State": badge(job.state),
        "Stage": escape(describe_job(job)),
        "Progress": html('<span class="num">{:,} of {:,}</span>', job.done, job.total),
        "Takes so far" if job.finished_at is None else "Took": took,
        "Attempt": str(job.attempt),
        "Priority": str(job.priority),
        "Works on": html('<a href="{}">open</a>', job_address(job)),
    }
    log = services.jobs.log(job.id, LOG_LINES)
    reason = outcome(job)
    note = callout(reason) if job.state in ("failed", "dead") and reason else ""
    if again := restart_note(job):
        note = callout(again, calm=True)
    download = ""
    if log:
        address = f"/api/v1/jobs/{job.id}/log.txt"
        download = html(
            '<span class="dim small">the last {} lines, newest below</span><a class="push small" '
            'href="{}" download>Download the whole log</a>',
            LOG_LINES,
            address,
        )
    shown = html(
        '<pre class="log" tabindex="0" aria-label="Log">{}</pre>', escape(log) or "No output yet."
    )
    return html(
        '<section class="panel"><div class="head"><h2 style="margin:0">{} {}</h2><span '
        'class="push">{}</span></div>{}{}{}{}<div class="head log-head"><h3>Log</h3>{}</div>'
        "{}</section>",
        job.kind,
        job.number,
        buttons(services, job),
        note,
        facts(values),
        _bar(services, job),
        _events(services, job),
        download,
        shown,
    )


def _bar(services: Services, job: Job) -> Html:
    return (
        NOTHING
        if job.state != "running"
        else html('<div class="job-progress">{}</div>', progress(services, job))
    )


def _events(services: Services, job: Job) -> Html:
    now = time.time()
    rows = join(
        html(
            '<tr><td class="dim num">{}</td><td>{}</td><td class="num">{}</td><td class="wide">'
            "{}</td></tr>",
            ago(event.at, now),
            badge(event.to),
            event.attempt or "-",
            event.message,
        )
        for event in services.jobs.events(job.id)
    )
    return html(
        '<details id="job-events"><summary>Changes of its state</summary><div class="scroll">'
        '<table class="list"><thead><tr><th>When</th><th>State</th><th>Attempt</th><th>Why</th>'
        "</tr></thead><tbody>{}</tbody></table></div></details>",
        rows,
    )
