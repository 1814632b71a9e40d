"""The newest texts, each with its address and a way to delete it."""

import time

from app.figures import mode_of
from app.format import ago, escape
from app.pages.marks import DOT
from app.services.services import Services
from app.services.views.generations import GenerationSummary
from app.ui import Query

MOST_ENTRIES = 12
MOST_CHARACTERS = 90
MODE_WORDS = {"on": "on", "off": "off", "both": "side by side"}


def render_history(services: Services, query: Query) -> str:
    """Return links to the newest generations."""
    items = services.generations.list_generations(MOST_ENTRIES)
    if not items:
        return ""
    rows = "".join(_row(item, query) for item in items)
    return f'<section class="panel"><h2>History</h2><ul class="history">{rows}</ul></section>'


def _row(item: GenerationSummary, query: Query) -> str:
    mode = mode_of(item)
    here = item.id == query.get("gen")
    title = " ".join(item.prompt[:MOST_CHARACTERS].split()) or "no prompt"
    branch = '<span class="tag">branch</span>' if item.parent_id else ""
    words = [item.run_name, f"retrieval {MODE_WORDS.get(mode, mode)}", _when(item)]
    return (
        f'<li><a href="/generate?gen={escape(item.id)}"{" aria-current=true" if here else ""}>'
        f'{escape(title)}</a><span class="meta">{branch}<span class="dim">'
        f"{escape(DOT.join(words))}</span>{_delete(item, here=here)}</span></li>"
    )


def _when(item: GenerationSummary) -> str:
    if item.state == "succeeded":
        return ago(item.created_at, time.time())
    return item.state


def _delete(item: GenerationSummary, *, here: bool) -> str:
    after = 'data-then="/generate"' if here else 'data-done="The text was deleted."'
    disabled = " disabled" if item.state == "running" else ""
    return (
        f'<button type="button" class="link" data-call="DELETE /api/v1/generations/'
        f'{escape(item.id)}" data-confirm="Delete this text? Texts that branched from it stay." '
        f'data-label="Delete" {after}{disabled}>Delete</button>'
    )
