"""One run: its state and what can be done, its checkpoints, its settings, its log."""

from collections.abc import Mapping

from app.chart import render_stamp
from app.format import duration, number, parameters, size
from app.html import NOTHING, Html, escape, html, join
from app.services.jobs import restart_note, share_done
from app.services.services import Services
from app.services.views.curves import ComparedRun
from app.services.views.jobs import Job
from app.services.views.runs import Checkpoint, Run, RunSummary
from app.ui import Question, action, badge, callout, empty, facts, loss, meter, write_button

ACTIVE = ("queued", "starting", "running")
MOST_ALERTS = 3
NOTICEABLE_NATS = 0.01
"""Smaller differences of validation losses come and go with the seed."""
VALIDATION = ("val_loss_on", "val_loss_off", "val_loss_shuffled")


def render_state(services: Services, run: Run) -> Html:
    """Return how far a run is, what went wrong, and the buttons."""
    job = services.jobs.get(run.job_id) if run.job_id else None
    note = ""
    if run.message and run.state in ("failed", "interrupted", "canceled"):
        note = callout(run.message, calm=run.state == "canceled")
    elif job is not None and (again := restart_note(job)):
        note = callout(again, calm=True)
    share = min(1.0, run.step / run.total_steps) if run.total_steps else 0.0
    newest = services.curves.newest_values(run.id, VALIDATION)
    return html(
        '{}<section class="panel"><div class="row">{}<span class="num small">{}</span><span '
        'class="push row">{}</span></div>{}{}</section>{}{}',
        render_stamp([(run.job_id, run)]),
        badge(run.state),
        _progress(services, run, job),
        _buttons(run, job),
        meter(share),
        gain_words(newest),
        note,
        _alerts(run),
    )


def _progress(services: Services, run: Run, job: Job | None) -> str:
    text = f"step {run.step:,} of {run.total_steps:,}"
    if job is not None and run.state == "queued":
        return services.jobs.why_waiting(job)
    if job is not None and job.state == "running" and not run.step:
        return f"starting, {share_done(job):.0%}" if job.total else "starting"
    if (left := services.curves.time_left(run.id)) is not None:
        text += f", about {duration(left)} left"
    return text


def _buttons(run: Run, job: Job | None) -> Html:
    address = f"/api/v1/runs/{run.id}"
    buttons = []
    if run.checkpoints:
        buttons.append(write_button(run))
    stopping = job is not None and job.cancel_requested and run.state in ACTIVE
    if stopping:
        buttons.append(
            html('<span class="dim small">stopping, a checkpoint is being written</span>')
        )
    elif run.state in ACTIVE:
        pausing = "The run pauses after this step, with a checkpoint."
        stop = "The run stops after this step, with a checkpoint."
        buttons.append(action("Pause", f"POST {address}/pause", done=pausing))
        buttons.append(action("Stop", f"POST {address}/stop", done=stop))
    elif run.state != "succeeded":
        going = "The run goes on from its newest checkpoint."
        buttons.append(action("Resume", f"POST {address}/resume", kind="primary", done=going))
    if run.state not in ACTIVE and run.job_id:
        buttons.append(_extend_button(run, address))
    buttons.append(html('<a class="btn" href="/runs?duplicate={}">Duplicate</a>', run.id))
    if run.state not in ACTIVE:
        buttons.append(
            action("Delete", f"DELETE {address}", kind="danger", then="/runs",
                   confirm=f"Delete run {run.name!r} with all its checkpoints?")
        )  # fmt: skip
    return join(buttons)


def _extend_button(run: Run, address: str) -> Html:
    return action(
        "Extend",
        f"POST {address}/extend",
        done="The run goes on to its new last step.",
        asks=Question(
            text="Train up to which step? The learning rate follows its schedule to the new end.",
            field="max_steps",
            value=2 * run.total_steps,
            lowest=run.step + 1,
        ),
    )


def _alerts(run: Run) -> Html:
    return join(
        callout(f"Step {alert.step:,}: {alert.message}") for alert in run.alerts[-MOST_ALERTS:]
    )


def gain_words(newest: Mapping[str, tuple[int, float]]) -> Html:
    """Return what retrieval did for the validation loss.

    Args:
        newest: Step and value of the last measurement of each of ``VALIDATION`` there is.
    """
    if "val_loss_on" not in newest or "val_loss_off" not in newest:
        return NOTHING
    step, on = newest["val_loss_on"]
    gap = newest["val_loss_off"][1] - on
    if gap >= NOTICEABLE_NATS:
        words = f"retrieval lowers the validation loss by {number(gap, 3)} nats per token."
    else:
        words = (
            "retrieval does not lower the validation loss noticeably "
            f"({number(gap, 3)} nats per token)."
        )
    if "val_loss_shuffled" in newest:
        change = newest["val_loss_shuffled"][1] - on
        uses = change >= NOTICEABLE_NATS
        use = "so the model uses" if uses else "so the model hardly uses yet"
        words += (
            f" With the neighbors of other chunks it is {number(abs(change), 3)} "
            f"{'higher' if change > 0 else 'lower'}, {use} what it retrieves."
        )
    return html('<p class="dim small" style="margin:8px 0 0">At step {:,} {}</p>', step, words)


def render_details(services: Services, run: Run) -> Html:
    """Return the checkpoints, the settings and the log."""
    job = services.jobs.get(run.job_id) if run.job_id else None
    return html(
        '{}<div class="grid2">{}{}</div>{}',
        _samples(services, run),
        _checkpoints(run),
        _settings(services, run),
        _log(services, job),
    )


def _samples(services: Services, run: Run) -> Html:
    """Return what the model wrote at each measurement, the newest first."""
    samples = services.runs.samples(run.id)
    if not samples:
        return NOTHING
    texts = join(
        html(
            '<div class="sample-text"><div class="dim small num">step {:,}</div>'
            '<div dir="auto">{}</div></div>',
            sample.step,
            sample.text,
        )
        for sample in reversed(samples)
    )
    return html(
        '<section class="panel" id="samples"><h2>Sample texts</h2><p class="dim small" '
        'dir="auto">What the model writes after the beginning of a held-out document, always '
        "with the same seed: \u201c{}\u201d</p>{}</section>",
        samples[-1].prompt,
        texts,
    )


def _checkpoints(run: Run) -> Html:
    rows = join(_checkpoint_row(run, item) for item in reversed(run.checkpoints))
    table = html(
        '<div class="scroll"><table class="list"><thead><tr><th>Step</th><th>Loss on</th><th>'
        "Loss off</th><th>Size</th><th></th></tr></thead><tbody>{}</tbody></table></div>",
        rows,
    )
    waiting = "No checkpoint yet. The first one is written after some steps; it can write texts."
    body = table if rows else empty(waiting)
    return html('<section class="panel" id="checkpoints"><h2>Checkpoints</h2>{}</section>', body)


def _checkpoint_row(run: Run, item: Checkpoint) -> Html:
    best = " " + badge("ready", "best") if item.is_best else NOTHING
    kept = "No longer kept." if item.is_pinned else "Kept when newer ones come."
    pin = action(
        "Unpin" if item.is_pinned else "Pin",
        f"PATCH /api/v1/runs/{run.id}/checkpoints/{item.step}",
        kind="tiny",
        done=kept,
        body={"pinned": not item.is_pinned},
    )
    if item.is_pinned:
        best += " " + badge("queued", "pinned")
    address = html("/generate?run={}&amp;step={}", run.id, item.step)
    return html(
        '<tr><td class="num">{:,}{}</td><td class="num">{}</td><td class="num">{}</td><td '
        'class="num">{}</td><td><span class="row"><a href="{}">Write</a>{}</span></td></tr>',
        item.step,
        best,
        loss(item.val_loss_on),
        loss(item.val_loss_off),
        size(item.bytes),
        address,
        pin,
    )


def _settings(services: Services, run: Run) -> Html:
    settings = run.settings
    values: dict[str, str] = {"Corpus": corpus_link(run)}
    if run.corpus_version is not None:
        values["Corpus version"] = f"{run.corpus_version:,}"
    values |= {**_origin(services, run), "Preset": str(settings.get("preset", "-"))}
    if settings.get("parameters"):
        values["Parameters"] = parameters(settings["parameters"])
    for group in ("training", "model"):
        for field, value in (settings.get(group) or {}).items():
            values[str(field).replace("_", " ")] = str(value)
    resolved = settings.get("resolved") or {}
    every = {
        field.replace("_", " "): str(value)
        for group in ("training", "model")
        for field, value in (resolved.get(group) or {}).items()
    }
    details = ""
    if every:
        details = html(
            '<details id="all-settings"><summary>All settings</summary>{}</details>', facts(every)
        )
    body = html("<h2>Settings</h2>{}{}", facts(values), details)
    return html('<section class="panel" style="margin:0">{}</section>', body)


def _origin(services: Services, run: Run) -> dict[str, str]:
    if run.parent_id is None:
        return {}
    name = services.runs.name_of(run.parent_id)
    if name is None:
        return {"Duplicate of": "a run that was deleted"}
    return {"Duplicate of": html('<a href="/runs?run={}">{}</a>', run.parent_id, name)}


def _log(services: Services, job: Job | None) -> Html:
    if job is None:
        return NOTHING
    log = services.jobs.log(job.id, 60)
    return html(
        '<section class="panel" style="margin-top:16px"><details id="run-log"><summary>Log of '
        'job {}</summary><pre class="log" tabindex="0">{}</pre></details></section>',
        job.number,
        escape(log) or "No output yet.",
    )


def corpus_link(run: RunSummary | ComparedRun) -> Html:
    """Return a link to the corpus of a run."""
    return html('<a href="/corpora?corpus={}">{}</a>', run.corpus_id, run.corpus_name)
