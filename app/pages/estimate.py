"""What a new run will need, as the form shows it."""

from collections.abc import Callable
from typing import Any

from app.format import count, duration, parameters, size
from app.html import NOTHING, Html, html
from app.services.run_settings import list_presets
from app.services.services import Services
from app.services.views.runs import Estimate
from app.ui import facts
from jobs.errors import JobError
from retro.config.model import ModelConfig
from retro.config.training import TrainingConfig
from retro.errors import RetroError
from retro.model.choices import BASE
from retro.model.kinds import ModelSettings

YEAR_S = 365 * 86_400


def render_estimate(
    services: Services,
    corpus_id: str,
    preset: str,
    model: Callable[[], dict[str, Any]],
    training: Callable[[TrainingConfig], dict[str, Any]],
) -> Html:
    """Return parameters, memory and time; where a value is wrong, the sentence about it.

    Args:
        services: What knows.
        corpus_id: Corpus of the run.
        preset: Name of its preset.
        model: Returns what differs from the preset's model.
        training: The same for the training, given what the preset amounts to.
    """
    try:
        sizes = model()
        base = sizes.get(BASE)
        defaults = services.runs.settings.preview(
            corpus_id, preset, model={BASE: base} if base else None
        ).training
        chosen = training(defaults)
        preview = services.runs.settings.preview(corpus_id, preset, chosen, sizes)
        answer = services.estimates.estimate(corpus_id, preset=preset, model=sizes, training=chosen)
        table = _presets(services, corpus_id, preset, base)
    except (RetroError, JobError) as error:
        return html('<div class="estimate bad-text" role="status">{}</div>', error)
    described = next((item.description for item in list_presets(base) if item.name == preset), "")
    checkpointing = "without" if preview.training.gradient_checkpointing else "with"
    other = answer.memory if checkpointing == "without" else answer.memory_checkpointed
    values = {
        "Parameters": html(
            '<span id="estimate-parameters">{}</span>{}',
            parameters(answer.parameters),
            NOTHING
            if answer.trained == answer.parameters
            else html('<div class="dim small">{:,} numbers are trained</div>', answer.trained),
        ),
        "Memory": html(
            '<span id="estimate-memory">{}</span><div class="dim small">{} {} gradient '
            "checkpointing</div>",
            _gigabytes(answer.needed_bytes),
            _gigabytes(other.total),
            checkpointing,
        ),
        "Time": html(
            '<span id="estimate-time">about {}</span><div class="dim small">{:,.0f} tokens per '
            "second</div>",
            _time(answer.seconds),
            answer.tokens_per_second,
        ),
        "Checkpoints": f"{size(answer.checkpoint_bytes)} on the disk",
    }
    return html(
        '<div class="estimate">{}{}<p class="dim small">{} {} {} The time is '
        "estimated {}.</p>{}</div>",
        facts(values),
        _warning(answer),
        described,
        _shape(preview.model),
        _parts(answer, checkpointing),
        answer.basis.text,
        table,
    )


def _shape(model: ModelSettings) -> str:
    if isinstance(model, ModelConfig):
        return f"{count(model.dec_depth, 'layer')} of width {model.dec_dim}."
    return f"What is trained is kept apart from {model.base}, which stays as it is."


def _parts(answer: Estimate, checkpointing: str) -> str:
    memory = answer.memory_checkpointed if checkpointing == "without" else answer.memory
    return (
        f"Memory: weights {size(memory.weights)}, gradients {size(memory.gradients)}, "
        f"AdamW {size(memory.moments)}, inner states {size(memory.activations)}, "
        f"program {size(memory.program)}."
    )


def _warning(answer: Estimate) -> Html:
    if answer.fits is not False:
        return NOTHING
    return html(
        '<p class="bad-text" id="estimate-warning">This is more than this device has ({}). '
        "Choose a smaller preset or batch, or gradient checkpointing.</p>",
        _gigabytes(answer.device.memory_bytes or 0),
    )


def _presets(services: Services, corpus_id: str, chosen: str, base: str | None) -> Html:
    rows = NOTHING
    what = "Mode" if base else "Preset"
    for item, estimate in services.estimates.presets(corpus_id, base):
        mark = html(' <span class="dim small">chosen</span>') if item.name == chosen else ""
        more = (
            "" if estimate.fits is not False else html('<div class="bad-text small">too much</div>')
        )
        rows += html(
            "<tr><td>{}{}<div class='dim small'>{}</div></td><td class=\"num\">{}</td><td "
            'class="num">{}{}</td><td class="num">{}</td><td class="num">{}</td></tr>',
            item.name,
            mark,
            item.description,
            parameters(estimate.trained),
            _gigabytes(estimate.needed_bytes),
            more,
            _gigabytes(estimate.memory_checkpointed.total),
            _time(estimate.seconds),
        )
    return html(
        '<details id="preset-table"><summary>All {}s on this corpus</summary><div '
        'class="scroll" tabindex="0"><table class="list"><thead><tr><th>{}</th><th>'
        "{}</th><th>Memory</th><th>With checkpointing</th><th>Time</th></tr></thead>"
        "<tbody>{}</tbody></table></div></details>",
        what.lower(),
        what,
        "Trained" if base else "Parameters",
        rows,
    )


def _time(seconds: float) -> str:
    years = seconds / YEAR_S
    return f"{years:,.0f} years" if years > 2 else duration(seconds)


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.3g} GB" if num_bytes < 1e12 else size(num_bytes)
