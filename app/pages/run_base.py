"""What a new run starts from, as the form offers it: a pretrained model, or nothing."""

from typing import Any

from app.format import count, parameters
from app.services.pretrained import pretrained_models
from app.services.run_settings import list_presets
from app.services.services import Services
from retro.model.choices import BASE

SCRATCH = "scratch"
DOT = " \N{MIDDLE DOT} "


def named(base: str | None) -> str | None:
    """Return the pretrained model that the field names; None for a run from scratch."""
    cleaned = (base or "").strip()
    return None if cleaned in ("", SCRATCH) else cleaned


def choice_of(base: str | None) -> dict[str, Any]:
    """Return the settings of a run's model that name its base."""
    return {} if base is None else {BASE: base}


def base_of(services: Services, corpus_id: str | None) -> str | None:
    """Return the model that a corpus was cut for; None where it has a tokenizer of its own."""
    if corpus_id is None:
        return None
    return services.corpora.get(corpus_id).settings.get("tokenizer")


def default_name(base: str | None, preset: str, steps: int) -> str:
    """Return the name of a run that nobody gave one."""
    return f"{f'{base} ' if base else ''}{preset}, {count(steps, 'step')}"


def base_labels(chosen: str | None) -> list[tuple[str, str]]:
    """Return what there is to start from, with words; any other model can be typed."""
    labels = [
        (f"{item.name}{DOT}{parameters(item.parameters)} parameters, pretrained", item.name)
        for item in pretrained_models()
    ]
    if chosen is not None and chosen not in [name for _, name in labels]:
        labels.append((chosen, chosen))
    return [*labels, ("RETRO, from scratch", SCRATCH)]


def preset_labels(
    services: Services, corpus_id: str | None, base: str | None
) -> list[tuple[str, str]]:
    """Return the presets, or the modes of a pretrained model, with words."""
    labels = []
    for item in list_presets(base):
        label = item.name
        if base is not None:
            words = item.description.split(";")[0].split(".")[0]
            label += f"{DOT}{words[0].lower()}{words[1:]}"
        elif corpus_id is not None:
            preview = services.runs.settings.preview(corpus_id, item.name)
            label += f"{DOT}{parameters(preview.parameters)} parameters"
        labels.append((label, item.name))
    return labels
