"""Facts of a corpus: what was built, how, and what it takes on the disk."""

import time
from collections.abc import Mapping
from typing import Any

from app.format import ago, count, size
from app.html import Html, escape, html
from app.services.services import Services
from app.services.views.corpora import Corpus
from app.ui import facts
from retro.corpus.tokenizer import tokenizer_words

EXCLUSION_WORDS = {
    "document": "never from the same document",
    "window": "not from near by in the same document",
}
AUTOMATIC_WHY = {
    "document": "no document holds most of the text",
    "window": "few documents hold most of the text",
}
INDEX_WORDS = {"flat": "flat, exact", "ivf": "IVF, approximate", "hnsw": "HNSW, approximate"}
PART_WORDS = {"database": "chunks", "versions": "kept versions"}


def render_facts(services: Services, corpus: Corpus) -> Html:
    """Return the facts of a corpus."""
    summary = corpus.summary or {}
    settings = corpus.settings
    sizes = services.corpora.sizes(corpus.id).model_dump()
    values = {
        "Documents": f"{corpus.num_documents:,}",
        "Size on disk": size(sum(sizes.values())),
        "Chunk size": count(summary.get("chunk_size") or settings["chunk_size"], "token"),
        "Neighbors per chunk": str(summary.get("num_neighbors", settings["num_neighbors"])),
    }
    if summary:
        values |= _built(corpus, summary)
    parts = ", ".join(
        f"{PART_WORDS.get(name, name)} {size(num_bytes)}"
        for name, num_bytes in sizes.items()
        if num_bytes
    )
    by_part = html('<p class="dim small facts-more">On disk: {}.</p>', parts) if parts else ""
    return facts(values) + by_part


def _built(corpus: Corpus, summary: Mapping[str, Any]) -> dict[str, str]:
    held_out = summary["num_chunks"] - summary["num_retrievable"]
    kind = str(summary["index_kind"])
    recall = summary["recall"]
    documents = summary.get("num_validation_documents")
    split = count(held_out, "chunk")
    if documents is not None:
        split += f" of {count(documents, 'document')}"
    values = {
        "Chunks": f"{summary['num_chunks']:,}",
        "Held out for validation": split,
        "Tokens": f"{summary['num_tokens']:,}",
        "Vocabulary": count(summary["vocab_size"], "token"),
        "Tokenizer": escape(tokenizer_words(summary)),
        "Index": escape(INDEX_WORDS.get(kind, kind)),
        "Measured recall": "-" if recall is None else f"{recall:.3f}",
        "Encoder": escape(summary["encoder"] or "bundled MiniLM"),
        "Exclusion rule": escape(_exclusion(corpus.settings, summary)),
    }
    if summary["num_short"]:
        values["Short of neighbors"] = count(summary["num_short"], "chunk")
    if summary.get("num_reused"):
        values["Keys reused"] = f"{summary['num_reused']:,} of {summary['num_chunks']:,}"
    if corpus.version is not None and corpus.built_at is not None:
        values["Version"] = f"{corpus.version:,}, built {ago(corpus.built_at, time.time())}"
    fingerprint = str(summary.get("fingerprint", ""))
    if fingerprint:
        values["Fingerprint"] = html('<code title="{}">{}</code>', fingerprint, fingerprint[:12])
    return values


def _exclusion(settings: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Return the rule that was used, and why."""
    rule = str(summary["exclusion"])
    words = EXCLUSION_WORDS.get(rule, rule)
    if rule == "window":
        words += f", {summary.get('exclusion_window', settings['exclusion_window']):,} tokens"
    if settings.get("exclusion") == "auto":
        return f"{words}, because {AUTOMATIC_WHY.get(rule, 'it fits the text')}"
    return f"{words}, as chosen"
