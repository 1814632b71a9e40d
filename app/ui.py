"""The frame of every page: header, status strip, live parts, theme.

A page is made of parts that are rendered on the server from the database and the address
(``?run=...``). One timer per page asks for them; a part that did not change is not sent
again. Nothing else is kept in the browser, so a reload shows the same page.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.errors import shows_errors
from app.format import count, escape, number, percent, size
from app.services.jobs import share_done
from app.services.services import Services

STATIC_DIR = Path(__file__).with_name("static")
PAGES = (
    ("Start", "/"),
    ("Corpora", "/corpora"),
    ("Runs", "/runs"),
    ("Generate", "/generate"),
    ("Jobs", "/jobs"),
    ("Settings", "/settings"),
)
TICK_S = 1.5
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
Render = Callable[[Query], str]


@dataclass(frozen=True, slots=True)
class Part:
    """A live part of a page."""

    component: gr.HTML
    render: Render


class Page:
    """Collects the live parts of one page and wires its timer.

    Args:
        services: What the parts are rendered from.
        demo: The Gradio app.
        title: Shown in the browser's tab.
        path: Address of the page.
        tick_s: Seconds between updates.
    """

    def __init__(
        self, services: Services, demo: gr.Blocks, title: str, path: str, tick_s: float = TICK_S
    ) -> None:
        self._demo = demo
        self._parts: list[Part] = []
        self._tick_s = tick_s
        self.query = gr.Textbox(value="{}", visible=False, elem_id="query")
        self.part("header", lambda _query: render_header(services, title, path))

    def part(self, elem_id: str, render: Render) -> gr.HTML:
        """Add a part at this place of the page."""
        component = gr.HTML(elem_id=elem_id, apply_default_css=False, js_on_load=None)
        self._parts.append(Part(component, render))
        return component

    def wire(self) -> None:
        """Connect the parts; call it when the page has all of them."""
        seen = gr.State({})
        components = [part.component for part in self._parts]
        renders = [(part.component.elem_id or "", part.render) for part in self._parts]

        @shows_errors
        def load(request: gr.Request) -> list[Any]:
            query = dict(request.query_params)
            html = [render(query) for _, render in renders]
            hashes = {name: _hash(value) for (name, _), value in zip(renders, html, strict=True)}
            return [json.dumps(query), hashes, *html]

        @shows_errors
        def tick(query_text: str, hashes: dict[str, str]) -> list[Any]:
            query = read_query(query_text)
            updates: list[Any] = []
            fresh = dict(hashes)
            for name, render in renders:
                value = render(query)
                fresh[name] = _hash(value)
                updates.append(gr.skip() if hashes.get(name) == fresh[name] else value)
            return [fresh if fresh != hashes else gr.skip(), *updates]

        quiet: dict[str, Any] = {**PRIVATE, "queue": False}
        self._demo.load(load, None, [self.query, seen, *components], **quiet)
        timer = gr.Timer(self._tick_s)
        timer.tick(tick, [self.query, seen], [seen, *components], **quiet)


def read_query(text: str) -> Query:
    """Return the parameters of the page's address from the hidden field that keeps them."""
    try:
        values = json.loads(text)
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in values.items()} if isinstance(values, dict) else {}


def _hash(html: str) -> str:
    return hashlib.sha256(html.encode()).hexdigest()[:16]


def render_header(services: Services, title: str, path: str) -> str:
    """Return navigation and status strip."""
    links = "".join(
        f'<a href="{address}"{" aria-current=page" if address == path else ""}>{name}</a>'
        for name, address in PAGES
    )
    return (
        f'<a class="skip" href="{path}#page">Skip to the content</a>'
        f'<header class="topbar" data-title="{escape(title)}">'
        f'<a class="brand" href="/">RETRO</a><nav aria-label="Pages">{links}</nav>'
        f'<div class="strip" id="strip" role="group" aria-label="State of the app">'
        f"{render_strip(services)}</div></header>"
    )


def render_strip(services: Services) -> str:
    """Return device, what is at work, what waits, and free disk."""
    parts = [f"<span>{escape(services.system.device_label())}</span>"]
    if services.system.lacks_worker():
        parts.append('<a class="bad-text" href="/jobs#workers">no worker is running, jobs wait</a>')
    at_work = services.jobs.at_work()
    parts += [_at_work(job) for job in at_work[:MOST_IN_STRIP]]
    if len(at_work) > MOST_IN_STRIP:
        parts.append(f'<a href="/jobs?state=running">{len(at_work) - MOST_IN_STRIP} more</a>')
    if waiting := len(services.jobs.queue()):
        parts.append(f'<a href="/jobs?state=queued">{count(waiting, "job")} waiting</a>')
    parts.append(_free_disk(services))
    return "".join(parts)


def _at_work(job: dict[str, Any]) -> str:
    share = share_done(job)
    return (
        f'<span class="work"><a href="{job_address(job)}">{escape(describe_job(job))}</a>'
        f'{meter(share)}<span class="num">{percent(share)}</span></span>'
    )


def _free_disk(services: Services) -> str:
    free, kept = services.system.disk()["free"], services.installation.kept_free_bytes
    kind = "bad-text" if free < kept else "warn-text" if free < LITTLE_DISK * kept else ""
    words = f"{size(free)} free" if not kind else f"only {size(free)} free"
    return f'<a class="num {kind}" href="/settings">{words}</a>'


def job_address(job: Mapping[str, Any]) -> str:
    """Return the page that shows what a job works on."""
    if job["kind"] == "train" and job["run_id"]:
        return f"/runs?run={escape(job['run_id'])}"
    if job["corpus_id"]:
        return f"/corpora?corpus={escape(job['corpus_id'])}"
    return f"/jobs?job={escape(job['id'])}"


KIND_WORDS = {"train": "training", "build": "building"}
STAGE_WORDS = {
    "ingest": "reading documents",
    "tokenize": "training the tokenizer",
    "chunk": "cutting into chunks",
    "embed": "computing keys",
    "index": "building the index",
    "neighbors": "finding neighbors",
    "train": "training",
}


def describe_job(job: Mapping[str, Any]) -> str:
    """Return what a job does at the moment, in a few words."""
    kind = KIND_WORDS.get(job["kind"], job["kind"])
    stage = STAGE_WORDS.get(job["stage"], job["stage"])
    return kind if not stage or stage == kind else f"{kind}: {stage}"


def meter(share: float) -> str:
    """Return a thin bar that shows a share."""
    return (
        f'<span class="meter" role="img" aria-label="{percent(share)} done">'
        f'<span style="width:{100 * share:.1f}%"></span></span>'
    )


def badge(state: str, label: str | None = None) -> str:
    """Return a state as a small label."""
    return f'<span class="state {escape(state)}">{escape(label or state)}</span>'


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
) -> str:
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
    shown = "".join(
        f' {name}="{escape(value)}"' for name, value in attributes.items() if value is not None
    )
    return f'<button type="button" class="btn {kind}"{shown}>{escape(label)}</button>'


def write_button(run: Mapping[str, Any]) -> str:
    """Return the button that starts a text with the newest checkpoint of a run."""
    return action(
        "Write",
        f"POST /api/v1/runs/{run['id']}/write",
        kind="primary",
        then="/generate?gen={id}",
        elem_id="write",
    )


def facts(values: Mapping[str, str]) -> str:
    """Return names with their values; the values are HTML already."""
    items = "".join(f"<div><dt>{escape(k)}</dt><dd>{v}</dd></div>" for k, v in values.items())
    return f'<dl class="facts">{items}</dl>'


def empty(text: str) -> str:
    """Return a note for a place that has nothing to show yet; the text is HTML already."""
    return f'<div class="empty">{text}</div>'


def callout(text: str, *, calm: bool = False) -> str:
    """Return a message that stays on the page."""
    return f'<div class="callout{" calm" if calm else ""}" role="status">{escape(text)}</div>'


def missing(error: Exception) -> str:
    """Return what to show where an id in the address leads nowhere."""
    return empty(f"{escape(error)} It may have been deleted.")


def loss(value: float | None) -> str:
    """Return a loss with the digits that matter."""
    return number(value, 3)
