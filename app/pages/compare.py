"""Several runs side by side: results, curves over each other, settings that differ."""

from collections.abc import Callable, Sequence
from typing import Any

from app.chart import render_compared_plots, render_stamp
from app.errors import MissingError
from app.format import duration, number, parameters
from app.html import NOTHING, Html, escape, html, join
from app.pages.run_view import corpus_link
from app.services.curves import MOST_RUNS
from app.services.services import Services
from app.services.views.curves import ComparedRun, ComparedSetting
from app.ui import badge, callout, empty, loss

BACK = html('<p class="small"><a href="/runs">All runs</a></p>')
Cell = Callable[[ComparedRun], str]


def chosen_runs(services: Services, text: str) -> tuple[list[str], list[str]]:
    """Return the ids in the address that are runs, at most eight, and a note on the others."""
    ids = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    known = [run_id for run_id in ids if services.runs.name_of(run_id) is not None]
    notes = [
        f"There is no run {run_id[:60]}. It may have been deleted."
        for run_id in ids
        if run_id not in known
    ]
    if len(known) > MOST_RUNS:
        notes.append(f"Up to {MOST_RUNS} runs are compared at once, these are the first of them.")
    return known[:MOST_RUNS], notes[:MOST_RUNS]


def render_results(services: Services, text: str) -> Html:
    """Return what came of each run."""
    ids, notes = chosen_runs(services, text)
    head = html('{}<div class="head"><h1>Compare runs</h1></div>', BACK)
    head += join(callout(note) for note in notes)
    if len(ids) < 2:
        return head + empty(
            html(
                'Two runs or more are needed. Tick them in <a href="/runs">the list of runs</a>, '
                "then press Compare."
            )
        )
    try:
        runs = services.comparison.results(ids)
    except MissingError as error:
        return head + empty(escape(error))
    stamp = render_stamp([(run.id, run) for run in runs])
    return head + stamp + _results_table(runs)


def _results_table(runs: Sequence[ComparedRun]) -> Html:
    lowest = min(
        (run.best_val_loss_on for run in runs if run.best_val_loss_on is not None),
        default=None,
    )
    rows: dict[str, Cell] = {
        "State": lambda run: badge(run.state),
        "Steps": lambda run: f"{run.step:,} of {run.total_steps:,}",
        "Best validation loss": lambda run: _best(run),
        "Validation loss, retrieval on": lambda run: loss(run.val_loss_on),
        "Validation loss, retrieval off": lambda run: loss(run.val_loss_off),
        "Gain by retrieval": lambda run: loss(run.val_loss_gap),
        "Training loss": lambda run: loss(run.train_loss),
        "Parameters": lambda run: parameters(run.parameters) if run.parameters else "-",
        "Corpus": lambda run: _corpus(run),
        "Tokens per second": lambda run: number(run.tokens_per_second, 0),
        "Time taken": lambda run: "-" if run.seconds is None else duration(run.seconds),
    }
    body = NOTHING
    for title, cell in rows.items():
        cells = NOTHING
        for run in runs:
            is_best = title.startswith("Best") and run.best_val_loss_on == lowest is not None
            cells += html('<td class="num{}">{}</td>', " best" if is_best else "", cell(run))
        body += html('<tr><th scope="row">{}</th>{}</tr>', title, cells)
    return _table("Results", [(run.id, run.name) for run in runs], body)


def _best(run: ComparedRun) -> str:
    if run.best_val_loss_on is None:
        return "-"
    return f"{loss(run.best_val_loss_on)} at step {run.best_step:,}"


def _corpus(run: ComparedRun) -> Html:
    version = run.corpus_version
    return corpus_link(run) + ("" if version is None else f", version {version:,}")


def _table(title: str, runs: Sequence[tuple[str, str]], body: str) -> Html:
    heads = join(
        html(
            '<th scope="col" class="c"><span class="swatch c{}" aria-hidden="true"></span><a '
            'href="/runs?run={}">{}</a></th>',
            index,
            run_id,
            name,
        )
        for index, (run_id, name) in enumerate(runs)
    )
    return html(
        '<section class="panel"><h2>{}</h2><div class="scroll" tabindex="0"><table class="list '
        'compare"><thead><tr><th></th>{}</tr></thead><tbody>{}</tbody></table></div></section>',
        title,
        heads,
        body,
    )


def render_plots(services: Services, text: str) -> Html:
    """Return the place where the curves are drawn over each other."""
    ids, _ = chosen_runs(services, text)
    if len(ids) < 2:
        return NOTHING
    return render_compared_plots(ids, services.curves.measured(ids))


def render_settings(services: Services, text: str) -> Html:
    """Return the settings that differ, and all of them in a fold."""
    ids, _ = chosen_runs(services, text)
    if len(ids) < 2:
        return NOTHING
    try:
        runs = [(run_id, services.runs.name_of(run_id) or run_id) for run_id in ids]
        settings = services.comparison.settings(ids)
    except MissingError:
        return NOTHING
    differing = [entry for entry in settings if entry.differs]
    shown = _table("Settings that differ", runs, _setting_rows(differing))
    if not differing:
        shown = html(
            '<section class="panel"><h2>Settings that differ</h2>{}</section>',
            empty("None: these runs have the same settings."),
        )
    every = _table("All settings", runs, _setting_rows(settings))
    return html(
        '{}<details id="every-setting" style="margin-top:16px"><summary>All settings</summary>'
        "{}</details>",
        shown,
        every,
    )


def _setting_rows(settings: Sequence[ComparedSetting]) -> Html:
    return join(
        html('<tr><th scope="row">{}</th>', entry.name.replace("_", " "))
        + join(html("<td>{}</td>", _setting(value)) for value in entry.values)
        + html("</tr>")
        for entry in settings
    )


def _setting(value: Any) -> Html:
    if value is None:
        return html('<span class="dim">-</span>')
    if isinstance(value, bool):
        return escape("yes" if value else "no")
    return escape(value)
