"""What stands beside the settings of the Generate page: the text in the address, as it stands."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from app.figures import mode_of
from app.html import Html, escape, html
from app.pages.cards import RUNNING
from app.pages.result import render_result
from app.services.pretrained import is_pretrained, pretrained_models
from app.services.services import Services
from app.services.views.generations import Generation, GenerationSummary
from app.ui import Query, empty, missing
from app.words import own_end, steering_of
from jobs.errors import JobError, NotFoundError
from retro.errors import RetroError

HEADING = html('<h1 class="only-read">Generate</h1>')
MOST_KEPT = 16
BUSY_SHARE = 0.2
"""Share of the time that may go into showing a text while it is written."""
MOST_LOOKED_UP = 8


@dataclass(frozen=True, slots=True)
class _Shown:
    output: Html
    stamp: tuple[Any, ...]
    """Changes when a text has ended, or its corpus is no longer there."""
    at: float
    took_s: float


class Output:
    """Renders texts for the pages that are open, and again only where there is something new.

    Every open page asks every moment. A long text takes a while to render, and the time is
    taken from the one who writes it.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._kept: OrderedDict[tuple[str | None, ...], _Shown] = OrderedDict()
        self._lock = threading.Lock()

    def render(self, query: Query) -> Html:
        """Return the generation in the address, as it stands."""
        if "gen" not in query:
            return render_output(self._services, query)
        try:
            summary = self._services.generations.summary(query["gen"])
        except NotFoundError as error:
            return missing(error)
        key = tuple(query.get(name) for name in ("gen", "text", "chunk"))
        corpus_id = _corpus_id(self._services, summary)
        stamp = (summary.state, corpus_id, summary.finished_at)
        now = time.monotonic()
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and kept.stamp == stamp:
            is_recent = now - kept.at < kept.took_s / BUSY_SHARE
            if summary.state != RUNNING or is_recent:
                return kept.output
        output = render_output(self._services, query)
        shown = _Shown(output, stamp, now, time.monotonic() - now)
        with self._lock:
            self._kept[key] = shown
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return output


def render_output(services: Services, query: Query) -> Html:
    """Return the generation in the address, as it stands, or what can be done without one."""
    generation_id = query.get("gen")
    if generation_id is None:
        return _invitation(services, query)
    # Asked first: a chunk that is finished in between is then in both, and never in none.
    partial = services.generations.partial(generation_id)
    try:
        generation = services.generations.get(generation_id)
    except NotFoundError as error:
        return missing(error)
    generation = generation.model_copy(update={"corpus_id": _corpus_id(services, generation)})
    return HEADING + render_result(
        generation,
        partial,
        services.generations.waiting_for(generation_id),
        query,
        parent=_parent(services, generation),
        names=_names(services, generation),
    )


def _corpus_id(services: Services, generation: GenerationSummary) -> str | None:
    """Return the corpus that was read, None if it is gone and nothing can link to it."""
    corpus_id = generation.corpus_id
    return corpus_id if corpus_id is not None and services.corpora.exists(corpus_id) else None


def _invitation(services: Services, query: Query) -> Html:
    if "run" in query and not is_pretrained(query["run"]):
        try:
            services.runs.get(query["run"])
        except NotFoundError as error:
            return missing(error)
    can_write = pretrained_models() and any(
        corpus.num_chunks for corpus in services.corpora.list_corpora()
    )
    if not services.runs.list_writable() and not can_write:
        return HEADING + empty(
            html(
                "There is no model to write with yet. One appears as soon as a corpus has an "
                'index, or training has written a checkpoint. <a href="/">Start</a>'
            )
        )
    return HEADING + empty(html("Press <b>Generate</b>. The text appears here chunk by chunk."))


def _parent(services: Services, generation: Generation) -> Generation | None:
    if generation.parent_id is None:
        return None
    try:
        return services.generations.get(generation.parent_id)
    except NotFoundError:
        return None


def _names(services: Services, generation: Generation) -> dict[int, str]:
    """Return what the excluded chunks are called, as far as their corpus is still there."""
    excluded = steering_of(generation).get("exclude_chunks") or []
    if generation.corpus_id is None:
        return {}
    names: dict[int, str] = {}
    for chunk_id in excluded[:MOST_LOOKED_UP]:
        try:
            chunk = services.corpora.chunk(generation.corpus_id, chunk_id)
        except (RetroError, JobError):
            break
        names[chunk_id] = f"{chunk.document} chunk {chunk.chunk_index + 1}"
    return names


def render_controls(services: Services, query: Query) -> Html:
    """Return the buttons that act on the text in the address: what is possible can be pressed."""
    generation_id = query.get("gen", "")
    try:
        summary = services.generations.summary(generation_id) if generation_id else None
    except NotFoundError:
        summary = None
    is_running = summary is not None and summary.state == RUNNING
    variant = _variant(summary, query) if summary is not None else "on"
    finish = (summary.result or {}).get(variant) or {} if summary is not None else {}
    why = own_end(finish)
    title = why or _which_side(summary)
    can_continue = summary is not None and not is_running and not why
    shown = escape(generation_id)
    return html(
        '<div class="controls"><button type="button" class="btn" id="stop" data-call="POST '
        '/api/v1/generations/{}/stop"{}>Stop</button><button type="button" class="btn" '
        'id="continue" data-continue="{}" data-variant="{}" title="{}"{}>Continue</button>'
        "</div>",
        shown,
        "" if is_running else " disabled",
        shown,
        variant,
        title,
        "" if can_continue else " disabled",
    )


def _which_side(summary: GenerationSummary | None) -> str:
    is_pair = summary is not None and mode_of(summary) == "both"
    return "Continues the text with retrieval on" if is_pair else ""


def _variant(summary: GenerationSummary, query: Query) -> str:
    mode = mode_of(summary)
    number = query.get("text", "1")
    sample = int(number) - 1 if number.isascii() and number.isdecimal() and len(number) < 4 else 0
    if mode == "both":
        return "on"
    count = int(summary.settings.get("num_samples", 1))
    return f"{mode}:{sample}" if 0 < sample < count else mode
