"""A generation: its texts as cards, each with the neighbors it was written from.

The page replaces only what changed, by position. So the outer elements are always there, also
when they are empty, and what grows comes last.
"""

from collections.abc import Mapping, Sequence

from app.figures import Text, is_inherited, mode_of, texts_of
from app.format import count
from app.html import NOTHING, Html, html, join
from app.pages.cards import RUNNING, Card, render_card, render_side
from app.pages.marks import LEGEND
from app.pages.summary import render_origin, render_side_summary, render_summary
from app.services.views.generations import Generation
from app.ui import Query, callout
from retro.generation.events import OutputChunk

MOST_CARDS = 48
"""Chunks shown at once; longer texts have pages."""

KEYS = html(
    '<p class="keys"><kbd>Tab</kbd> to a chunk, <kbd>↑</kbd> <kbd>↓</kbd> or <kbd>j</kbd> '
    "<kbd>k</kbd> to the next, <kbd>Enter</kbd> shows its neighbors, <kbd>←</kbd> <kbd>"
    "→</kbd> goes through its tokens, with <kbd>Shift</kbd> from run to run. <kbd>"
    "Ctrl</kbd> <kbd>Enter</kbd> in the prompt generates.</p>"
)

Partial = Mapping[str, OutputChunk]


def render_result(
    generation: Generation,
    partial: Partial,
    waiting_for: int,
    query: Query | None = None,
    *,
    parent: Generation | None = None,
    names: Mapping[int, str] | None = None,
) -> Html:
    """Return a whole generation.

    Args:
        generation: The generation, with its finished chunks.
        partial: Variant to the chunk that is being written.
        waiting_for: How many generations are written before this one.
        query: The page's address: which of several texts, and from which chunk on.
        parent: The generation it branched from, where that is still there.
        names: Chunk id to what the chunk is called, for those that were left out.
    """
    query = query or {}
    texts = texts_of(generation)
    origin = render_origin(generation, texts, parent, names or {})
    is_begun = bool(partial) or any(text.chunks for text in texts)
    notes = html('<div class="notes">{}</div>', _note(generation, waiting_for, is_begun=is_begun))
    if generation.state == "failed" and not any(text.chunks for text in texts):
        return notes + origin
    if mode_of(generation) == "both":
        body = _side_by_side(generation, texts, partial, query, origin)
    else:
        chosen = _chosen(texts, query)
        body = _tabs(generation, texts, chosen)
        body += _single(generation, texts[chosen], partial, query, origin)
    return notes + body + KEYS


def _note(generation: Generation, waiting_for: int, *, is_begun: bool) -> Html:
    if generation.state == RUNNING and waiting_for:
        return callout(f"Waiting for {count(waiting_for, 'text')} to be written first.", calm=True)
    if generation.state == RUNNING and not is_begun:
        return callout("Loading model and encoder.", calm=True)
    if generation.state == "failed":
        return callout(generation.message)
    if generation.state == "canceled" and generation.result:
        # The figures say that it was stopped.
        return NOTHING
    return callout(generation.message, calm=True) if generation.message else NOTHING


def _chosen(texts: Sequence[Text], query: Query) -> int:
    return min(_whole(query.get("text"), 1), len(texts)) - 1


def _whole(text: str | None, otherwise: int) -> int:
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 9:
        return otherwise
    return max(1, int(text))


def _tabs(generation: Generation, texts: Sequence[Text], chosen: int) -> Html:
    address = f"/generate?gen={generation.id}"
    links = [
        html(
            '<a href="{}&amp;text={}" data-soft{}>Text {}</a>',
            address,
            place + 1,
            html(" aria-current=true") if place == chosen else "",
            place + 1,
        )
        for place in range(len(texts))
    ]
    return html(
        '<nav class="tabs" aria-label="Texts">{}</nav>', join(links) if len(texts) > 1 else ""
    )


def _cards(generation: Generation, text: Text, partial: Partial) -> list[Card]:
    """Return the finished chunks and the one that is being written."""
    cards = [Card(generation=generation, text=text, chunk=chunk) for chunk in text.chunks]
    if generation.state != RUNNING:
        return cards
    live = partial.get(text.variant) or _nothing(len(cards))
    at = next((place for place, card in enumerate(cards) if card.index >= live.index), None)
    if at is not None and len(cards[at].chunk.segments) >= len(live.segments):
        # It was finished and stored a moment ago.
        return cards
    kept = cards[:at]
    return [*kept, Card(generation=generation, text=text, chunk=live, is_unfinished=True)]


def _nothing(index: int) -> OutputChunk:
    """Return a chunk of which nothing is known yet."""
    return OutputChunk(
        index=index,
        token_ids=[],
        segments=[],
        is_prompt=False,
        logprobs=[],
        other_logprobs=None,
        runs=[],
        neighbors=[],
    )


def _single(
    generation: Generation, text: Text, partial: Partial, query: Query, origin: str
) -> Html:
    cards = _cards(generation, text, partial)
    first = _first_card(generation, len(cards), query)
    shown = cards[first : first + MOST_CARDS]
    focus = _focus(shown)
    sides = join(render_side(card, shown=card.index == focus) for card in shown)
    pages = _pages(generation, len(cards), first, query)
    return html(
        '{}{}{}{}><div class="cards">{}{}</div><aside class="side" aria-label="Neighbors of '
        'the chosen chunk">{}</aside></div>',
        render_summary(generation, text),
        origin,
        LEGEND if text.has_retrieval else html("<div></div>"),
        _frame(generation, text, focus, first),
        join(render_card(card) for card in shown),
        pages,
        sides,
    )


def _frame(generation: Generation, text: Text, focus: int, first: int) -> Html:
    settings = generation.settings
    values = {
        "generation": generation.id,
        "state": generation.state,
        "variant": text.variant,
        "focus": focus,
        "seed": text.seed,
        "neighbors": settings.get("num_neighbors", ""),
        "corpus": generation.corpus_id or "",
        "first": first + 1,
    }
    data = join(html(' data-{}="{}"', name, value) for name, value in values.items())
    return html('<div id="result"{}', data)


def _focus(cards: Sequence[Card]) -> int:
    """Return the chunk whose neighbors are shown at first."""
    with_neighbors = [card for card in cards if card.neighbors]
    if cards and cards[-1].is_unfinished and cards[-1].neighbors:
        return cards[-1].index
    written = [card for card in with_neighbors if not card.chunk.is_prompt]
    fresh = [card for card in written if not is_inherited(card.generation, card.chunk)]
    if fresh or written:
        return (fresh or written)[0].index
    return with_neighbors[-1].index if with_neighbors else (cards[0].index if cards else 0)


def _first_card(generation: Generation, num_cards: int, query: Query) -> int:
    """Return the place of the first card on this page: the asked one, or where it is written."""
    running = generation.state == RUNNING
    place = _whole(query.get("chunk"), num_cards if running else 1) - 1
    return min(place, max(0, num_cards - 1)) // MOST_CARDS * MOST_CARDS


def _pages(generation: Generation, num_cards: int, first: int, query: Query) -> Html:
    if num_cards <= MOST_CARDS:
        return NOTHING
    address = f"/generate?gen={generation.id}"
    if "text" in query:
        address += html("&amp;text={}", _whole(query["text"], 1))
    last = min(first + MOST_CARDS, num_cards)
    links = [
        html('<a href="{}&amp;chunk={}" data-soft>{}</a>', address, target + 1, label)
        for target, label in ((first - MOST_CARDS, "Earlier"), (last, "Later"))
        if 0 <= target < num_cards
    ]
    return html(
        '<nav class="pages" aria-label="Chunks"><span>chunks {:,}-{:,} of {:,}</span>{}</nav>',
        first + 1,
        last,
        num_cards,
        join(links),
    )


def _side_by_side(
    generation: Generation,
    texts: Sequence[Text],
    partial: Partial,
    query: Query,
    origin: str,
) -> Html:
    sides = [_cards(generation, text, partial) for text in texts]
    num_rows = max(len(cards) for cards in sides)
    first = _first_card(generation, num_rows, query)
    rows = []
    for place in range(first, min(first + MOST_CARDS, num_rows)):
        for cards in sides:
            rows.append(render_card(cards[place]) if place < len(cards) else html("<div></div>"))
    heads = join(render_side_summary(generation, text) for text in texts)
    return html(
        '<nav class="tabs"></nav>{}{}{}{} class="both"><div class="pair">{}{}</div>{}</div>',
        render_summary(generation, None),
        origin,
        LEGEND,
        _frame(generation, texts[0], -1, first),
        heads,
        join(rows),
        _pages(generation, num_rows, first, query),
    )
