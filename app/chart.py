"""What charts show, as the script that draws them in the browser reads it.

The numbers are not part of the page: the script asks for them, and later only for new ones,
whenever the stamp of a live part has changed.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from app.html import Html, html
from app.services.curves import GAP
from app.services.views.curves import ComparedRun
from app.services.views.runs import RunSummary

LOSSES = (
    ("train_loss", "training", "c0"),
    ("val_loss_on", "validation, retrieval on", "c1"),
    ("val_loss_off", "validation, retrieval off", "c2"),
    ("val_loss_shuffled", "validation, others' neighbors", "c4"),
    ("val_loss_base", "validation, the pretrained model alone", "c3"),
)
METRICS = {
    "val_loss_on": "Validation loss, retrieval on",
    "val_loss_off": "Validation loss, retrieval off",
    GAP: "Gain by retrieval (loss off minus on)",
    "val_loss_shuffled": "Validation loss, others' neighbors",
    "val_loss_base": "Validation loss of the pretrained model alone",
    "train_loss": "Training loss",
    "learning_rate": "Learning rate",
    "tokens_per_second": "Tokens per second",
    "gradient_norm": "Gradient norm",
}
"""Measurements that runs can be compared by, and their titles."""
SINGLE = (GAP, "learning_rate", "tokens_per_second", "gradient_norm")
"""Measurements with a chart of their own on the page of a run."""
WAITING = "The curves appear with the first steps."


def render_run_plots(run_id: str) -> Html:
    """Return the place where the curves of one run are drawn."""
    curves = [{"name": name, "label": label, "color": color} for name, label, color in LOSSES]
    plots: list[dict[str, Any]] = [
        {"id": "loss", "title": "Loss, nats per token", "log": True, "curves": curves}
    ]
    for name in SINGLE:
        curve = {"name": name, "label": METRICS[name].lower(), "color": "c1"}
        plots.append({"id": name, "title": METRICS[name], "log": name != GAP, "curves": [curve]})
    return _place([run_id], plots, "one")


def render_compared_plots(run_ids: Sequence[str], measured: Sequence[str]) -> Html:
    """Return the place where curves of several runs are drawn over each other.

    Args:
        run_ids: The runs; their order sets the colors.
        measured: Names of what any of them measured.
    """
    known = set(measured)
    if {"val_loss_on", "val_loss_off"} <= known:
        known.add(GAP)
    names = [name for name in METRICS if name in known]
    names += sorted(known - set(METRICS))
    plots = [
        {
            "id": f"compare-{name}",
            "metric": name,
            "title": METRICS.get(name, name.replace("_", " ")),
            "log": name != GAP,
        }
        for name in names or ["val_loss_on"]
    ]
    return _place(run_ids, plots, "compare")


def _place(run_ids: Sequence[str], plots: Sequence[Mapping[str, Any]], mode: str) -> Html:
    return html(
        '<div id="loss-chart"><div id="plots" data-mode="{}" data-runs="{}" data-plots="{}" '
        'data-empty="{}"><div class="empty">Curves are being read.</div></div></div>',
        mode,
        ",".join(run_ids),
        json.dumps(plots),
        WAITING,
    )


def render_stamp(runs: Sequence[tuple[str | None, RunSummary | ComparedRun]]) -> Html:
    """Return a mark that changes whenever there may be new points.

    Args:
        runs: What they belong to, such as a job, and each run.
    """
    words = " ".join(f"{owner}:{run.state}:{run.step}" for owner, run in runs)
    return html('<span hidden data-stamp="{}"></span>', words)
