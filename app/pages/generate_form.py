"""The settings of a text: fields, presets, and how they are filled."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.format import count, parameters
from app.html import Html, html
from app.services.expectations import about_model, starts_trained
from app.services.pretrained import is_pretrained, pretrained_models
from app.services.services import Services
from app.services.views.generations import Generation
from app.ui import PRIVATE, Query, loss
from jobs.errors import NotFoundError
from retro.config.sampling import SamplingConfig, defaults_of
from retro.errors import ConfigError, RetroError

MODES = [("On", "on"), ("Off", "off"), ("Side by side", "both")]
PRESET_FIELDS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
NUMBERS = ("num_neighbors", "max_new_tokens", "seed", *PRESET_FIELDS, "num_samples")
"""Settings with a number field, in the order of ``WriteForm.fields``."""
MOST_RUNS = 50
"""Runs whose checkpoints are offered."""
DEFAULTS = SamplingConfig()
BALANCED = "Balanced"
"""The defaults of each kind of model."""
PRESETS: dict[str, dict[str, float]] = {
    "Precise": {"temperature": 0.2, "top_p": 0.9, "top_k": 20},
    BALANCED: {},
    "Creative": {"temperature": 1.1, "top_p": 1.0, "min_p": 0.05},
}
PRESETS_OF_PRETRAINED = {"Precise": {"repetition_penalty": 1.15}}
"""Where a small pretrained model needs something else: it repeats itself at low temperature."""
OFF = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Values that leave the model's distribution as it is."""


class WriteForm:
    """The fields, at this place of the page; call ``wire`` when the page has all its parts."""

    def __init__(self) -> None:
        self.model = gr.Dropdown(
            label="Model, also a Hub name or folder", elem_id="gen-model", allow_custom_value=True
        )
        self.about = gr.HTML(elem_id="gen-about", apply_default_css=False, js_on_load=None)
        self.corpus = gr.Dropdown(label="Corpus it reads", elem_id="gen-corpus")
        self.prompt = gr.Textbox(label="Prompt", lines=5, max_lines=14, elem_id="gen-prompt")
        self.mode = gr.Radio(
            MODES, value="on", label="Retrieval", elem_id="gen-retrieval", elem_classes="segmented"
        )
        self.preset = gr.Radio(
            list(PRESETS),
            value=BALANCED,
            label="Sampling",
            elem_id="gen-preset",
            elem_classes="segmented",
        )
        numbers: dict[str, gr.Number] = {}
        with gr.Row():
            numbers["num_neighbors"] = _whole("Neighbors", "num_neighbors")
            numbers["max_new_tokens"] = _whole("New tokens", "max_new_tokens")
        with gr.Row():
            numbers["temperature"] = _decimal("Temperature", "temperature", 0.1)
            numbers["seed"] = _whole("Seed", "seed")
        with gr.Accordion("More settings", open=False, elem_id="gen-more"):
            with gr.Row():
                numbers["top_p"] = _decimal("Top-p", "top_p", 0.05)
                numbers["top_k"] = _whole("Top-k (0 is all)", "top_k")
            with gr.Row():
                numbers["min_p"] = _decimal("Min-p", "min_p", 0.01)
                numbers["repetition_penalty"] = _decimal(
                    "Repetition penalty", "repetition_penalty", 0.05
                )
            numbers["num_samples"] = _whole("Texts", "num_samples")
            self.stop = gr.Textbox(
                label=r"Stop strings, one per line (\n is a line break)",
                lines=2,
                max_lines=6,
                elem_id="gen-stop-strings",
            )
            self.fast = gr.Checkbox(
                label="Fast: weights of 8 bits (pretrained models on a CPU; the text may differ)",
                elem_id="gen-fast",
            )
        self.numbers = [numbers[name] for name in NUMBERS]
        self.sampling = [numbers[name] for name in PRESET_FIELDS]

    @property
    def fields(self) -> list[Any]:
        """All fields, in the order of ``fill_form`` and ``read_form``."""
        return [
            self.model, self.corpus, self.prompt, self.mode, *self.numbers, self.stop, self.fast,
        ]  # fmt: skip

    def wire(self, services: Services) -> None:
        """Let presets fill the numbers, and a model choose its corpus."""
        quiet: dict[str, Any] = {**PRIVATE, "queue": False}

        def follow(chosen: str | None, preset: str | None) -> list[Any]:
            corpus_id = _corpus_of(services, (chosen or "").partition(":")[0])
            return [
                gr.skip() if corpus_id is None else corpus_id,
                render_about(services, chosen),
                preset or BALANCED,
                *values_of(preset, chosen),
            ]

        def values_of(preset: str | None, chosen: str | None) -> list[float]:
            return preset_values(preset, pretrained=starts_trained(services, chosen or ""))

        def name_of(chosen: str | None, *values: float | None) -> str | None:
            return preset_of(values, pretrained=starts_trained(services, chosen or ""))

        self.preset.input(values_of, [self.preset, self.model], self.sampling, **quiet)
        for number in self.sampling:
            number.input(name_of, [self.model, *self.sampling], self.preset, **quiet)
        self.model.input(
            follow,
            [self.model, self.preset],
            [self.corpus, self.about, self.preset, *self.sampling],
            **quiet,
        )


def _whole(label: str, name: str) -> gr.Number:
    return gr.Number(
        label=label,
        value=getattr(DEFAULTS, name),
        precision=0,
        min_width=90,
        elem_id=f"gen-{name.replace('_', '-')}",
    )


def _decimal(label: str, name: str, step: float) -> gr.Number:
    return gr.Number(
        label=label,
        value=getattr(DEFAULTS, name),
        step=step,
        min_width=90,
        elem_id=f"gen-{name.replace('_', '-')}",
    )


def render_about(services: Services, chosen: str | None) -> Html:
    """Return how the chosen model reads neighbors, and what to expect of it."""
    return html('<p class="dim small">{}</p>', about_model(services, chosen or ""))


def preset_values(preset: str | None, *, pretrained: bool) -> list[float]:
    """Return the values of the sampling fields of a preset, for a kind of model."""
    name = preset if preset in PRESETS else BALANCED
    base = defaults_of(pretrained)
    own = PRESETS_OF_PRETRAINED.get(name, {}) if pretrained else {}
    values = {**base, **OFF, **PRESETS[name], **own} if name != BALANCED else base
    return [values[name] for name in PRESET_FIELDS]


def preset_of(values: Sequence[float | None], *, pretrained: bool) -> str | None:
    """Return the preset that has these values of the sampling fields, None if there is none."""
    fitting = (
        name for name in PRESETS if preset_values(name, pretrained=pretrained) == list(values)
    )
    return next(fitting, None)


def read_form(values: tuple[Any, ...]) -> dict[str, Any]:
    """Return the arguments for ``services.generations.start`` from the values of all fields.

    Raises:
        ConfigError: No model was chosen.
    """
    chosen, corpus_id, prompt, mode, *rest = values
    if not chosen:
        raise ConfigError(
            "A model must be chosen, got none. Train one first, and wait for its checkpoint."
        )
    run_id, _, step = str(chosen).strip().partition(":")
    *numbers, stops, fast = rest
    sampling = {
        name: value for name, value in zip(NUMBERS, numbers, strict=True) if value is not None
    }
    return {
        "run_id": run_id,
        "prompt": prompt or "",
        "checkpoint_step": int(step) if step else None,
        "corpus_id": corpus_id or None,
        "retrieval": str(mode),
        "sampling": {**sampling, "stop": read_stops(stops or ""), "fast": bool(fast)},
    }


ESCAPES = {"\\": "\\\\", "\n": "\\n", "\t": "\\t"}


def read_stops(text: str) -> list[str]:
    """Return stop strings from lines, in which line breaks and tabs are written as escapes."""
    return [_unescape(line) for line in text.splitlines() if line]


def _unescape(line: str) -> str:
    plain = {"\\": "\\", "n": "\n", "t": "\t"}
    parts, characters = [], iter(line)
    for character in characters:
        if character == "\\":
            following = next(characters, "")
            parts.append(plain.get(following, f"\\{following}"))
        else:
            parts.append(character)
    return "".join(parts)


def show_stops(stops: Any) -> str:
    """Return stop strings as lines."""
    lines = ("".join(ESCAPES.get(character, character) for character in stop) for stop in stops)
    return "\n".join(lines)


def fill_form(services: Services, query: Query) -> list[Any]:
    """Return values for all fields, from the generation or the run in the address."""
    models = _models(services)
    corpora = [
        (f"{item.name} ({count(item.num_chunks, 'chunk')})", item.id)
        for item in services.corpora.list_corpora()
        if item.num_chunks
    ]
    generation: Generation | None = None
    if "gen" in query:
        try:
            generation = services.generations.get(query["gen"])
        except NotFoundError:
            generation = None
    chosen = _choose(models, generation, query)
    corpus_id = generation.corpus_id if generation else None
    known = [value for _, value in corpora]
    if corpus_id not in known:
        corpus_id = query.get("corpus")
    if corpus_id not in known:
        corpus_id = _corpus_of(services, chosen.partition(":")[0]) if chosen else None
    if corpus_id is None and known:
        corpus_id = known[0]
    prompt = generation.prompt if generation else _suggest(services, corpus_id)
    settings = generation.settings if generation else {}
    own = defaults_of(starts_trained(services, chosen or ""))
    mode = settings.get("retrieval", "on")
    return [
        gr.update(choices=models, value=chosen),
        gr.update(choices=corpora, value=corpus_id),
        prompt,
        mode if mode in dict(MODES).values() else "on",
        *[settings.get(name, own[name]) for name in NUMBERS],
        show_stops(settings.get("stop") or ()),
        bool(settings.get("fast")),
    ]


def _corpus_of(services: Services, run_id: str) -> str | None:
    try:
        corpus_id = services.runs.get(run_id).corpus_id
        return services.corpora.get(corpus_id).id if corpus_id else None
    except NotFoundError:
        return None


def _models(services: Services) -> list[tuple[str, str]]:
    models = []
    for run in services.runs.list_writable()[:MOST_RUNS]:
        for item in reversed(run.checkpoints):
            label = f"{run.name} \N{MIDDLE DOT} step {item.step:,}"
            if item.val_loss_on is not None:
                label += f" \N{MIDDLE DOT} loss {loss(item.val_loss_on)}"
            models.append((label, f"{run.id}:{item.step}"))
    for known in pretrained_models():
        words = f"pretrained, {parameters(known.parameters)} parameters, {known.licence}"
        models.append((f"{known.title} \N{MIDDLE DOT} {words}", f"{known.name}:"))
    return models


def _choose(
    models: list[tuple[str, str]], generation: Generation | None, query: Query
) -> str | None:
    values = [value for _, value in models]
    wanted = []
    if generation:
        wanted.append(f"{generation.run_id}:{generation.settings.get('checkpoint_step')}")
        wanted.append(f"{generation.run_id}:")
    if "run" in query:
        wanted += [f"{query['run']}:{query.get('step', '')}", f"{query['run']}:"]
    for prefix in wanted:
        for value in values:
            if value == prefix or (prefix.endswith(":") and value.startswith(prefix)):
                return value
    if is_pretrained(query.get("run", "")):
        return f"{query['run']}:"
    return values[0] if values else None


def _suggest(services: Services, corpus_id: str | None) -> str:
    if corpus_id is None:
        return ""
    try:
        return services.corpora.suggest_prompt(corpus_id)
    except (RetroError, NotFoundError):
        return ""
