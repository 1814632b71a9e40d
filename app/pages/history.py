"""The newest texts, each with its address and a way to delete it."""

import time

from app.figures import mode_of
from app.format import ago
from app.html import DOT, NOTHING, Html, html, join
from app.services.services import Services
from app.services.views.generations import GenerationSummary
from app.ui import Query

MOST_ENTRIES = 12
MOST_CHARACTERS = 90
MODE_WORDS = {"on": "on", "off": "off", "both": "side by side"}


def render_history(services: Services, query: Query) -> Html:
    """Return links to the newest generations."""
    items = services.generations.list_generations(MOST_ENTRIES)
    if not items:
        return NOTHING
    rows = join(_row(item, query) for item in items)
    return html(
        '<section class="panel"><h2>History</h2><ul class="history">{}</ul></section>', rows
    )


def _row(item: GenerationSummary, query: Query) -> Html:
    mode = mode_of(item)
    here = item.id == query.get("gen")
    title = " ".join(item.prompt[:MOST_CHARACTERS].split()) or "no prompt"
    branch = html('<span class="tag">branch</span>') if item.parent_id else ""
    words = [item.run_name, f"retrieval {MODE_WORDS.get(mode, mode)}", _when(item)]
    return html(
        '<li><a href="/generate?gen={}"{}>{}</a><span class="meta">{}<span class="dim">'
        "{}</span>{}</span></li>",
        item.id,
        html(" aria-current=true") if here else "",
        title,
        branch,
        DOT.join(words),
        _delete(item, here=here),
    )


def _when(item: GenerationSummary) -> str:
    if item.state == "succeeded":
        return ago(item.created_at, time.time())
    return item.state


def _delete(item: GenerationSummary, *, here: bool) -> Html:
    after = html('data-then="/generate"') if here else html('data-done="The text was deleted."')
    disabled = " disabled" if item.state == "running" else ""
    return html(
        '<button type="button" class="link" data-call="DELETE /api/v1/generations/{}" '
        'data-confirm="Delete this text? Texts that branched from it stay." '
        'data-label="Delete" {}{}>Delete</button>',
        item.id,
        after,
        disabled,
    )
