"""One chunk of a text as a card, with what can be done from there, and its neighbors beside it."""

import json
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from app.figures import (
    Text,
    is_inherited,
    mean_logprob,
    mode_of,
    runs_in_chunk,
)
from app.format import count, number, percent
from app.html import DOT, NOTHING, Html, html, join
from app.pages.marks import render_segments, render_tokens
from app.pages.neighbors import render_neighbor
from app.services.views.generations import Generation
from retro.generation.events import OutputChunk, ShownNeighbor

RUNNING = "running"


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A chunk in its text, ready to be rendered."""

    generation: Generation
    text: Text
    chunk: OutputChunk
    is_unfinished: bool = False

    @property
    def index(self) -> int:
        """Position of the chunk, from 0."""
        return self.chunk.index

    @property
    def key(self) -> str:
        """A name for the card that is the same in every update of the page."""
        return f"{self.text.variant.replace(':', '-')}-{self.index}"

    @property
    def neighbors(self) -> list[ShownNeighbor]:
        """The neighbors it is written from."""
        return self.chunk.neighbors

    @property
    def can_branch(self) -> bool:
        """Whether a new text can begin at this chunk."""
        return not self.is_unfinished and not self.chunk.is_prompt

    def branch(self, **changes: Any) -> Html:
        """Return the attributes of a button that starts a new text at this chunk."""
        body = {"chunk_index": self.index, "variant": self.text.variant, **changes}
        call = f"POST /api/v1/generations/{self.generation.id}/branch"
        disabled = ""
        if self.generation.state == RUNNING:
            disabled = html(' disabled title="Possible when the text has ended"')
        return html(
            'type="button" class="link" data-call="{}" data-body="{}" '
            'data-then="/generate?gen={{id}}"{}',
            call,
            json.dumps(body),
            disabled,
        )


def render_card(card: Card) -> Html:
    """Return the card of a chunk."""
    chunk = card.chunk
    css = ["card"]
    css += ["prompt"] if chunk.is_prompt else []
    css += ["inherited"] if is_inherited(card.generation, chunk) else []
    css += ["unfinished"] if card.is_unfinished else []
    title = f"Chunk {card.index + 1}, {_kind(card)}"
    body = _tokens(card)
    text_css = "text cursor" if card.is_unfinished else "text"
    return html(
        '<article class="{}" tabindex="0" id="card-{}" data-card="{}" data-variant="{}" '
        'aria-label="{}">{}<div class="{}">{}</div><div class="acts">{}</div>{}</article>',
        " ".join(css),
        card.key,
        card.index,
        card.text.variant,
        title,
        _head(card),
        text_css,
        body,
        _actions(card),
        _under(card),
    )


def _kind(card: Card) -> str:
    if card.is_unfinished:
        return "being written"
    if card.chunk.is_prompt:
        return "prompt"
    return "taken over" if is_inherited(card.generation, card.chunk) else "written"


def _head(card: Card) -> Html:
    chunk = card.chunk
    num_tokens = len(chunk.token_ids)
    first = card.text.first_token(card.index)
    place = f"tokens {first:,}-{first + num_tokens - 1:,}" if num_tokens else ""
    figures = [
        html('<span><b>Chunk {}</b> <span class="num">{}</span></span>', card.index + 1, place)
    ]
    if card.neighbors and not card.is_unfinished:
        figures.append(html('<span class="num">copied {}</span>', percent(chunk.copied_fraction)))
    figures.append(_logprob(card))
    kind = "" if _kind(card) == "written" else _kind(card)
    notes = [word for word in (kind, "" if card.neighbors else _without(card)) if word]
    if mode_of(card.generation) == "both":
        side = "retrieval on" if card.text.has_retrieval else "retrieval off"
        figures.insert(0, html('<span class="which">{}</span>', side))
    return html(
        '<div class="card-head">{}<span class="push">{}</span></div>',
        join(figures),
        DOT.join(notes),
    )


def _logprob(card: Card) -> Html:
    own, other = mean_logprob([card.chunk]), mean_logprob([card.chunk], other=True)
    if own is None:
        return NOTHING
    if other is None:
        return html(
            '<span class="num" title="mean per token, in nats">log-prob {}</span>', number(own)
        )
    on, off = (own, other) if card.text.has_retrieval else (other, own)
    return html(
        '<span class="num" title="mean per token, in nats, of the same tokens with retrieval '
        'on and off">log-prob on {}, off {}</span>',
        number(on),
        number(off),
    )


def _without(card: Card) -> str:
    if not card.text.has_retrieval:
        return "" if mode_of(card.generation) == "both" else "retrieval off"
    return "no neighbors yet" if card.index == 0 else "no neighbor was found"


def _tokens(card: Card) -> str:
    if not card.chunk.logprobs:
        return render_segments(card.chunk.segments)
    return render_tokens(card.chunk.segments, runs_in_chunk(card.chunk), token_titles(card))


def token_titles(card: Card) -> list[str]:
    """Return for each token of a chunk what is known about its log-probability."""
    own, other = card.chunk.logprobs, card.chunk.other_logprobs or []
    titles = []
    for mine, its in zip_longest(own, other):
        if mine is None:
            titles.append("first token, nothing came before it")
        elif its is None:
            titles.append(f"log-prob {number(mine)}")
        else:
            on, off = (mine, its) if card.text.has_retrieval else (its, mine)
            titles.append(f"log-prob on {number(on)}, off {number(off)}")
    return titles


def _actions(card: Card) -> Html:
    if card.is_unfinished:
        return NOTHING
    buttons = []
    if card.can_branch:
        buttons.append(html("<button {}>Regenerate from here</button>", card.branch()))
        disabled = " disabled" if card.generation.state == RUNNING else ""
        if card.neighbors:
            buttons.append(_dialog_button("exclude", "Exclude and branch", disabled))
        if card.text.has_retrieval and card.index:
            buttons.append(_dialog_button("edit", "Edit neighbors", disabled))
    buttons.append(html('<button type="button" class="link" data-copy-card>Copy</button>'))
    return join(buttons)


def _dialog_button(name: str, label: str, disabled: str) -> Html:
    return html(
        '<button type="button" class="link" data-dialog="{}" aria-haspopup="dialog"{}>{}</button>',
        name,
        disabled,
        label,
    )


def render_neighbors(card: Card) -> Html:
    """Return the neighbors of a card."""
    corpus_id = card.generation.corpus_id
    return join(
        render_neighbor(one, corpus_id, card.chunk, _exclusions(card, one))
        for one in card.neighbors
    )


def _exclusions(card: Card, neighbor: ShownNeighbor) -> Html:
    if not card.can_branch or neighbor.chunk_id is None:
        return NOTHING
    one = card.branch(exclude_chunks=[neighbor.chunk_id])
    all_of_it = card.branch(exclude_documents=[neighbor.document])
    return html(
        "<button {}>Exclude this neighbor</button><button {}>Exclude its document</button>",
        one,
        all_of_it,
    )


def _under(card: Card) -> Html:
    if not card.neighbors:
        return NOTHING
    title = f"{count(len(card.neighbors), 'neighbor')} that conditioned this chunk"
    return html(
        '<details class="under" id="under-{}"><summary>{}</summary>{}</details>',
        card.key,
        title,
        render_neighbors(card),
    )


def render_side(card: Card, *, shown: bool) -> Html:
    """Return what stands beside the cards while this one is in focus."""
    if card.neighbors:
        title = (
            f"Chunk {card.index + 1} {'is' if card.is_unfinished else 'was'} written from these "
            f"neighbors, found with chunk {card.index}"
        )
    elif not card.text.has_retrieval:
        title = "Retrieval was off"
    elif card.index == 0:
        title = "The first chunk has no neighbors: nothing had been read before it"
    else:
        title = f"No neighbor was found for chunk {card.index}"
    return html(
        '<div data-side="{}"{}><div class="side-title">{}</div>{}</div>',
        card.index,
        "" if shown else " hidden",
        title,
        render_neighbors(card),
    )
