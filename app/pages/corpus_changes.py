"""Changing a corpus that models were trained on: build again, or copy for another model."""

from collections.abc import Sequence

from app.format import count
from app.html import NOTHING, Html, html, join
from app.services.changes import resume_note
from app.services.views.corpora import Corpus
from app.services.views.runs import RunSummary
from app.ui import action, callout

MOST_RUNS = 30
COPY_TEXT = (
    "A model reads only corpora that were cut with its tokenizer and chunk size. Choose a model, "
    "and the same documents become a new corpus that it can write from."
)
REBUILD = (
    "Build to retrieve from them: what is unchanged is not computed again, and the tokenizer "
    "stays, so models that read this corpus write from the new documents without further training."
)


def render_rebuild(corpus: Corpus) -> Html:
    """Return the button that builds a finished corpus again."""
    changed = corpus.has_changes
    return action(
        "Build the next version" if changed else "Rebuild",
        f"POST /api/v1/corpora/{corpus.id}/build",
        kind="primary" if changed else "",
        done="The build was submitted.",
    )


def render_changes(corpus: Corpus) -> Html:
    """Return what to do about changes that the index does not hold yet."""
    if corpus.has_changes:
        words = ", ".join(f"{number:,} {word}" for word, number in corpus.changes if number)
        since = f"since version {corpus.version}" if corpus.version else "since the build"
        return callout(
            f"Documents changed {since}: {words}. {REBUILD} {_note(corpus)}".rstrip(), calm=True
        )
    if corpus.changed_settings and corpus.state == "ready":
        names = ", ".join(name.replace("_", " ") for name in corpus.changed_settings)
        return callout(
            f"Settings were changed since the last build: {names}. Build to use them.", calm=True
        )
    return NOTHING


def _note(corpus: Corpus) -> str:
    return resume_note([run.name for run in corpus.unfinished_runs])


def render_copy(corpus: Corpus, runs: Sequence[RunSummary]) -> Html:
    """Return the runs for whose models the corpus can be copied, folded away.

    Args:
        corpus: The corpus.
        runs: All runs, the newest first.
    """
    fitting = [run for run in runs if _is_other_model(run, corpus)][:MOST_RUNS]
    if not fitting or not corpus.num_documents:
        return NOTHING
    rows = join(_copy_row(corpus, run) for run in fitting)
    return html(
        '<details class="plain-details" id="copy-corpus" style="margin-top:14px"><summary '
        'class="small">Copy for another model</summary><p class="dim small" style="margin:8px '
        '0">{}</p><table class="list stack"><thead><tr><th>Model</th><th>Trained on</th><th>'
        "Chunk size</th><th></th></tr></thead><tbody>{}</tbody></table></details>",
        COPY_TEXT,
        rows,
    )


def _is_other_model(run: RunSummary, corpus: Corpus) -> bool:
    return run.corpus_id != corpus.id and bool(run.settings.get("resolved"))


def _copy_row(corpus: Corpus, run: RunSummary) -> Html:
    chunk_size = run.settings["resolved"]["model"]["chunk_size"]
    button = action(
        "Copy",
        f"POST /api/v1/corpora/{corpus.id}/copy",
        kind="tiny",
        body={"run_id": run.id},
        then="/corpora?corpus={id}",
        elem_id=f"copy-for-{run.id}",
    )
    return html(
        '<tr><td>{}</td><td>{}</td><td class="num">{}</td><td class="right">{}</td></tr>',
        run.name,
        run.corpus_name,
        count(chunk_size, "token"),
        button,
    )
