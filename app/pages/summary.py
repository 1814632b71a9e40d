"""What stands above and below a text: its figures, how it was made, and where it comes from."""

from collections.abc import Iterator, Mapping, Sequence

from app.figures import Text, mode_of, texts_of
from app.format import count, number, percent
from app.html import DOT, Html, escape, html, join
from app.pages.cards import RUNNING
from app.services.views.generations import Generation, GenerationSummary
from app.words import (
    REASON_WORDS,
    exclusion_words,
    has_given_neighbors,
    own_end,
    setting_words,
    steering_of,
)

FORMATS = {"json": "JSON", "markdown": "Markdown", "html": "HTML"}


NOTICEABLE_S = 1.0
"""Loading that took less is not shown, seconds."""


def render_summary(generation: Generation, text: Text | None) -> Html:
    """Return one line of figures with the links.

    Args:
        generation: The generation.
        text: Whose figures; None leaves them to the sides.
    """
    parts = list(_figures(text)) if text is not None else []
    if text is not None:
        parts += _waited(generation, text)
    return html('<div class="sum">{}{}</div>', _spans(parts), _links(generation))


def render_side_summary(generation: Generation, text: Text) -> Html:
    """Return the head of one of two texts side by side."""
    name = "Retrieval on" if text.has_retrieval else "Retrieval off"
    why = own_end(text.finish)
    is_closed = generation.state == RUNNING or not text.written or why
    disabled = html(' disabled title="{}"', why) if is_closed else ""
    button = html(
        '<button type="button" class="link" data-continue="{}" data-variant="{}"{}>'
        "Continue</button>",
        generation.id,
        text.variant,
        disabled,
    )
    return html(
        '<div class="side-head"><h3>{}{}</h3><div class="sum">{}</div></div>',
        name,
        button,
        _spans(list(_figures(text, is_side=True))),
    )


def _spans(parts: list[str]) -> Html:
    return join(html("<span>{}</span>", part) for part in parts)


def _figures(text: Text, *, is_side: bool = False) -> Iterator[str]:
    yield html("<b>{}</b>", count(text.num_written, "token"))
    if text.has_retrieval and text.copied_share is not None:
        yield html("copied <b>{}</b>", percent(text.copied_share))
    own, other = text.mean_logprob, text.other_mean_logprob
    if own is not None and other is not None:
        on, off = (own, other) if text.has_retrieval else (other, own)
        yield html("log-prob of these tokens on <b>{}</b> off <b>{}</b>", number(on), number(off))
    elif own is not None:
        yield html("mean log-prob <b>{}</b>", number(own))
    if text.distinct_pairs is not None:
        yield html("distinct-2 <b>{}</b>", number(text.distinct_pairs))
    yield from _speed(text, is_side=is_side)
    if reason := REASON_WORDS.get(str(text.finish.get("reason"))):
        yield reason


def _speed(text: Text, *, is_side: bool) -> Iterator[str]:
    seconds, num_tokens = text.finish.get("seconds"), text.finish.get("num_tokens")
    each = text.seconds_per_chunk
    if not seconds or not num_tokens or each is None:
        return
    if is_side:
        yield html("<b>{}</b> s per chunk", number(each))
    else:
        yield html("<b>{}</b> tokens/s", number(num_tokens / seconds, 0))


def _waited(generation: Generation, text: Text) -> list[str]:
    """Return how long model and encoder took to load, where that was worth mentioning."""
    whole, own = (generation.result or {}).get("seconds"), text.finish.get("seconds")
    if whole is None or own is None or whole - own < NOTICEABLE_S or mode_of(generation) == "both":
        return []
    return [html("after <b>{}</b> s of loading", number(whole - own, 0))]


def _links(generation: Generation) -> Html:
    address = f"/api/v1/generations/{generation.id}/export?format="
    exports = join(
        html('<a id="export-{}" href="{}{}" download>{}</a>', name, address, name, label)
        for name, label in FORMATS.items()
    )
    return html(
        '<span class="push"><span class="exports"><span>Export</span>{}</span><button '
        'type="button" class="link" data-copy="address">Copy link</button></span>',
        exports,
    )


def render_origin(
    generation: Generation,
    texts: Sequence[Text],
    parent: Generation | None,
    names: Mapping[int, str],
) -> Html:
    """Return where a text comes from, and the settings it was written with.

    Args:
        generation: The generation.
        texts: Its texts.
        parent: The one it branched from, where that is still there.
        names: Chunk id to what the chunk is called.
    """
    lines = []
    if generation.parent_id is not None:
        lines.append(_descent(generation, texts, parent, names))
    if any(text.finish.get("slid") for text in texts):
        lines.append(
            "The text outgrew the window of the model: the later chunks were written without "
            "the beginning."
        )
    if generation.settings.get("reads_as_text"):
        lines.append(
            "The corpus was cut for another model: its chunks were read as text, and cut to the "
            "length of this model's. A copy of the corpus for this model fits better."
        )
    words = [generation.run_name, *setting_words(generation)]
    lines.append(escape(DOT.join(words)))
    return html('<div class="origin">{}</div>', join(html("<p>{}</p>", line) for line in lines))


def _descent(
    generation: Generation,
    texts: Sequence[Text],
    parent: Generation | None,
    names: Mapping[int, str],
) -> str:
    link = escape("a text that was deleted")
    if parent is not None:
        prompt = " ".join(parent.prompt[:60].split())
        link = html('<a href="/generate?gen={}">{}</a>', parent.id, escape(prompt) or "a text")
    start = (generation.branch_index or 0) + 1
    if _is_continuation(generation, texts, parent):
        return html("Continues {}.", link)
    known = {**_names(parent), **names}
    without = [html("<b>{}</b>", one) for one in exclusion_words(generation, known)]
    words = html("Branch of {} from chunk {:,}", link, start)
    if without:
        words += ", without " + join(without, ", ")
    if has_given_neighbors(generation):
        words += ", with neighbors set by hand"
    return words + "."


def _is_continuation(
    generation: Generation, texts: Sequence[Text], parent: Generation | None
) -> bool:
    """Return whether a text goes on behind the end of another, and changes nothing before it."""
    if parent is None or has_given_neighbors(generation):
        return False
    if _excluded(generation) != _excluded(parent):
        return False
    start = generation.branch_index or 0
    return any(_goes_on(texts, text, start) for text in texts_of(parent))


def _excluded(generation: GenerationSummary) -> tuple[list[int], list[str]]:
    steering = steering_of(generation)
    return steering.get("exclude_chunks") or [], steering.get("exclude_documents") or []


def _goes_on(texts: Sequence[Text], text: Text, start: int) -> bool:
    if start >= len(text.chunks):
        return True
    if start < len(text.chunks) - 1:
        return False
    # The last chunk of the other text was unfinished and has been filled up.
    before = text.chunks[start].token_ids
    chunks = [c for one in texts for c in one.chunks if c.index == start]
    return any(chunk.token_ids[: len(before)] == before for chunk in chunks)


def _names(parent: Generation | None) -> dict[int, str]:
    """Return what the chunks that the other text was written from are called."""
    if parent is None:
        return {}
    chunks = [chunk for text in texts_of(parent) for chunk in text.chunks]
    return {
        one.chunk_id: f"{one.document} chunk {one.chunk_index + 1}"
        for chunk in chunks
        for one in chunk.neighbors
        if one.chunk_id is not None and one.chunk_index is not None
    }
