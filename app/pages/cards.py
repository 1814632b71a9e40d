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
from app.format import count, escape, number, percent
from app.pages.marks import DOT, render_segments, render_tokens
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

    def branch(self, **changes: Any) -> str:
        """Return the attributes of a button that starts a new text at this chunk."""
        body = {"chunk_index": self.index, "variant": self.text.variant, **changes}
        call = f"POST /api/v1/generations/{self.generation.id}/branch"
        disabled = ""
        if self.generation.state == RUNNING:
            disabled = ' disabled title="Possible when the text has ended"'
        return (
            f'type="button" class="link" data-call="{escape(call)}" '
            f'data-body="{escape(json.dumps(body))}" data-then="/generate?gen={{id}}"{disabled}'
        )


def render_card(card: Card) -> str:
    """Return the card of a chunk."""
    chunk = card.chunk
    css = ["card"]
    css += ["prompt"] if chunk.is_prompt else []
    css += ["inherited"] if is_inherited(card.generation, chunk) else []
    css += ["unfinished"] if card.is_unfinished else []
    title = f"Chunk {card.index + 1}, {_kind(card)}"
    body = _tokens(card)
    text_css = "text cursor" if card.is_unfinished else "text"
    return (
        f'<article class="{" ".join(css)}" tabindex="0" id="card-{card.key}" '
        f'data-card="{card.index}" data-variant="{escape(card.text.variant)}" '
        f'aria-label="{title}">{_head(card)}<div class="{text_css}">{body}</div>'
        f'<div class="acts">{_actions(card)}</div>{_under(card)}</article>'
    )


def _kind(card: Card) -> str:
    if card.is_unfinished:
        return "being written"
    if card.chunk.is_prompt:
        return "prompt"
    return "taken over" if is_inherited(card.generation, card.chunk) else "written"


def _head(card: Card) -> str:
    chunk = card.chunk
    num_tokens = len(chunk.token_ids)
    first = card.text.first_token(card.index)
    place = f"tokens {first:,}-{first + num_tokens - 1:,}" if num_tokens else ""
    figures = [f'<span><b>Chunk {card.index + 1}</b> <span class="num">{place}</span></span>']
    if card.neighbors and not card.is_unfinished:
        figures.append(f'<span class="num">copied {percent(chunk.copied_fraction)}</span>')
    figures.append(_logprob(card))
    kind = "" if _kind(card) == "written" else _kind(card)
    notes = [word for word in (kind, "" if card.neighbors else _without(card)) if word]
    if mode_of(card.generation) == "both":
        side = "retrieval on" if card.text.has_retrieval else "retrieval off"
        figures.insert(0, f'<span class="which">{side}</span>')
    return (
        f'<div class="card-head">{"".join(one for one in figures if one)}'
        f'<span class="push">{DOT.join(notes)}</span></div>'
    )


def _logprob(card: Card) -> str:
    own, other = mean_logprob([card.chunk]), mean_logprob([card.chunk], other=True)
    if own is None:
        return ""
    if other is None:
        return f'<span class="num" title="mean per token, in nats">log-prob {number(own)}</span>'
    on, off = (own, other) if card.text.has_retrieval else (other, own)
    return (
        '<span class="num" title="mean per token, in nats, of the same tokens with retrieval '
        f'on and off">log-prob on {number(on)}, off {number(off)}</span>'
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


def _actions(card: Card) -> str:
    if card.is_unfinished:
        return ""
    buttons = []
    if card.can_branch:
        buttons.append(f"<button {card.branch()}>Regenerate from here</button>")
        disabled = " disabled" if card.generation.state == RUNNING else ""
        if card.neighbors:
            buttons.append(_dialog_button("exclude", "Exclude and branch", disabled))
        if card.text.has_retrieval and card.index:
            buttons.append(_dialog_button("edit", "Edit neighbors", disabled))
    buttons.append('<button type="button" class="link" data-copy-card>Copy</button>')
    return "".join(buttons)


def _dialog_button(name: str, label: str, disabled: str) -> str:
    return (
        f'<button type="button" class="link" data-dialog="{name}" aria-haspopup="dialog"'
        f"{disabled}>{label}</button>"
    )


def render_neighbors(card: Card) -> str:
    """Return the neighbors of a card."""
    corpus_id = card.generation.corpus_id
    return "".join(
        render_neighbor(one, corpus_id, card.chunk, _exclusions(card, one))
        for one in card.neighbors
    )


def _exclusions(card: Card, neighbor: ShownNeighbor) -> str:
    if not card.can_branch or neighbor.chunk_id is None:
        return ""
    one = card.branch(exclude_chunks=[neighbor.chunk_id])
    all_of_it = card.branch(exclude_documents=[neighbor.document])
    return (
        f"<button {one}>Exclude this neighbor</button>"
        f"<button {all_of_it}>Exclude its document</button>"
    )


def _under(card: Card) -> str:
    if not card.neighbors:
        return ""
    title = f"{count(len(card.neighbors), 'neighbor')} that conditioned this chunk"
    return (
        f'<details class="under" id="under-{card.key}"><summary>{title}</summary>'
        f"{render_neighbors(card)}</details>"
    )


def render_side(card: Card, *, shown: bool) -> str:
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
    return (
        f'<div data-side="{card.index}"{"" if shown else " hidden"}>'
        f'<div class="side-title">{title}</div>{render_neighbors(card)}</div>'
    )
