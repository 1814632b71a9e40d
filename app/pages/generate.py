"""Generate: settings, one card per chunk, and the neighbors that conditioned it."""

from typing import Any

import gradio as gr

from app.errors import shows_errors
from app.live_page import Page
from app.pages.generate_form import WriteForm, fill_form, preset_of, read_form, render_about
from app.pages.history import render_history
from app.pages.output import Output, render_controls
from app.services.expectations import starts_trained
from app.services.services import Services
from app.ui import PRIVATE

GO_THERE = "(id) => window.retro.go(`/generate?gen=${id}`)"


def build(services: Services, demo: gr.Blocks) -> None:
    """Add the page to the app."""
    page = Page(services, demo, "Generate", "/generate", tick_s=0.6)
    output = Output(services)
    with gr.Column(elem_id="page"), gr.Row(elem_classes="generate-columns"):
        with gr.Column(elem_classes="form-panel", elem_id="settings", min_width=0):
            form = WriteForm()
            go = gr.Button("Generate", variant="primary", elem_id="generate")
            page.part("controls", lambda query: render_controls(services, query))
        with gr.Column(min_width=0):
            page.part("output", output.render)
            page.part("history", lambda query: render_history(services, query))
    started = gr.Textbox(visible=False)
    page.wire()
    form.wire(services)

    @shows_errors
    def load(request: gr.Request) -> list[Any]:
        values = fill_form(services, dict(request.query_params))
        chosen = values[0]["value"]
        numbers = values[4 + 3 : 4 + 3 + len(form.sampling)]
        pretrained = starts_trained(services, chosen or "")
        preset = preset_of(numbers, pretrained=pretrained)
        return [*values, preset, render_about(services, chosen)]

    @shows_errors
    def generate(*values: Any) -> str:
        generation = services.generations.start(**read_form(values))
        return generation.id

    demo.load(load, None, [*form.fields, form.preset, form.about], queue=False, **PRIVATE)
    go.click(generate, form.fields, started, **PRIVATE).success(
        None, started, None, js=GO_THERE, **PRIVATE
    )
