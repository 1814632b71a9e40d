"""The name and the build settings of a corpus, as forms that a script sends."""

from collections.abc import Mapping
from typing import Any

from app.html import NOTHING, Html, escape, html, join
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


def render_settings(services: Services, query: Query) -> Html:
    """Return the forms of the corpus in the address, folded away."""
    corpus_id = query.get("corpus")
    if corpus_id is None or "document" in query:
        return NOTHING
    try:
        corpus = services.corpora.get(corpus_id)
    except NotFoundError:
        return NOTHING
    address = f"/api/v1/corpora/{corpus.id}"
    build = ""
    if corpus.num_documents and corpus.state != "building":
        build = html(
            '<button type="submit" class="btn" data-send="POST {}/build" data-under="settings" '
            'data-done="The build was submitted.">Build with these settings</button>',
            address,
        )
    return html(
        '<section class="panel"><details class="plain-details" id="corpus-settings"><summary>'
        'Name and build settings</summary><form class="row inline-form" id="rename-form" '
        'data-form><label>Name <input name="name" value="{}" maxlength="200" required></label>'
        '<button type="submit" class="btn" data-send="PATCH {}" data-done="The corpus was '
        'renamed.">Rename</button></form><form id="settings-form" data-form><div '
        'class="fields">{}</div><p class="dim small">They hold from the next build on. Another '
        "chunk size, vocabulary or encoder makes a corpus that present models do not fit.</p>"
        '<div class="row"><button type="submit" class="btn" data-send="PATCH {}" '
        'data-under="settings" data-done="The settings were saved.">Save</button>{}</div>'
        "</form></details></section>",
        corpus.name,
        address,
        _fields(corpus.settings),
        address,
        build,
    )


def _fields(settings: Mapping[str, Any]) -> Html:
    numbers = join(
        html(
            '<label>{}<input type="number" step="any" name="{}" data-kind="number" value="{}">'
            '<small class="dim">{}</small></label>',
            label,
            name,
            "" if settings.get(name) is None else escape(settings[name]),
            hint,
        )
        for name, label, hint in NUMBERS
    )
    choices = join(
        html(
            '<label>{}<select name="{}">{}</select></label>',
            label,
            name,
            _options(options, settings.get(name)),
        )
        for name, label, options in CHOICES
    )
    tokenizer = html(
        '<label>Cut for<input name="tokenizer" data-kind="text" maxlength="200" value="{}">'
        '<small class="dim">Pretrained model whose tokenizer cuts the text: smollm2-135m, Hub '
        "name or folder; empty trains one</small></label>",
        settings.get("tokenizer") or "",
    )
    encoder = html(
        '<label>Encoder<input name="encoder" data-kind="text" maxlength="200" value="{}">'
        '<small class="dim">Hub name or folder; empty is the bundled MiniLM</small></label>',
        settings.get("encoder") or "",
    )
    return numbers + tokenizer + encoder + choices


def _options(options: tuple[tuple[str, str], ...], chosen: object) -> Html:
    return join(
        html(
            '<option value="{}"{}>{}: {}</option>',
            value,
            " selected" if value == chosen else "",
            value,
            words,
        )
        for value, words in options
    )
