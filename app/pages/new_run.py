"""The form that starts a run; its fields follow the preset and the corpus."""

from typing import Any

import gradio as gr

from app.errors import shows_errors
from app.format import count, escape, parameters
from app.services.runs import DEFAULT_PRESET, MAY_SUCCEED, list_presets
from app.services.services import Services
from app.ui import PRIVATE
from jobs.states import RunState
from retro.errors import ConfigError

BASIC = {
    "max_steps": "Steps",
    "batch_size": "Batch size",
    "sequence_length": "Sequence length",
    "learning_rate": "Learning rate",
}
ADVANCED = {
    "num_neighbors": "Neighbors",
    "warmup_steps": "Warm-up steps",
    "accumulation": "Accumulation",
    "weight_decay": "Weight decay",
    "eval_every": "Measure every",
    "checkpoint_every": "Checkpoint every",
    "keep_checkpoints": "Checkpoints kept",
    "seed": "Seed",
}
FIELDS = {**BASIC, **ADVANCED}


class NewRunForm:
    """The fields, at this place of the page; call ``wire`` when the page has all its parts."""

    def __init__(self) -> None:
        with gr.Column(elem_classes="form-panel", visible=False, elem_id="new-run") as self.box:
            gr.HTML("<h2>New run</h2>", apply_default_css=False, js_on_load=None)
            with gr.Row():
                self.corpus = gr.Dropdown(
                    label="Corpus", elem_id="run-corpus", scale=2, min_width=220
                )
                self.preset = gr.Dropdown(
                    label="Preset", elem_id="run-preset", scale=2, min_width=220
                )
                self.name = gr.Textbox(
                    label="Name", value="", elem_id="run-name", scale=2, min_width=220
                )
            self.about = gr.HTML(elem_id="run-about", apply_default_css=False, js_on_load=None)
            self.numbers = _number_fields(BASIC)
            with gr.Accordion("Advanced settings", open=False, elem_id="run-advanced"):
                self.numbers += _number_fields(ADVANCED)
                with gr.Row():
                    self.after = gr.Dropdown(
                        label="Start after", info="the run that must have succeeded first",
                        elem_id="run-after", scale=3, min_width=220,
                    )  # fmt: skip
                    self.priority = gr.Number(
                        label="Priority", info="a higher one starts first", value=0, precision=0,
                        elem_id="run-priority", min_width=120,
                    )  # fmt: skip
            self.start = gr.Button("Start training", variant="primary", elem_id="start-run")
        self.target = gr.Textbox(visible=False)

    def wire(self, services: Services, demo: gr.Blocks) -> None:
        """Fill the form when the page is loaded or a choice changes, and submit it."""

        @shows_errors
        def load(request: gr.Request) -> list[Any]:
            query = dict(request.query_params)
            usable = [
                (item["name"], item["id"])
                for item in services.corpora.list_corpora()
                if item["state"] in ("ready", "building")
            ]
            ids = [value for _, value in usable]
            chosen = query["corpus"] if query.get("corpus") in ids else (ids[0] if ids else None)
            labels = _preset_labels(services, chosen)
            return [
                gr.update(visible="run" not in query and bool(usable)),
                gr.update(choices=usable, value=chosen),
                gr.update(choices=labels, value=DEFAULT_PRESET),
                gr.update(choices=_runs_to_follow(services), value=""),
                *_filled(services, chosen, DEFAULT_PRESET),
            ]

        @shows_errors
        def fill(corpus_id: str | None, preset_name: str) -> list[Any]:
            return _filled(services, corpus_id, preset_name)

        @shows_errors
        def submit(
            corpus_id: str | None,
            preset_name: str,
            run_name: str,
            after: str | None,
            priority: int | None,
            *values: Any,
        ) -> str:
            if corpus_id is None:
                raise ConfigError(
                    "A corpus must be chosen, got none. Build one on the Corpora page."
                )
            defaults = services.runs.preview(corpus_id, preset_name)["training"]
            training = {
                field: value
                for field, value in zip(FIELDS, values, strict=True)
                if value is not None and value != defaults[field]
            }
            named = run_name.strip() or f"{preset_name}, {count(int(values[0] or 0), 'step')}"
            run = services.runs.create(
                named,
                corpus_id,
                preset=preset_name,
                training=training,
                after=after or None,
                priority=priority or 0,
            )
            return f"/runs?run={run['id']}"

        demo.load(
            load,
            None,
            [self.box, self.corpus, self.preset, self.after, self.about, *self.numbers],
            queue=False,
            **PRIVATE,
        )
        for changed in (self.corpus, self.preset):
            changed.input(
                fill,
                [self.corpus, self.preset],
                [self.about, *self.numbers],
                queue=False,
                **PRIVATE,
            )
        self.start.click(
            submit,
            [self.corpus, self.preset, self.name, self.after, self.priority, *self.numbers],
            self.target,
            **PRIVATE,
        ).then(
            None,
            self.target,
            None,
            js="(address) => { if (address) location.href = address; }",
            **PRIVATE,
        )


def _runs_to_follow(services: Services) -> list[tuple[str, str]]:
    waiting = [
        (f"{run['name']} ({run['state']})", run["id"])
        for run in services.runs.list_runs()
        if run["state"] in MAY_SUCCEED and run["state"] != RunState.SUCCEEDED
    ]
    return [("no other run", ""), *waiting]


def _number_fields(names: dict[str, str]) -> list[gr.Number]:
    rows = list(names.items())
    fields = []
    for first in range(0, len(rows), 4):
        with gr.Row():
            fields += [
                gr.Number(label=label, elem_id=f"run-{field}", min_width=120)
                for field, label in rows[first : first + 4]
            ]
    return fields


def _preset_labels(services: Services, corpus_id: str | None) -> list[tuple[str, str]]:
    labels = []
    for item in list_presets():
        label = item["name"]
        if corpus_id is not None:
            preview = services.runs.preview(corpus_id, item["name"])
            label += f" \N{MIDDLE DOT} {parameters(preview['parameters'])} parameters"
        labels.append((label, item["name"]))
    return labels


def _filled(services: Services, corpus_id: str | None, preset: str) -> list[Any]:
    if corpus_id is None:
        return ["", *[gr.update() for _ in FIELDS]]
    preview = services.runs.preview(corpus_id, preset)
    description = next(item["description"] for item in list_presets() if item["name"] == preset)
    about = (
        f'<p class="dim small">{escape(description)} '
        f"{parameters(preview['parameters'])} parameters, "
        f"{count(preview['model']['dec_depth'], 'layer')} of width "
        f"{preview['model']['dec_dim']}.</p>"
    )
    return [about, *[gr.update(value=preview["training"][field]) for field in FIELDS]]
