"""One job: what it does, how its state changed, and its log."""

import time

from app.format import ago, duration, escape
from app.pages.job_parts import buttons, progress
from app.services.jobs import outcome, restart_note
from app.services.services import Services
from app.services.views.jobs import Job
from app.ui import Query, badge, callout, describe_job, facts, job_address, missing
from jobs.errors import NotFoundError

LOG_LINES = 200


def render_chosen(services: Services, query: Query) -> str:
    """Return the job that the address names, if it names one."""
    job_id = query.get("job")
    if not job_id:
        return ""
    try:
        return render_job(services, services.jobs.get(job_id))
    except NotFoundError as error:
        return missing(error)


def render_job(services: Services, job: Job) -> str:
    """Return one job with its log."""
    now = time.time()
    took = "-"
    if job.started_at:
        took = duration((job.finished_at or now) - job.started_at)
    values = {
        "State": badge(job.state),
        "Stage": escape(describe_job(job)),
        "Progress": f'<span class="num">{job.done:,} of {job.total:,}</span>',
        "Takes so far" if job.finished_at is None else "Took": took,
        "Attempt": str(job.attempt),
        "Priority": str(job.priority),
        "Works on": f'<a href="{job_address(job)}">open</a>',
    }
    log = services.jobs.log(job.id, LOG_LINES)
    reason = outcome(job)
    note = callout(reason) if job.state in ("failed", "dead") and reason else ""
    if again := restart_note(job):
        note = callout(again, calm=True)
    download = ""
    if log:
        address = f"/api/v1/jobs/{escape(job.id)}/log.txt"
        download = (
            f'<span class="dim small">the last {LOG_LINES} lines, newest below</span>'
            f'<a class="push small" href="{address}" download>Download the whole log</a>'
        )
    shown = (
        f'<pre class="log" tabindex="0" aria-label="Log">{escape(log) or "No output yet."}</pre>'
    )
    return (
        f'<section class="panel"><div class="head"><h2 style="margin:0">{escape(job.kind)} '
        f'{job.number}</h2><span class="push">{buttons(services, job)}</span></div>'
        f"{note}{facts(values)}{_bar(services, job)}"
        f"{_events(services, job)}"
        f'<div class="head log-head"><h3>Log</h3>{download}</div>{shown}</section>'
    )


def _bar(services: Services, job: Job) -> str:
    return "" if job.state != "running" else f'<div class="now">{progress(services, job)}</div>'


def _events(services: Services, job: Job) -> str:
    now = time.time()
    rows = "".join(
        f'<tr><td class="dim num">{ago(event.at, now)}</td><td>{badge(event.to)}</td>'
        f'<td class="num">{event.attempt or "-"}</td>'
        f'<td class="wide">{escape(event.message)}</td></tr>'
        for event in services.jobs.events(job.id)
    )
    return (
        '<details id="job-events"><summary>Changes of its state</summary><div class="scroll">'
        '<table class="list"><thead><tr><th>When</th><th>State</th><th>Attempt</th><th>Why</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )
