"""A page that follows what happens: live parts, and the timer that asks for them.

A page is made of parts that are rendered on the server from the database and the address
(``?run=...``). One timer per page asks for them; a part that is shown already is not sent
again. Nothing else is kept in the browser, so a reload shows the same page.

Answers may come in another order than the questions. So each question says what the page
shows at that moment: what a late answer undid is sent again. It also says how often the page
went from one address to another: an answer for an address that was left is not sent.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app.errors import shows_errors
from app.html import NOTHING, Html, html
from app.services.services import Services
from app.ui import PRIVATE, Query, render_header

TICK_S = 1.5
LOOK = "() => [window.retro ? window.retro.look() : '', null]"
"""Inputs of an event that asks for parts: what the page shows, see app.js."""
WITH_ADDRESS = "(_address, ...inputs) => [window.retro ? window.retro.address() : '', ...inputs]"
"""Puts the address into the first input of an event, for :func:`read_query`."""

Render = Callable[[Query], Html]


@dataclass(frozen=True, slots=True)
class Part:
    """A live part of a page."""

    component: gr.HTML
    render: Render

    @property
    def name(self) -> str:
        """Id of the part in the page."""
        return str(self.component.elem_id)


@dataclass(frozen=True, slots=True)
class Look:
    """What a page asks for."""

    turn: int = 0
    """How often the page went to another address since it was loaded."""
    query: Query = field(default_factory=dict)
    """Parameters of the address."""
    stamps: Mapping[str, str] = field(default_factory=dict)
    """Part to a stamp of the state it is shown in."""


@dataclass(slots=True)
class View:
    """An open page, as the server knows it."""

    turn: int = 0
    """The newest one that was asked for."""


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
        self.part("header", lambda _query: render_header(services, title, path))

    def part(self, elem_id: str, render: Render) -> gr.HTML:
        """Add a part at this place of the page."""
        component = gr.HTML(elem_id=elem_id, apply_default_css=False, js_on_load=None)
        self._parts.append(Part(component, render))
        return component

    def wire(self) -> None:
        """Connect the parts; call it when the page has all of them."""
        parts = self._parts
        view = gr.State(View())
        look = gr.Textbox(visible=False)
        components = [part.component for part in parts]

        @shows_errors
        def load(request: gr.Request) -> list[Any]:
            query = dict(request.query_params)
            return [_stamped(part.render(query)) for part in parts]

        @shows_errors
        def tick(asked: str, view: View) -> list[Any]:
            return answer(parts, read_look(asked), view)

        quiet: dict[str, Any] = {**PRIVATE, "queue": False}
        self._demo.load(load, None, components, **quiet)
        timer = gr.Timer(self._tick_s)
        timer.tick(tick, [look, view], components, js=LOOK, **quiet)
        # Pressed by the script that goes to another address without loading the page again.
        at_once = gr.Button("Show", visible="hidden", elem_id="show-now")
        at_once.click(tick, [look, view], components, js=LOOK, trigger_mode="always_last", **quiet)


def answer(parts: list[Part], look: Look | None, view: View) -> list[Any]:
    """Return what of the parts is to be shown anew, and for the rest that it stays.

    Args:
        parts: The parts of the page.
        look: What the page asks for; None if that could not be read.
        view: The open page; its turn is brought up to date.
    """
    same = [gr.skip() for _ in parts]
    if look is None or look.turn < view.turn:
        return same
    view.turn = look.turn
    updates = []
    for part in parts:
        shown = _stamped(part.render(look.query))
        is_shown = look.stamps.get(part.name, "") == _stamp_of(shown)
        updates.append(gr.skip() if is_shown else shown)
    return same if view.turn > look.turn else updates


def read_look(text: str) -> Look | None:
    """Return what a page asks for, or None if this is no such text."""
    try:
        values = json.loads(text)
        turn, query, stamps = values["turn"], values["query"], values["stamps"]
        return Look(int(turn), _texts(query), _texts(stamps))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def read_query(text: str) -> Query:
    """Return the parameters of the page's address, none if this is no such text."""
    try:
        return _texts(json.loads(text))
    except (ValueError, AttributeError, RecursionError):
        return {}


def _texts(values: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in values.items()}


STAMP_START = html('<template data-seen="')
STAMP_LENGTH = 16


def _stamped(shown: Html) -> Html:
    """Return a part that carries a stamp of its state. It comes first: what grows comes last."""
    if not shown:
        return NOTHING
    stamp = hashlib.sha256(shown.encode()).hexdigest()[:STAMP_LENGTH]
    return html('{}{}"></template>{}', STAMP_START, stamp, shown)


def _stamp_of(stamped: Html) -> str:
    return stamped[len(STAMP_START) :][:STAMP_LENGTH]
