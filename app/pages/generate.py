"""Generate: settings, one card per chunk, and the neighbors that conditioned it."""

import json
from typing import Any

import gradio as gr

from app.errors import shows_errors
from app.pages.generate_form import WriteForm, fill_form, preset_of, read_form
from app.pages.history import render_history
from app.pages.output import Output, render_controls
from app.services.services import Services
from app.ui import PRIVATE, Page, Query, read_query

KEPT = ("gen", "text", "chunk", "run", "step")
"""Parameters of the page's address."""
READ_WANTED = "() => window.retro.wanted"
CHANGE_ADDRESS = "(text) => window.retro.showAddress(text)"


def build(services: Services, demo: gr.Blocks) -> None:
    """Add the page to the app."""
    page = Page(services, demo, "Generate", "/generate", tick_s=0.6)
    shown_output = Output(services)
    with gr.Column(elem_id="page"), gr.Row(elem_classes="generate-columns"):
        with gr.Column(elem_classes="form-panel", elem_id="settings", min_width=0):
            form = WriteForm()
            go = gr.Button("Generate", variant="primary", elem_id="generate")
            controls = page.part("controls", lambda query: render_controls(services, query))
        with gr.Column(min_width=0):
            output = page.part("output", shown_output.render)
            page.part("history", lambda query: render_history(services, query))
    # The script presses it to show another text without loading the page again.
    follow_link = gr.Button("Show", visible="hidden", elem_id="gen-follow")
    page.wire()
    form.wire(services)

    @shows_errors
    def load(request: gr.Request) -> list[Any]:
        values = fill_form(services, dict(request.query_params))
        numbers = values[4 + 3 : 4 + 3 + len(form.sampling)]
        return [*values, preset_of(*numbers)]

    def show(query: Query) -> list[str]:
        return [json.dumps(query), render_controls(services, query), shown_output.render(query)]

    @shows_errors
    def generate(*values: Any) -> list[str]:
        generation = services.generations.start(**read_form(values))
        return show({"gen": generation["id"]})

    @shows_errors
    def follow(text: str) -> list[str]:
        return show({name: value for name, value in read_query(text).items() if name in KEPT})

    shown = [page.query, controls, output]
    quiet: dict[str, Any] = {**PRIVATE, "queue": False}
    demo.load(load, None, [*form.fields, form.preset], **quiet)
    go.click(generate, form.fields, shown, **PRIVATE).success(
        None, page.query, None, js=CHANGE_ADDRESS, **PRIVATE
    )
    # Who goes back at once presses it while the answer before is still being shown.
    follow_link.click(
        follow, page.query, shown, js=READ_WANTED, trigger_mode="always_last", **quiet
    )
