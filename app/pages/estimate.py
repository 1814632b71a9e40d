"""What a new run will need, as the form shows it."""

from collections.abc import Callable
from typing import Any

from app.format import count, duration, escape, parameters, size
from app.services.run_settings import list_presets
from app.services.services import Services
from app.services.views.runs import Estimate
from app.ui import facts
from jobs.errors import JobError
from retro.config.training import TrainingConfig
from retro.errors import RetroError

YEAR_S = 365 * 86_400


def render_estimate(
    services: Services,
    corpus_id: str,
    preset: str,
    model: Callable[[], dict[str, Any]],
    training: Callable[[TrainingConfig], dict[str, Any]],
) -> str:
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
        defaults = services.runs.settings.preview(corpus_id, preset).training
        chosen = training(defaults)
        preview = services.runs.settings.preview(corpus_id, preset, chosen, sizes)
        answer = services.estimates.estimate(corpus_id, preset=preset, model=sizes, training=chosen)
        table = _presets(services, corpus_id, preset)
    except (RetroError, JobError) as error:
        return f'<div class="estimate bad-text" role="status">{escape(error)}</div>'
    layers = count(preview.model.dec_depth, "layer")
    described = next((item.description for item in list_presets() if item.name == preset), "")
    checkpointing = "without" if preview.training.gradient_checkpointing else "with"
    other = answer.memory if checkpointing == "without" else answer.memory_checkpointed
    values = {
        "Parameters": f'<span id="estimate-parameters">{parameters(answer.parameters)}</span>',
        "Memory": f'<span id="estimate-memory">{_gigabytes(answer.needed_bytes)}</span>'
        f'<div class="dim small">{_gigabytes(other.total)} {checkpointing} gradient '
        "checkpointing</div>",
        "Time": f'<span id="estimate-time">about {_time(answer.seconds)}</span>'
        f'<div class="dim small">{answer.tokens_per_second:,.0f} tokens per second</div>',
        "Checkpoints": f"{size(answer.checkpoint_bytes)} on the disk",
    }
    return (
        f'<div class="estimate">{facts(values)}{_warning(answer)}'
        f'<p class="dim small">{escape(described)} {layers} of width '
        f"{preview.model.dec_dim}. {_parts(answer, checkpointing)} The time is estimated "
        f"{escape(answer.basis.text)}.</p>{table}</div>"
    )


def _parts(answer: Estimate, checkpointing: str) -> str:
    memory = answer.memory_checkpointed if checkpointing == "without" else answer.memory
    return (
        f"Memory: weights {size(memory.weights)}, gradients {size(memory.gradients)}, "
        f"AdamW {size(memory.moments)}, inner states {size(memory.activations)}, "
        f"program {size(memory.program)}."
    )


def _warning(answer: Estimate) -> str:
    if answer.fits is not False:
        return ""
    return (
        '<p class="bad-text" id="estimate-warning">This is more than this device has '
        f"({_gigabytes(answer.device.memory_bytes or 0)}). Choose a smaller preset or batch, or "
        "gradient checkpointing.</p>"
    )


def _presets(services: Services, corpus_id: str, chosen: str) -> str:
    rows = ""
    for item, estimate in services.estimates.presets(corpus_id):
        mark = ' <span class="dim small">chosen</span>' if item.name == chosen else ""
        more = "" if estimate.fits is not False else '<div class="bad-text small">too much</div>'
        rows += (
            f"<tr><td>{escape(item.name)}{mark}<div class='dim small'>"
            f"{escape(item.description)}</div></td>"
            f'<td class="num">{parameters(estimate.parameters)}</td>'
            f'<td class="num">{_gigabytes(estimate.needed_bytes)}{more}</td>'
            f'<td class="num">{_gigabytes(estimate.memory_checkpointed.total)}</td>'
            f'<td class="num">{_time(estimate.seconds)}</td></tr>'
        )
    return (
        '<details id="preset-table"><summary>All presets on this corpus</summary>'
        '<div class="scroll" tabindex="0"><table class="list"><thead><tr><th>Preset</th>'
        "<th>Parameters</th><th>Memory</th><th>With checkpointing</th><th>Time</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _time(seconds: float) -> str:
    years = seconds / YEAR_S
    return f"{years:,.0f} years" if years > 2 else duration(seconds)


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.3g} GB" if num_bytes < 1e12 else size(num_bytes)
