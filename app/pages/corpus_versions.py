"""The versions of a corpus: what each build made, and the runs that were trained on it."""

import time

from app.format import ago, count, size
from app.html import NOTHING, Html, escape, html, join
from app.services.services import Services
from app.services.views.corpora import CorpusVersion
from app.ui import Query, badge
from jobs.errors import NotFoundError

STATE_WORDS = {
    "current": "the corpus now",
    "kept": "kept for its runs",
    "replaced": "replaced",
}


def render_versions(services: Services, query: Query) -> Html:
    """Return the versions of the corpus in the address."""
    corpus_id = query.get("corpus")
    if corpus_id is None or "document" in query:
        return NOTHING
    try:
        versions = services.corpora.versions(corpus_id)
    except NotFoundError:
        return NOTHING
    if not versions:
        return NOTHING
    now = time.time()
    rows = join(_row(item, now) for item in versions)
    return html(
        '<section class="panel"><h2>Versions</h2><p class="dim small">Each build that made '
        "something new is a version. Runs go on with the version they began with; it is kept "
        'until the last of them is deleted.</p><table class="list stack"><thead><tr><th>'
        "Version</th><th>Built</th><th>Documents</th><th>Chunks</th><th>Settings changed</th>"
        '<th>Runs</th><th class="right">Size</th></tr></thead><tbody>{}</tbody></table>'
        "</section>",
        rows,
    )


def _row(item: CorpusVersion, now: float) -> Html:
    state = badge(item.state, STATE_WORDS[item.state])
    reused = ""
    if item.num_reused:
        reused = html(
            '<div class="dim small">{:,} embedded, {:,} reused</div>',
            item.num_embedded,
            item.num_reused,
        )
    changed = ", ".join(name.replace("_", " ") for name in item.changed_settings)
    runs = join(
        (html('<a href="/runs?run={}">{}</a>', run.id, run.name) for run in item.runs), ", "
    )
    held = size(item.bytes) if item.bytes else "-"
    return html(
        '<tr><td><b>{:,}</b> {}</td><td class="dim num">{}</td><td class="num">{}</td><td '
        'class="num">{}{}</td><td>{}</td><td class="path">{}</td><td class="num right">{}</td>'
        "</tr>",
        item.number,
        state,
        ago(item.built_at, now),
        count(item.num_documents or 0, "document"),
        count(item.num_chunks or 0, "chunk"),
        reused,
        escape(changed) or "-",
        runs or "-",
        held,
    )
