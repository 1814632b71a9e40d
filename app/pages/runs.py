"""Runs: start one, follow its curves, pause, resume, stop, delete."""

import time
from typing import Any

import gradio as gr

from app.chart import NARROW, WIDE, draw
from app.format import ago, duration, escape, number, parameters, size
from app.pages.new_run import NewRunForm
from app.services.jobs import restart_note, share_done
from app.services.services import Services
from app.ui import (
    Page,
    Query,
    Question,
    action,
    badge,
    callout,
    empty,
    facts,
    loss,
    meter,
    missing,
    write_button,
)
from jobs.errors import NotFoundError

ACTIVE = ("queued", "starting", "running")
MOST_ALERTS = 3
NOTICEABLE_NATS = 0.01
"""Smaller differences of validation losses come and go with the seed."""


def build(services: Services, demo: gr.Blocks) -> None:
    """Add the page to the app."""
    page = Page(services, demo, "Runs", "/runs")
    with gr.Column(elem_id="page"):
        page.part("runs", lambda query: render_runs(services, query))
        form = NewRunForm()
    page.wire()
    form.wire(services, demo)


def render_runs(services: Services, query: Query) -> str:
    """Return the list of runs, or the one in the address."""
    run_id = query.get("run")
    if run_id is not None:
        try:
            return render_run(services, services.runs.get(run_id))
        except NotFoundError as error:
            return missing(error)
    runs = services.runs.list_runs()
    if not runs:
        note = (
            "No run yet. A run trains a model on a corpus; "
            '<a href="/corpora">build a corpus</a> first, or go to <a href="/">Start</a>.'
        )
        ready = any(
            item["state"] in ("ready", "building") for item in services.corpora.list_corpora()
        )
        body = empty("No run yet. Start one below." if ready else note)
        return f'<div class="head"><h1>Runs</h1></div>{body}'
    rows = "".join(_row(run) for run in runs)
    return (
        '<div class="head"><h1>Runs</h1></div><section class="panel"><table class="list stack">'
        "<thead><tr><th>Run</th><th>State</th><th>Steps</th><th>Corpus</th><th>Changed</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></section>"
    )


def _row(run: dict[str, Any]) -> str:
    share = run["step"] / run["total_steps"] if run["total_steps"] else 0.0
    return (
        f'<tr><td><a href="/runs?run={escape(run["id"])}">{escape(run["name"])}</a>'
        f'<div class="dim small">{escape(_size_words(run))}</div></td>'
        f"<td>{badge(run['state'])}</td>"
        f'<td class="wide"><span class="num">{run["step"]:,} of {run["total_steps"]:,}</span>'
        f"{meter(min(1.0, share))}</td>"
        f"<td>{_corpus_link(run)}</td>"
        f'<td class="dim num">{ago(run["updated_at"], time.time())}</td></tr>'
    )


def _corpus_link(run: dict[str, Any]) -> str:
    address = f"/corpora?corpus={escape(run['corpus_id'])}"
    return f'<a href="{address}">{escape(run["corpus_name"])}</a>'


def _size_words(run: dict[str, Any]) -> str:
    settings = run["settings"]
    words = str(settings.get("preset", ""))
    if settings.get("parameters"):
        words += f", {parameters(settings['parameters'])} parameters"
    return words


def render_run(services: Services, run: dict[str, Any]) -> str:
    """Return everything about one run."""
    job = services.jobs.get(run["job_id"]) if run["job_id"] else None
    points = services.runs.metrics(run["id"], max_points=800)
    series: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        series.setdefault(point["name"], []).append((point["step"], point["value"]))
    note = ""
    if run["message"] and run["state"] in ("failed", "interrupted", "canceled"):
        note = callout(run["message"], calm=run["state"] == "canceled")
    elif job is not None and (again := restart_note(job)):
        note = callout(again, calm=True)
    return (
        f'<p class="small"><a href="/runs">All runs</a></p><div class="head"><h1>'
        f"{escape(run['name'])}</h1>{badge(run['state'])}"
        f'<span class="push row">{_buttons(run, job)}</span></div>{note}{_alerts(run)}'
        f"{_progress(services, run, job)}"
        f"{_charts(run, series)}"
        f'<div class="grid2" style="margin-top:16px">{_checkpoints(run)}{_settings(run)}</div>'
        f"{_log(services, job)}"
    )


def _buttons(run: dict[str, Any], job: dict[str, Any] | None) -> str:
    address = f"/api/v1/runs/{run['id']}"
    buttons = []
    if run["checkpoints"]:
        buttons.append(write_button(run))
    stopping = job is not None and job["cancel_requested"] and run["state"] in ACTIVE
    if stopping:
        buttons.append('<span class="dim small">stopping, a checkpoint is being written</span>')
    elif run["state"] in ACTIVE:
        buttons.append(action("Pause", f"POST {address}/pause"))
        buttons.append(action("Stop", f"POST {address}/stop"))
    elif run["state"] != "succeeded":
        buttons.append(action("Resume", f"POST {address}/resume", kind="primary"))
    if run["state"] not in ACTIVE and run["job_id"]:
        buttons.append(_extend_button(run, address))
    if run["state"] not in ACTIVE:
        buttons.append(action("Duplicate", f"POST {address}/duplicate", then="/runs?run={id}"))
        buttons.append(
            action("Delete", f"DELETE {address}", kind="danger", then="/runs",
                   confirm=f"Delete run {run['name']!r} with all its checkpoints?")
        )  # fmt: skip
    return "".join(buttons)


def _extend_button(run: dict[str, Any], address: str) -> str:
    return action(
        "Extend",
        f"POST {address}/extend",
        asks=Question(
            text="Train up to which step? The learning rate follows its schedule to the new end.",
            field="max_steps",
            value=2 * run["total_steps"],
            lowest=run["step"] + 1,
        ),
    )


def _alerts(run: dict[str, Any]) -> str:
    return "".join(
        callout(f"Step {alert['step']:,}: {alert['message']}")
        for alert in run["alerts"][-MOST_ALERTS:]
    )


def _progress(services: Services, run: dict[str, Any], job: dict[str, Any] | None) -> str:
    share = min(1.0, run["step"] / run["total_steps"]) if run["total_steps"] else 0.0
    text = f"step {run['step']:,} of {run['total_steps']:,}"
    if job is not None and run["state"] == "queued":
        text = services.jobs.why_waiting(job)
    elif job is not None and job["state"] == "running" and not run["step"]:
        text = f"starting, {share_done(job):.0%}" if job["total"] else "starting"
    elif (left := services.runs.time_left(run["id"])) is not None:
        text += f", about {duration(left)} left"
    return (
        '<section class="panel"><div class="row small">'
        f'<span class="num">{escape(text)}</span></div>'
        f"{meter(share)}</section>"
    )


def _charts(run: dict[str, Any], series: dict[str, list[tuple[float, float]]]) -> str:
    steps = run["total_steps"]
    curves = {
        "training loss": series.get("train_loss", []),
        "validation, retrieval on": series.get("val_loss_on", []),
        "validation, retrieval off": series.get("val_loss_off", []),
    }
    losses = "".join(
        f'<div class="{css}">'
        f"{draw(curves, label='Loss by step', total_steps=steps, width=width)}</div>"
        for css, width in (("only-wide", WIDE), ("only-narrow", NARROW))
    )
    if not any(curves.values()):
        waiting = "The curves appear with the first steps."
        return f'<section class="panel"><h2>Loss</h2>{empty(waiting)}</section>'
    rate = draw(
        {"learning rate": series.get("learning_rate", [])}, label="Learning rate", total_steps=steps
    )
    speed = draw(
        {"tokens per second": series.get("tokens_per_second", [])},
        label="Tokens per second",
        total_steps=steps,
    )
    return (
        f'<section class="panel" id="loss-chart"><h2>Loss</h2>{losses}{_gap(series)}</section>'
        f'<div class="grid2" style="margin-top:16px"><section class="panel"><h2>Learning rate</h2>'
        f'{rate}</section><section class="panel" style="margin:0"><h2>Speed</h2>{speed}</section>'
        "</div>"
    )


def _gap(series: dict[str, list[tuple[float, float]]]) -> str:
    on, off = series.get("val_loss_on"), series.get("val_loss_off")
    if not on or not off:
        return ""
    gap = off[-1][1] - on[-1][1]
    if gap >= NOTICEABLE_NATS:
        words = f"retrieval lowers the validation loss by {number(gap, 3)} nats per token."
    else:
        words = (
            "retrieval does not lower the validation loss noticeably "
            f"({number(gap, 3)} nats per token)."
        )
    if others := series.get("val_loss_shuffled"):
        change = others[-1][1] - on[-1][1]
        uses = change >= NOTICEABLE_NATS
        use = "so the model uses" if uses else "so the model hardly uses yet"
        words += (
            f" With the neighbors of other chunks it is {number(abs(change), 3)} "
            f"{'higher' if change > 0 else 'lower'}, {use} what it retrieves."
        )
    return f'<p class="dim small" style="margin:6px 0 0">At step {on[-1][0]:,} {words}</p>'


def _checkpoints(run: dict[str, Any]) -> str:
    rows = "".join(_checkpoint_row(run, item) for item in reversed(run["checkpoints"]))
    table = (
        '<div class="scroll"><table class="list"><thead><tr><th>Step</th><th>Loss on</th>'
        "<th>Loss off</th><th>Size</th><th></th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )
    body = table if rows else empty("No checkpoint yet.")
    return f'<section class="panel" id="checkpoints"><h2>Checkpoints</h2>{body}</section>'


def _checkpoint_row(run: dict[str, Any], item: dict[str, Any]) -> str:
    best = f" {badge('ready', 'best')}" if item["is_best"] else ""
    pin = action(
        "Unpin" if item["is_pinned"] else "Pin",
        f"PATCH /api/v1/runs/{run['id']}/checkpoints/{item['step']}",
        kind="tiny",
        body={"pinned": not item["is_pinned"]},
    )
    if item["is_pinned"]:
        best += f" {badge('queued', 'pinned')}"
    address = f"/generate?run={escape(run['id'])}&amp;step={item['step']}"
    return (
        f'<tr><td class="num">{item["step"]:,}{best}</td>'
        f'<td class="num">{loss(item["val_loss_on"])}</td>'
        f'<td class="num">{loss(item["val_loss_off"])}</td>'
        f'<td class="num">{size(item["bytes"])}</td><td><span class="row">'
        f'<a href="{address}">Write</a>{pin}</span></td></tr>'
    )


def _settings(run: dict[str, Any]) -> str:
    settings = run["settings"]
    values = {
        "Corpus": _corpus_link(run),
        **_origin(run),
        "Preset": escape(settings.get("preset", "-")),
    }
    if settings.get("parameters"):
        values["Parameters"] = parameters(settings["parameters"])
    for group in ("training", "model"):
        for field, value in (settings.get(group) or {}).items():
            values[str(field).replace("_", " ")] = escape(value)
    resolved = settings.get("resolved") or {}
    every = {
        field.replace("_", " "): escape(value)
        for group in ("training", "model")
        for field, value in (resolved.get(group) or {}).items()
    }
    details = f"<details><summary>All settings</summary>{facts(every)}</details>" if every else ""
    body = f"<h2>Settings</h2>{facts(values)}{details}"
    return f'<section class="panel" style="margin:0">{body}</section>'


def _origin(run: dict[str, Any]) -> dict[str, str]:
    if run["parent_id"] is None:
        return {}
    return {"Duplicate of": f'<a href="/runs?run={escape(run["parent_id"])}">another run</a>'}


def _log(services: Services, job: dict[str, Any] | None) -> str:
    if job is None:
        return ""
    log = services.jobs.log(job["id"], 60)
    return (
        '<section class="panel" style="margin-top:16px"><details id="run-log">'
        f'<summary>Log of job {job["number"]}</summary><pre class="log" tabindex="0">'
        f"{escape(log) or 'No output yet.'}</pre></details></section>"
    )
