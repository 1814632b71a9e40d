"""Tokens as HTML: colored by the run they end, and linked to the same run on the other side."""

from collections.abc import Sequence

from app.html import NOTHING, Html, escape, html, join
from retro.generation.events import Segments

LONGEST_CLASS = 5

LEGEND = html(
    '<div class="legend">longest run shared with the neighbors, in tokens <span>0</span>{}</div>',
    join(html('<span class="lcp{}">{}{}</span>', n, n, "+" if n == 5 else "") for n in range(1, 6)),
)


def render_segments(segments: Segments) -> Html:
    """Return pieces of text colored by the length of the run that ends at each.

    Args:
        segments: (text, run length in tokens) per token.

    Returns:
        HTML; neighboring pieces of one class share an element.
    """
    parts = []
    open_class, pieces = 0, list[str]()
    for text, run in [*segments, ("", -1)]:
        css = _class(run)
        if css != open_class or run < 0:
            colors = f"run lcp{open_class}" if open_class else ""
            parts.append(_colored("".join(pieces), colors))
            open_class, pieces = css, []
        pieces.append(text)
    return join(parts)


def _class(run: int) -> int:
    return max(0, min(run, LONGEST_CLASS))


def _colored(text: str, css: str, attributes: Html = NOTHING) -> Html:
    # White space at the ends is left out of the color, so that runs look like words.
    core = text.strip()
    if not (css or attributes):
        return escape(text)
    if not core:
        return html('<span class="t"{}>{}</span>', attributes, text) if attributes else escape(text)
    at = text.index(core)
    before, after = text[:at], text[at + len(core) :]
    name = html(' class="{}"', css) if css else NOTHING
    return html("{}<span{}{}>{}</span>{}", before, name, attributes, core, after)


def render_tokens(
    segments: Segments,
    runs: Sequence[Sequence[int]],
    titles: Sequence[str] = (),
) -> Html:
    """Return tokens one by one, so that each can be pointed at.

    Args:
        segments: (text, run length in tokens) per token.
        runs: Per token the numbers of the runs it lies in, longest first.
        titles: Per token what to say when it is pointed at; none for no token.

    Returns:
        HTML; a token about which there is nothing to say is bare text.
    """
    parts = []
    for number, (text, run) in enumerate(segments):
        attributes = NOTHING
        if number < len(runs) and runs[number]:
            attributes += html(' data-run="{}"', " ".join(str(one) for one in runs[number]))
        if number < len(titles) and titles[number]:
            attributes += html(' title="{}"', titles[number])
        css = _class(run)
        if not css:
            parts.append(_colored(text, "t" if attributes else "", attributes))
            continue
        # Inside a colored stretch the white space is colored too: it reads as one run.
        before = number > 0 and _class(segments[number - 1][1]) > 0
        parts.append(_token(text, f"t lcp{css}", attributes, joined=before))
    return join(parts)


def _token(text: str, css: str, attributes: Html, *, joined: bool) -> Html:
    if joined and text.strip() and text[0] == " ":
        core = text.rstrip()
        return html('<span class="{}"{}>{}</span>{}', css, attributes, core, text[len(core) :])
    return _colored(text, css, attributes)
