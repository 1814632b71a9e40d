"""A generation as one HTML file that needs nothing else: no script, no request to any host."""

from collections.abc import Iterator

from app.figures import Text, is_inherited, texts_of
from app.html import DOT, Html, escape, html, join
from app.pages.marks import LEGEND, render_segments
from app.services.views.generations import Generation
from app.words import (
    chunk_words,
    labels,
    neighbor_words,
    origin_words,
    setting_words,
    text_title,
    text_words,
)
from retro.generation.events import OutputChunk, Segments, ShownNeighbor

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Said by the file itself: a browser asks no host and runs nothing, whatever the text holds."""

STYLE = """
:root { color-scheme: light dark; --bg: #fbfbf9; --panel: #fff; --ink: #1d2327; --dim: #5d6770;
  --line: #e2e5e1; --accent: #0f766e; --l1: #eef7f5; --l2: #d9eeea; --l3: #bfe2dc; --l4: #9fd4cb;
  --l5: #79c3b7; }
@media (prefers-color-scheme: dark) { :root { --bg: #14181a; --panel: #1b2124; --ink: #e7ebec;
  --dim: #9aa6ad; --line: #2c3438; --accent: #5eead4; --l1: #1b2b2b; --l2: #1d3836; --l3: #1f4844;
  --l4: #215a54; --l5: #247067; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 860px; padding: 28px 20px 60px; background: var(--bg);
  color: var(--ink); font: 15px/1.55 system-ui, sans-serif; }
h1 { font-size: 22px; margin: 0 0 8px; } h2 { font-size: 17px; margin: 34px 0 6px; }
h3, h4 { font-size: 13px; font-weight: 600; margin: 0 0 4px; }
small, .dim, .legend { color: var(--dim); font-size: 13px; font-weight: 400; }
.text { font: 16.5px/1.75 Charter, "Bitstream Charter", Georgia, serif; white-space: pre-wrap;
  overflow-wrap: anywhere; unicode-bidi: isolate; }
article { border-left: 3px solid var(--line); padding: 2px 0 10px 16px; margin: 0 0 12px; }
article.prompt > .text, article.inherited > .text, .continuation { color: var(--dim); }
article.inherited { border-left-style: dotted; }
details { margin-top: 6px; } summary { cursor: pointer; color: var(--dim); font-size: 13px; }
.neighbor { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  padding: 11px 13px; margin: 10px 0; overflow-wrap: anywhere; }
.neighbor .text { font-size: 14.5px; line-height: 1.6; }
.continuation { border-left: 2px dotted var(--dim); padding-left: 9px; margin-top: 7px; }
.legend { margin: 8px 0 14px; } .legend span { padding: 0 7px; margin: 0 2px;
  border-radius: 3px; color: var(--ink); }
.run { border-radius: 2px; color: var(--ink); }
.lcp1 { background: var(--l1); box-shadow: inset 0 -.5px var(--accent); }
.lcp2 { background: var(--l2); box-shadow: inset 0 -1px var(--accent); }
.lcp3 { background: var(--l3); box-shadow: inset 0 -1.5px var(--accent); }
.lcp4 { background: var(--l4); box-shadow: inset 0 -2px var(--accent); }
.lcp5 { background: var(--l5); box-shadow: inset 0 -3px var(--accent); }
@media print { body { max-width: none; } .neighbor, article { break-inside: avoid; } }
"""


def render_page(generation: Generation) -> Html:
    """Return a generation as a whole HTML document."""
    title = " ".join(generation.prompt[:80].split()) or "A text"
    lines = [generation.run_name, *setting_words(generation)]
    texts = join(
        _text(generation, text, number) for number, text in enumerate(texts_of(generation))
    )
    notes = join(
        html('<p class="dim">{}</p>', note)
        for note in (DOT.join(lines), origin_words(generation), generation.message)
        if note
    )
    return html(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width,initial-scale=1"><meta '
        'http-equiv="Content-Security-Policy" content="{}"><meta name="referrer" '
        'content="no-referrer"><title>{}</title><style>{}</style></head><body><h1>{}</h1>'
        "{}{}{}</body></html>\n",
        POLICY,
        title,
        STYLE,
        title,
        notes,
        LEGEND,
        texts,
    )


def _text(generation: Generation, text: Text, number: int) -> Html:
    title = text_title(generation, text, number)
    words = ", ".join(text_words(text))
    cards = join(_card(generation, text, chunk) for chunk in text.chunks)
    return html('<h2>{}</h2><p class="dim">{}</p>{}', title, words, cards)


def _card(generation: Generation, text: Text, chunk: OutputChunk) -> Html:
    css = "prompt" if chunk.is_prompt else "written"
    css += " inherited" if is_inherited(generation, chunk) else ""
    words = ", ".join(chunk_words(text, chunk))
    return html(
        '<article class="{}"><h3>Chunk {} <small>{}</small></h3><div class="text">{}</div>'
        "{}</article>",
        css,
        chunk.index + 1,
        words,
        render_segments(chunk.segments),
        join(_neighbors(chunk)),
    )


def _neighbors(chunk: OutputChunk) -> Iterator[str]:
    if chunk.neighbors:
        yield html("<details open><summary>Written from these neighbors</summary>")
        yield from (_neighbor(chunk, neighbor) for neighbor in chunk.neighbors)
        yield html("</details>")


def _neighbor(chunk: OutputChunk, neighbor: ShownNeighbor) -> Html:
    words = ", ".join([*neighbor_words(neighbor), *labels(chunk, neighbor)])
    after = _colored(neighbor.continuation, neighbor.continuation_segments)
    return (
        html(
            '<div class="neighbor"><h4>{} {} <small>{}</small></h4><div class="text">{}</div>',
            neighbor.rank,
            neighbor.document or "written by hand",
            words,
            _colored(neighbor.text, neighbor.text_segments),
        )
        + (html('<div class="text continuation">{}</div>', after) if after else "")
        + html("</div>")
    )


def _colored(text: str, segments: Segments) -> Html:
    return render_segments(segments) if segments else escape(text)
