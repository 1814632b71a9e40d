"""The name and the build settings of a corpus, as forms that a script sends."""

from collections.abc import Mapping
from typing import Any

from app.format import escape
from app.services.services import Services
from app.ui import Query
from jobs.errors import NotFoundError

Field = tuple[str, str, str]
NUMBERS: tuple[Field, ...] = (
    ("chunk_size", "Chunk size", "Tokens per chunk, 2 to 4,096"),
    ("num_neighbors", "Neighbors", "Stored for each chunk, 1 to 100"),
    ("vocab_size", "Vocabulary", "Tokens; empty keeps the tokenizer, or chooses by size"),
    ("validation_fraction", "Validation share", "Of documents that are held out, 0 to 0.5"),
    ("exclusion_window", "Exclusion window", "Tokens on either side, for the rule window"),
)
CHOICES: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "index_kind",
        "Index",
        (
            ("auto", "by number of chunks"),
            ("flat", "flat, exact"),
            ("ivf", "IVF, approximate"),
            ("hnsw", "HNSW, approximate"),
        ),
    ),
    (
        "exclusion",
        "Exclusion rule",
        (
            ("auto", "by size of documents"),
            ("document", "never the same document"),
            ("window", "not near by in it"),
        ),
    ),
)


def render_settings(services: Services, query: Query) -> str:
    """Return the forms of the corpus in the address, folded away."""
    corpus_id = query.get("corpus")
    if corpus_id is None or "document" in query:
        return ""
    try:
        corpus = services.corpora.get(corpus_id)
    except NotFoundError:
        return ""
    address = f"/api/v1/corpora/{escape(corpus.id)}"
    build = ""
    if corpus.num_documents and corpus.state != "building":
        build = (
            f'<button type="submit" class="btn" data-send="POST {address}/build" '
            'data-under="settings" data-done="The build was submitted.">'
            "Build with these settings</button>"
        )
    return (
        '<section class="panel"><details class="plain-details" id="corpus-settings">'
        "<summary>Name and build settings</summary>"
        f'<form class="row inline-form" id="rename-form" data-form><label>Name '
        f'<input name="name" value="{escape(corpus.name)}" maxlength="200" required></label>'
        f'<button type="submit" class="btn" data-send="PATCH {address}" '
        'data-done="The corpus was renamed.">Rename</button></form>'
        f'<form id="settings-form" data-form><div class="fields">{_fields(corpus.settings)}'
        '</div><p class="dim small">They hold from the next build on. Another chunk size, '
        "vocabulary or encoder makes a corpus that present models do not fit.</p>"
        f'<div class="row"><button type="submit" class="btn" data-send="PATCH {address}" '
        'data-under="settings" data-done="The settings were saved.">Save</button>'
        f"{build}</div></form></details></section>"
    )


def _fields(settings: Mapping[str, Any]) -> str:
    numbers = "".join(
        f'<label>{label}<input type="number" step="any" name="{name}" data-kind="number" '
        f'value="{"" if settings.get(name) is None else escape(settings[name])}">'
        f'<small class="dim">{hint}</small></label>'
        for name, label, hint in NUMBERS
    )
    choices = "".join(
        f'<label>{label}<select name="{name}">{_options(options, settings.get(name))}</select>'
        "</label>"
        for name, label, options in CHOICES
    )
    encoder = (
        '<label>Encoder<input name="encoder" data-kind="text" maxlength="200" '
        f'value="{escape(settings.get("encoder") or "")}">'
        '<small class="dim">Hub name or folder; empty is the bundled MiniLM</small></label>'
    )
    return numbers + encoder + choices


def _options(options: tuple[tuple[str, str], ...], chosen: object) -> str:
    return "".join(
        f'<option value="{value}"{" selected" if value == chosen else ""}>{value}: {words}</option>'
        for value, words in options
    )
