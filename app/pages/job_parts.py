"""What the list and the page of one job show alike: progress, times, buttons."""

import time

from app.format import ago, duration, percent
from app.html import NOTHING, Html, html
from app.services.jobs import outcome, restart_note, share_done, silence
from app.services.services import Services
from app.services.views.jobs import Job
from app.ui import action, describe_job, meter


def progress(services: Services, job: Job) -> Html:
    """Return how far a job is, what it waits for, or what came of it."""
    if job.state == "running":
        rest = left_words(services, job)
        quiet = silence(job, time.time())
        if quiet is not None:
            rest += f", nothing reported for {duration(quiet)}: it may hang, see its log"
        return html(
            '<div style="min-width:160px">{}<div class="dim small">{}, {}{}</div></div>',
            meter(share_done(job)),
            describe_job(job),
            percent(share_done(job)),
            rest,
        )
    if job.state == "queued":
        words = f"{restart_note(job)} {services.jobs.why_waiting(job)}".strip()
        return html('<span class="dim">{}</span>', words)
    return html('<span class="dim">{}</span>', outcome(job))


def left_words(services: Services, job: Job) -> str:
    """Return how long a job still needs, where that is known."""
    if job.kind == "train":
        left = services.curves.time_left(job.run_id) if job.run_id else None
        return "" if left is None else f", about {duration(left)} left"
    left = services.jobs.time_left(job)
    return "" if left is None else f", about {duration(left)} left in this stage"


def buttons(services: Services, job: Job, size: str = "") -> Html:
    """Return what can be done with a job: cancel it, or submit it again."""
    address = f"/api/v1/jobs/{job.id}"
    if not job.state.is_finished:
        if job.cancel_requested:
            return html('<span class="dim small">stopping</span>')
        return action("Cancel", f"POST {address}/cancel", kind=f"danger {size}")
    if job.state != "succeeded" and services.jobs.is_newest(job):
        return action("Retry", f"POST {address}/retry", kind=size, done="Submitted again.")
    return NOTHING


def time_words(job: Job, now: float) -> Html:
    """Return how long a job waits, works or took, and when it ended."""
    if job.started_at is None:
        if job.finished_at is None:
            return html('<span class="num">waits {}</span>', duration(now - job.created_at))
        return html('<span class="num">{}</span>', ago(job.finished_at, now))
    if job.finished_at is None:
        return html('<span class="num">for {}</span>', duration(now - job.started_at))
    took = duration(job.finished_at - job.started_at)
    return html(
        '<span class="num">took {}</span>, <span class="num">{}</span>',
        took,
        ago(job.finished_at, now),
    )
