"""The form that starts a run; its fields follow the preset and the corpus."""

from typing import Any

import gradio as gr

from app.errors import shows_errors
from app.html import NOTHING, Html, html
from app.pages.estimate import render_estimate
from app.pages.run_base import (
    SCRATCH,
    base_labels,
    base_of,
    choice_of,
    default_name,
    named,
    preset_labels,
)
from app.pages.run_fields import (
    FIELDS,
    advanced_fields,
    basic_fields,
    read_model,
    read_training,
    write_model,
)
from app.services.runs import MAY_SUCCEED
from app.services.services import Services
from app.ui import PRIVATE
from jobs.errors import NotFoundError
from jobs.store.states import RunState
from retro.errors import ConfigError
from retro.model.choices import BASE, DEFAULT_PRESETS, kind_of

QUIET: dict[str, Any] = {**PRIVATE, "queue": False}
GO_THERE = "(address) => { if (address) location.href = address; }"


class NewRunForm:
    """The fields, at this place of the page; call ``wire`` when the page has all its parts."""

    def __init__(self) -> None:
        with gr.Column(elem_classes="form-panel", visible=False, elem_id="new-run") as self.box:
            gr.HTML(html("<h2>New run</h2>"), apply_default_css=False, js_on_load=None)
            with gr.Row():
                self.corpus = gr.Dropdown(
                    label="Corpus", elem_id="run-corpus", scale=2, min_width=220
                )
                self.base = gr.Dropdown(
                    label="Start from", elem_id="run-base", scale=2, min_width=220,
                    allow_custom_value=True,
                )  # fmt: skip
                self.preset = gr.Dropdown(
                    label="Preset", elem_id="run-preset", scale=2, min_width=220
                )
                self.name = gr.Textbox(
                    label="Name", value="", elem_id="run-name", scale=2, min_width=220
                )
            self.fields = basic_fields()
            with gr.Accordion("Advanced settings", open=False, elem_id="run-advanced"):
                self.fields += advanced_fields()
                self.model = gr.Textbox(
                    label="Model settings", lines=2, elem_id="run-model",
                    info="what differs from the preset, one NAME=VALUE per line",
                )  # fmt: skip
                with gr.Row():
                    self.after = gr.Dropdown(
                        label="Start after", info="the run that must have succeeded first",
                        elem_id="run-after", scale=3, min_width=220,
                    )  # fmt: skip
                    self.priority = gr.Number(
                        label="Priority", info="a higher one starts first", value=0, precision=0,
                        elem_id="run-priority", min_width=120,
                    )  # fmt: skip
            self.estimate = gr.HTML(
                elem_id="run-estimate", apply_default_css=False, js_on_load=None
            )
            self.start = gr.Button("Start training", variant="primary", elem_id="start-run")
        self.parent = gr.Textbox(value="", visible=False)
        self.target = gr.Textbox(visible=False)

    def wire(self, services: Services, demo: gr.Blocks) -> None:
        """Fill the form when the page is loaded or a choice changes, and submit it."""
        chosen = [self.corpus, self.base, self.preset, self.model]

        @shows_errors
        def load(request: gr.Request) -> list[Any]:
            return fill_form(services, dict(request.query_params))

        @shows_errors
        def fill(corpus_id: str | None, base: str | None, preset: str, model: str) -> list[Any]:
            if corpus_id is None:
                return [gr.update(), "", *[gr.update() for _ in FIELDS]]
            base = named(base)
            labels = preset_labels(services, corpus_id, base)
            if preset not in [name for _, name in labels]:
                preset = DEFAULT_PRESETS[kind_of(choice_of(base))]
            preview = services.runs.settings.preview(corpus_id, preset, model=choice_of(base))
            values = [getattr(preview.training, name) for name in FIELDS]
            return [
                gr.update(choices=labels, value=preset),
                _estimate(services, corpus_id, base, preset, model, values),
                *values,
            ]

        @shows_errors
        def estimate(
            corpus_id: str | None, base: str | None, preset: str, model: str, *values: Any
        ) -> Html:
            if corpus_id is None:
                return NOTHING
            return _estimate(services, corpus_id, named(base), preset, model, list(values))

        demo.load(
            load,
            None,
            [self.box, self.corpus, self.base, self.preset, self.name, self.model, self.after,
             self.parent, self.estimate, *self.fields],
            **QUIET,
        )  # fmt: skip
        for changed in (self.corpus, self.base, self.preset):
            changed.input(fill, chosen, [self.preset, self.estimate, *self.fields], **QUIET)
        # Of what is typed quickly only the last is estimated.
        gr.on(
            [field.input for field in (*self.fields, self.model)],
            estimate,
            [*chosen, *self.fields],
            self.estimate,
            trigger_mode="always_last",
            **QUIET,
        )
        self._wire_start(services)

    def _wire_start(self, services: Services) -> None:
        @shows_errors
        def submit(
            corpus_id: str | None,
            base: str | None,
            preset: str,
            model: str,
            name: str,
            after: str | None,
            priority: int | None,
            parent: str,
            *values: Any,
        ) -> str:
            if corpus_id is None:
                raise ConfigError(
                    "A corpus must be chosen, got none. Build one on the Corpora page."
                )
            start = choice_of(named(base))
            defaults = services.runs.settings.preview(corpus_id, preset, model=start).training
            training = read_training(values, defaults)
            steps = int(training.get("max_steps", defaults.max_steps))
            run = services.runs.create(
                name.strip() or default_name(named(base), preset, steps),
                corpus_id,
                preset=preset,
                model={**read_model(model), **start},
                training=training,
                after=after or None,
                priority=priority or 0,
                parent_id=parent or None,
            )
            return f"/runs?run={run.id}"

        chosen = [self.corpus, self.base, self.preset, self.model]
        order = [*chosen, self.name, self.after, self.priority, self.parent, *self.fields]
        self.start.click(submit, order, self.target, **PRIVATE).success(
            None, self.target, None, js=GO_THERE, **PRIVATE
        )


def fill_form(services: Services, query: dict[str, str]) -> list[Any]:
    """Return what stands in the form when the page is loaded.

    With ``duplicate`` in the address these are the settings of that run.
    """
    usable = [
        (item.name, item.id)
        for item in services.corpora.list_corpora()
        if item.state in ("ready", "building")
    ]
    ids = [value for _, value in usable]
    corpus_id = query["corpus"] if query.get("corpus") in ids else (ids[0] if ids else None)
    name, parent = "", ""
    base = base_of(services, corpus_id)
    preset = DEFAULT_PRESETS[kind_of(choice_of(base))]
    model: dict[str, Any] = {}
    training: dict[str, Any] = {}
    is_lost = False
    if (parent_id := query.get("duplicate")) is not None:
        try:
            run = services.runs.get(parent_id)
        except NotFoundError:
            is_lost = True
        else:
            settings = run.settings
            corpus_id = run.corpus_id if run.corpus_id in ids else corpus_id
            model, training = dict(settings.get("model") or {}), settings.get("training") or {}
            base = model.pop(BASE, None)
            preset = settings.get("preset") or DEFAULT_PRESETS[kind_of(choice_of(base))]
            parent = run.id
            training = {**training, "max_steps": run.total_steps}
            name = services.runs.next_name(run.name)
    shown = corpus_id is not None and not is_lost and not {"run", "compare"} & query.keys()
    first = [
        gr.update(visible=shown),
        gr.update(choices=usable, value=corpus_id),
        gr.update(choices=base_labels(base), value=base or SCRATCH),
        gr.update(choices=preset_labels(services, corpus_id, base), value=preset),
        name,
        write_model(model),
        gr.update(choices=_runs_to_follow(services), value=""),
        parent,
    ]
    if corpus_id is None or not shown:
        return [*first, "", *[gr.update() for _ in FIELDS]]
    try:
        asked = {**model, **choice_of(base)}
        filled = services.runs.settings.preview(corpus_id, preset, training, asked).training
        training = {}
    except ConfigError:
        # The corpus has changed since: what does not fit it any more is left to the person.
        start = choice_of(base)
        filled = services.runs.settings.preview(corpus_id, preset, model=start).training
    values = [training.get(field, getattr(filled, field)) for field in FIELDS]
    return [
        *first,
        _estimate(services, corpus_id, base, preset, write_model(model), values),
        *values,
    ]


def _estimate(
    services: Services,
    corpus_id: str,
    base: str | None,
    preset: str,
    model: str,
    values: list[Any],
) -> Html:
    return render_estimate(
        services,
        corpus_id,
        preset,
        lambda: {**read_model(model), **choice_of(base)},
        lambda defaults: read_training(values, defaults),
    )


def _runs_to_follow(services: Services) -> list[tuple[str, str]]:
    waiting = [
        (f"{run.name} ({run.state})", run.id)
        for run in services.runs.list_runs()
        if run.state in MAY_SUCCEED and run.state != RunState.SUCCEEDED
    ]
    return [("no other run", ""), *waiting]
