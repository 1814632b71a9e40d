"""A generation as cards with their neighbors."""

from itertools import pairwise
from typing import Any

from app.format import count, duration, escape, number, percent
from app.pages.neighbors import render_neighbor, render_segments
from app.ui import callout

WORKING = "running"

LEGEND = (
    '<div class="legend">longest run shared with the neighbors, in tokens <span>0</span>'
    + "".join(f'<span class="lcp{n}">{n}{"+" if n == 5 else ""}</span>' for n in range(1, 6))
    + "</div>"
)


def render_result(generation: dict[str, Any], partial: dict[str, str], waiting_for: int) -> str:
    """Return a whole generation.

    Args:
        generation: As the services return it.
        partial: Variant to the text of the chunk that is being written.
        waiting_for: How many generations are written before this one.
    """
    note = _note(generation, waiting_for)
    if generation["state"] == "failed" and not _has_text(generation):
        return note
    both = generation["settings"]["retrieval"] == "both"
    body = _side_by_side(generation, partial) if both else _single(generation, partial)
    return f"{note}{body}"


def _has_text(generation: dict[str, Any]) -> bool:
    variants = [generation[name] for name in ("on", "off") if name in generation] or [generation]
    return any(variant["chunks"] for variant in variants)


def _note(generation: dict[str, Any], waiting_for: int) -> str:
    if generation["state"] == WORKING and waiting_for:
        return callout(f"Waiting for {count(waiting_for, 'text')} to be written first.", calm=True)
    if generation["state"] == "failed":
        return callout(generation["message"])
    if generation["message"]:
        return callout(generation["message"], calm=True)
    return ""


def _single(generation: dict[str, Any], partial: dict[str, str]) -> str:
    variant = generation["settings"]["retrieval"]
    chunks = generation["chunks"]
    writing = generation["state"] == WORKING
    cards = [_card(generation, chunk, chunks, variant) for chunk in chunks]
    if writing:
        cards.append(_unfinished(partial.get(variant, ""), len(chunks)))
    focus = _focus(chunks)
    sides = "".join(_side(generation, chunk, variant, chunk["index"] == focus) for chunk in chunks)
    return (
        f"{_summary(generation, chunks, variant)}{LEGEND if variant == 'on' else ''}"
        f'<div id="result" data-generation="{escape(generation["id"])}" data-focus="{focus}" '
        f'data-state="{escape(generation["state"])}"><div>{"".join(cards)}</div>'
        f'<aside class="side" aria-label="Neighbors of the chosen chunk">{sides}</aside></div>'
    )


def _focus(chunks: list[dict[str, Any]]) -> int:
    """Return the chunk whose neighbors are shown at first: the newest that has some."""
    with_neighbors = [chunk["index"] for chunk in chunks if chunk["neighbors"]]
    written = [chunk["index"] for chunk in chunks if chunk["neighbors"] and not chunk["is_prompt"]]
    if written:
        return int(written[0])
    return int(with_neighbors[-1]) if with_neighbors else 0


def _side_by_side(generation: dict[str, Any], partial: dict[str, str]) -> str:
    on, off = generation["on"]["chunks"], generation["off"]["chunks"]
    writing = generation["state"] == WORKING
    rows = ["<h3>Retrieval on</h3><h3>Retrieval off</h3>"]
    for index in range(max(len(on), len(off), 1)):
        cells = []
        for variant, chunks in (("on", on), ("off", off)):
            if index < len(chunks):
                cells.append(_card(generation, chunks[index], chunks, variant))
            elif index == len(chunks) and writing and (variant == "on" or variant in partial):
                cells.append(_unfinished(partial.get(variant, ""), index))
            else:
                cells.append("<div></div>")
        rows.append("".join(cells))
    if writing and len(on) == len(off) and on:
        rows.append(_unfinished(partial.get("off", ""), len(off)))
    heads = "".join(
        f"<div>{_summary(generation, chunks, variant)}</div>"
        for variant, chunks in (("on", on), ("off", off))
    )
    return (
        f'{LEGEND}<div id="result" class="both" data-generation="{escape(generation["id"])}" '
        f'data-focus="-1" data-state="{escape(generation["state"])}">'
        f'<div class="pair">{heads}{"".join(rows)}</div></div>'
    )


def _card(
    generation: dict[str, Any], chunk: dict[str, Any], chunks: list[dict[str, Any]], variant: str
) -> str:
    index = chunk["index"]
    first = sum(len(item["token_ids"]) for item in chunks if item["index"] < index) + 1
    last = first + len(chunk["token_ids"]) - 1
    heads = [f"<span>Chunk {index + 1} \N{MIDDLE DOT} tokens {first:,}-{last:,}</span>"]
    if chunk["neighbors"]:
        heads.append(f"<span>copied {percent(chunk['copied_fraction'])}</span>")
    if chunk["mean_nll"] is not None:
        heads.append(f"<span>log-prob {number(-chunk['mean_nll'])}</span>")
    right = "prompt" if chunk["is_prompt"] else ""
    if not chunk["neighbors"]:
        separator = " \N{MIDDLE DOT} " if right else ""
        right += f"{separator}{_without(index, variant)}"
    heads.append(f'<span class="push">{right}</span>')
    kind = "text prompt" if chunk["is_prompt"] else "text"
    return (
        f'<article class="card" tabindex="0" data-card="{index}" data-variant="{variant}" '
        f'aria-label="Chunk {index + 1}"><div class="card-head">{"".join(heads)}</div>'
        f'<div class="{kind}">{render_segments(chunk["segments"])}</div>'
        f"{_under(generation, chunk)}</article>"
    )


def _without(index: int, variant: str) -> str:
    if variant == "off":
        return "retrieval off"
    return "no neighbors yet" if index == 0 else "no neighbor was found"


def _unfinished(text: str, index: int) -> str:
    return (
        f'<article class="card"><div class="card-head"><span>Chunk {index + 1} \N{MIDDLE DOT} '
        f'being written</span></div><div class="text cursor">{escape(text)}</div></article>'
    )


def _neighbors(generation: dict[str, Any], chunk: dict[str, Any]) -> str:
    corpus_id = generation["corpus_id"]
    return "".join(render_neighbor(item, corpus_id) for item in chunk["neighbors"])


def _under(generation: dict[str, Any], chunk: dict[str, Any]) -> str:
    if not chunk["neighbors"]:
        return ""
    title = f"{count(len(chunk['neighbors']), 'neighbor')} that conditioned this chunk"
    body = _neighbors(generation, chunk)
    return f'<details class="under"><summary>{title}</summary>{body}</details>'


def _side(generation: dict[str, Any], chunk: dict[str, Any], variant: str, shown: bool) -> str:
    index = chunk["index"]
    if chunk["neighbors"]:
        title = f"Chunk {index + 1} was written from these neighbors, found with chunk {index}"
        body = _neighbors(generation, chunk)
    elif variant == "off":
        title, body = "Retrieval was off", ""
    elif index == 0:
        title = "The first chunk has no neighbors: nothing had been read before it"
        body = ""
    else:
        title, body = "No neighbor was found for the chunk before", ""
    hidden = "" if shown else " hidden"
    return f'<div data-side="{index}"{hidden}><div class="side-title">{title}</div>{body}</div>'


def _summary(generation: dict[str, Any], chunks: list[dict[str, Any]], variant: str) -> str:
    written = [chunk for chunk in chunks if not chunk["is_prompt"]]
    num_tokens = sum(len(chunk["token_ids"]) for chunk in written)
    parts = [f"<span><b>{count(len(chunks), 'chunk')}</b></span>"]
    if num_tokens:
        copied = sum(c["copied_fraction"] * len(c["token_ids"]) for c in written) / num_tokens
        nlls = [(c["mean_nll"], len(c["token_ids"])) for c in written if c["mean_nll"] is not None]
        total = sum(weight for _, weight in nlls)
        if variant == "on":
            parts.append(f"<span>copied <b>{percent(copied)}</b></span>")
        if total:
            mean = -sum(value * weight for value, weight in nlls) / total
            parts.append(f"<span>mean log-prob <b>{number(mean)}</b></span>")
        parts.append(f"<span>distinct-2 <b>{number(distinct_pairs(written))}</b></span>")
    finish = (generation["result"] or {}).get(variant) or {}
    if finish.get("seconds") and finish.get("num_tokens"):
        speed = finish["num_tokens"] / finish["seconds"]
        parts.append(
            f"<span><b>{number(speed, 0)}</b> tokens/s, {duration(finish['seconds'])}</span>"
        )
    if finish.get("slid"):
        parts.append("<span>longer than the window, the beginning was forgotten</span>")
    links = (
        f'<span class="push"><a id="export" href="/api/v1/generations/{escape(generation["id"])}" '
        f'download="generation-{escape(generation["id"])}.json">Export JSON</a>'
        '<button type="button" class="link" data-copy="address">Copy link</button></span>'
    )
    show_links = variant == "off" or generation["settings"]["retrieval"] != "both"
    return f'<div class="sum">{"".join(parts)}{links if show_links else ""}</div>'


def distinct_pairs(chunks: list[dict[str, Any]]) -> float:
    """Return the share of neighboring token pairs that are different from each other."""
    tokens = [token for chunk in chunks for token in chunk["token_ids"]]
    pairs = list(pairwise(tokens))
    return len(set(pairs)) / len(pairs) if pairs else 1.0
