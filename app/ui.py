"""What every page shows and uses: header, status strip, buttons, badges, callouts."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.format import count, number, percent, size
from app.html import Html, html, join
from app.services.jobs import share_done
from app.services.services import Services
from app.services.views.jobs import Job
from app.services.views.runs import RunSummary

STATIC_DIR = Path(__file__).with_name("static")
PAGES = (
    ("Start", "/"),
    ("Corpora", "/corpora"),
    ("Runs", "/runs"),
    ("Generate", "/generate"),
    ("Jobs", "/jobs"),
    ("Settings", "/settings"),
)
MOST_IN_STRIP = 2
LITTLE_DISK = 5
"""The disk is said to be nearly full below this many times what uploads leave free."""

PRIVATE: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "concurrency_limit": None,
}
"""How every event of a page is wired: it is no endpoint of the API, and events run side by side."""

Query = Mapping[str, str]
"""Parameters of the page's address."""


def render_header(services: Services, title: str, path: str) -> Html:
    """Return navigation and status strip."""
    links = join(
        html(
            '<a href="{}"{}>{}</a>',
            address,
            " aria-current=page" if address == path else "",
            name,
        )
        for name, address in PAGES
    )
    return html(
        '<a class="skip" href="{}#page">Skip to the content</a><header class="topbar" '
        'data-title="{}"><a class="brand" href="/">RETRO</a><nav aria-label="Pages">{}</nav>'
        '<div class="strip" id="strip" role="group" aria-label="State of the app">{}</div>'
        "</header>",
        path,
        title,
        links,
        render_strip(services),
    )


def render_strip(services: Services) -> Html:
    """Return device, what is at work, what waits, and free disk."""
    parts = [html("<span>{}</span>", services.system.device_label())]
    if services.system.lacks_worker():
        parts.append(
            html('<a class="bad-text" href="/jobs#workers">no worker is running, jobs wait</a>')
        )
    at_work = services.jobs.at_work()
    parts += [_at_work(job) for job in at_work[:MOST_IN_STRIP]]
    if len(at_work) > MOST_IN_STRIP:
        parts.append(
            html('<a href="/jobs?state=running">{} more</a>', len(at_work) - MOST_IN_STRIP)
        )
    if waiting := len(services.jobs.queue()):
        parts.append(html('<a href="/jobs?state=queued">{} waiting</a>', count(waiting, "job")))
    parts.append(_free_disk(services))
    return join(parts)


def _at_work(job: Job) -> Html:
    share = share_done(job)
    return html(
        '<span class="work"><a href="{}">{}</a>{}<span class="num">{}</span></span>',
        job_address(job),
        describe_job(job),
        meter(share),
        percent(share),
    )


def _free_disk(services: Services) -> Html:
    free, kept = services.system.disk().free, services.installation.kept_free_bytes
    kind = "bad-text" if free < kept else "warn-text" if free < LITTLE_DISK * kept else ""
    words = f"{size(free)} free" if not kind else f"only {size(free)} free"
    return html('<a class="num {}" href="/settings">{}</a>', kind, words)


def job_address(job: Job) -> str:
    """Return the page that shows what a job works on."""
    if job.kind == "train" and job.run_id:
        return f"/runs?run={job.run_id}"
    if job.corpus_id:
        return f"/corpora?corpus={job.corpus_id}"
    return f"/jobs?job={job.id}"


KIND_WORDS = {"train": "training", "build": "building"}
STAGE_WORDS = {
    "ingest": "reading documents",
    "convert": "converting the bundled model, once",
    "tokenize": "training the tokenizer",
    "chunk": "cutting into chunks",
    "embed": "computing keys",
    "index": "building the index",
    "neighbors": "finding neighbors",
    "train": "training",
}


def describe_job(job: Job) -> str:
    """Return what a job does at the moment, in a few words."""
    kind = KIND_WORDS.get(job.kind, job.kind)
    stage = STAGE_WORDS.get(job.stage, job.stage)
    return kind if not stage or stage == kind else f"{kind}: {stage}"


def meter(share: float) -> Html:
    """Return a thin bar that shows a share."""
    return html(
        '<span class="meter" role="img" aria-label="{} done"><span style="width:{:.1f}%">'
        "</span></span>",
        percent(share),
        100 * share,
    )


def badge(state: str, label: str | None = None) -> Html:
    """Return a state as a small label."""
    return html('<span class="state {}">{}</span>', state, label or state)


@dataclass(frozen=True, kw_only=True)
class Question:
    """Asks for a whole number before a call is made."""

    text: str
    """What to ask."""
    field: str
    """Name of the number in the body of the request."""
    value: int
    """What is suggested."""
    lowest: int
    """The smallest number that makes sense."""


def action(
    label: str,
    call: str,
    *,
    kind: str = "",
    confirm: str | None = None,
    then: str | None = None,
    done: str | None = None,
    body: Mapping[str, Any] | None = None,
    elem_id: str | None = None,
    asks: Question | None = None,
) -> Html:
    """Return a button that calls the REST API.

    Args:
        label: What it says.
        call: Method and address.
        kind: CSS classes beside ``btn``.
        confirm: A question to answer first.
        then: Where to go afterwards; ``{id}`` stands for the id in the answer.
        done: What to say afterwards.
        body: JSON of the request.
        elem_id: Id of the button.
        asks: A number to ask for first.
    """
    attributes = {
        "id": elem_id,
        "data-call": call,
        "data-confirm": confirm,
        "data-then": then,
        "data-done": done,
        "data-body": None if body is None else json.dumps(body),
        "data-asks": None if asks is None else json.dumps(asdict(asks)),
    }
    shown = join(
        html(' {}="{}"', name, value) for name, value in attributes.items() if value is not None
    )
    return html('<button type="button" class="btn {}"{}>{}</button>', kind, shown, label)


def write_button(run: RunSummary) -> Html:
    """Return the button that starts a text with the newest checkpoint of a run."""
    return action(
        "Write",
        f"POST /api/v1/runs/{run.id}/write",
        kind="primary",
        then="/generate?gen={id}",
        elem_id="write",
    )


def facts(values: Mapping[str, str]) -> Html:
    """Return names with their values."""
    items = join(html("<div><dt>{}</dt><dd>{}</dd></div>", k, v) for k, v in values.items())
    return html('<dl class="facts">{}</dl>', items)


def empty(text: str) -> Html:
    """Return a note for a place that has nothing to show yet."""
    return html('<div class="empty">{}</div>', text)


def callout(text: str, *, calm: bool = False) -> Html:
    """Return a message that stays on the page."""
    return html('<div class="callout{}" role="status">{}</div>', " calm" if calm else "", text)


def missing(error: Exception) -> Html:
    """Return what to show where an id in the address leads nowhere."""
    return empty(f"{error} It may have been deleted.")


def loss(value: float | None) -> str:
    """Return a loss with the digits that matter."""
    return number(value, 3)
