"""The versions of a corpus: what each build made, and the runs that were trained on it."""

import time

from app.format import ago, count, escape, size
from app.services.services import Services
from app.services.views.corpora import CorpusVersion
from app.ui import Query, badge
from jobs.errors import NotFoundError

STATE_WORDS = {
    "current": "the corpus now",
    "kept": "kept for its runs",
    "replaced": "replaced",
}


def render_versions(services: Services, query: Query) -> str:
    """Return the versions of the corpus in the address."""
    corpus_id = query.get("corpus")
    if corpus_id is None or "document" in query:
        return ""
    try:
        versions = services.corpora.versions(corpus_id)
    except NotFoundError:
        return ""
    if not versions:
        return ""
    now = time.time()
    rows = "".join(_row(item, now) for item in versions)
    return (
        '<section class="panel"><h2>Versions</h2>'
        '<p class="dim small">Each build that made something new is a version. Runs go on with '
        "the version they began with; it is kept until the last of them is deleted.</p>"
        '<table class="list stack"><thead><tr><th>Version</th><th>Built</th><th>Documents</th>'
        "<th>Chunks</th><th>Settings changed</th><th>Runs</th>"
        f'<th class="right">Size</th></tr></thead><tbody>{rows}</tbody></table></section>'
    )


def _row(item: CorpusVersion, now: float) -> str:
    state = badge(item.state, STATE_WORDS[item.state])
    reused = ""
    if item.num_reused:
        reused = (
            f'<div class="dim small">{item.num_embedded:,} embedded, {item.num_reused:,} '
            "reused</div>"
        )
    changed = ", ".join(name.replace("_", " ") for name in item.changed_settings)
    runs = ", ".join(
        f'<a href="/runs?run={escape(run.id)}">{escape(run.name)}</a>' for run in item.runs
    )
    held = size(item.bytes) if item.bytes else "-"
    return (
        f"<tr><td><b>{item.number:,}</b> {state}</td>"
        f'<td class="dim num">{ago(item.built_at, now)}</td>'
        f'<td class="num">{count(item.num_documents or 0, "document")}</td>'
        f'<td class="num">{count(item.num_chunks or 0, "chunk")}{reused}</td>'
        f'<td>{escape(changed) or "-"}</td><td class="path">{runs or "-"}</td>'
        f'<td class="num right">{held}</td></tr>'
    )
