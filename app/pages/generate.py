"""Generate: settings, one card per chunk, and the neighbors that conditioned it."""

import json
from typing import Any

import gradio as gr

from app.errors import shows_errors
from app.format import escape
from app.pages.result import render_result
from app.services.generations import RETRIEVAL_MODES
from app.services.services import Services
from app.ui import PRIVATE, Page, Query, empty, loss, missing, read_query
from jobs.errors import NotFoundError
from retro.config import SamplingConfig
from retro.errors import ConfigError, RetroError

MODES = [("On", "on"), ("Off", "off"), ("Side by side", "both")]
MOST_HISTORY = 12
HISTORY_CHARACTERS = 70

CHANGE_ADDRESS = """(text) => {
  const query = JSON.parse(text || "{}");
  if (query.gen) history.replaceState(null, "", "/generate?gen=" + encodeURIComponent(query.gen));
}"""


def build(services: Services, demo: gr.Blocks) -> None:
    """Add the page to the app."""
    page = Page(services, demo, "Generate", "/generate", tick_s=0.6)
    defaults = SamplingConfig()
    with gr.Column(elem_id="page"), gr.Row(elem_classes="generate-columns"):
        with gr.Column(elem_classes="form-panel", elem_id="settings", min_width=0):
            model = gr.Dropdown(label="Model", elem_id="gen-model")
            corpus = gr.Dropdown(label="Corpus it reads", elem_id="gen-corpus")
            prompt = gr.Textbox(label="Prompt", lines=5, max_lines=14, elem_id="gen-prompt")
            mode = gr.Radio(MODES, value="on", label="Retrieval", elem_id="gen-retrieval")
            with gr.Row():
                neighbors = _number("Neighbors", defaults.num_neighbors, "gen-neighbors")
                length = _number("New tokens", defaults.max_new_tokens, "gen-length")
            with gr.Row():
                temperature = gr.Number(
                    label="Temperature", value=defaults.temperature, step=0.1, min_width=90,
                    elem_id="gen-temperature",
                )  # fmt: skip
                top_p = gr.Number(
                    label="Top-p",
                    value=defaults.top_p,
                    step=0.05,
                    min_width=90,
                    elem_id="gen-top-p",
                )
            with gr.Row():
                top_k = _number("Top-k (0 is all)", defaults.top_k, "gen-top-k")
                seed = _number("Seed", defaults.seed, "gen-seed")
            go = gr.Button("Generate", variant="primary", elem_id="generate")
            stop = gr.Button("Stop", elem_id="stop")
        with gr.Column(min_width=0):
            page.part("output", lambda query: render_output(services, query))
            page.part("history", lambda query: render_history(services, query))
    page.wire()

    form: list[Any] = [
        model, corpus, prompt, mode, neighbors, length, temperature, top_p, top_k, seed
    ]  # fmt: skip

    @shows_errors
    def load(request: gr.Request) -> list[Any]:
        return fill_form(services, dict(request.query_params))

    @shows_errors
    def generate(chosen: str | None, corpus_id: str | None, text: str, *rest: Any) -> str:
        if not chosen:
            raise ConfigError(
                "A model must be chosen, got none. Train one first, and wait for its checkpoint."
            )
        run_id, _, step = chosen.partition(":")
        names = ("num_neighbors", "max_new_tokens", "temperature", "top_p", "top_k", "seed")
        given = zip(names, rest[1:], strict=True)
        generation = services.generations.start(
            run_id=run_id,
            prompt=text or "",
            checkpoint_step=int(step) if step else None,
            corpus_id=corpus_id or None,
            retrieval=str(rest[0]),
            sampling={name: value for name, value in given if value is not None},
        )
        return json.dumps({"gen": generation["id"]})

    @shows_errors
    def stop_writing(query_text: str) -> None:
        if generation_id := read_query(query_text).get("gen"):
            services.generations.stop(generation_id)

    demo.load(load, None, form, queue=False, **PRIVATE)
    go.click(generate, form, page.query, **PRIVATE).success(
        None, page.query, None, js=CHANGE_ADDRESS, **PRIVATE
    )
    stop.click(stop_writing, page.query, None, queue=False, **PRIVATE)


def _number(label: str, value: int, elem_id: str) -> gr.Number:
    return gr.Number(label=label, value=value, precision=0, min_width=90, elem_id=elem_id)


def fill_form(services: Services, query: Query) -> list[Any]:
    """Return values for all fields, from the generation or the run in the address."""
    models = _models(services)
    corpora = [
        (f"{item['name']} ({item['num_chunks']:,} chunks)", item["id"])
        for item in services.corpora.list_corpora()
        if item["num_chunks"]
    ]
    generation: dict[str, Any] | None = None
    if "gen" in query:
        try:
            generation = services.generations.get(query["gen"])
        except NotFoundError:
            generation = None
    chosen = _choose(models, generation, query)
    run_id = chosen.partition(":")[0] if chosen else None
    corpus_id = generation["corpus_id"] if generation else None
    if corpus_id not in [value for _, value in corpora]:
        corpus_id = services.runs.get(run_id)["corpus_id"] if run_id else None
    prompt = generation["prompt"] if generation else _suggest(services, corpus_id)
    settings = generation["settings"] if generation else {}
    mode = settings.get("retrieval", "on")
    names = ("num_neighbors", "max_new_tokens", "temperature", "top_p", "top_k", "seed")
    defaults = SamplingConfig()
    return [
        gr.update(choices=models, value=chosen),
        gr.update(choices=corpora, value=corpus_id),
        prompt,
        mode if mode in RETRIEVAL_MODES else "on",
        *[settings.get(name, getattr(defaults, name)) for name in names],
    ]


def _models(services: Services) -> list[tuple[str, str]]:
    models = []
    for run in services.runs.list_runs()[:50]:
        found = services.runs.get(run["id"])
        for item in reversed(found["checkpoints"]):
            label = f"{run['name']} \N{MIDDLE DOT} step {item['step']:,}"
            if item["val_loss_on"] is not None:
                label += f" \N{MIDDLE DOT} loss {loss(item['val_loss_on'])}"
            models.append((label, f"{run['id']}:{item['step']}"))
    return models


def _choose(
    models: list[tuple[str, str]], generation: dict[str, Any] | None, query: Query
) -> str | None:
    values = [value for _, value in models]
    wanted = []
    if generation:
        wanted.append(f"{generation['run_id']}:{generation['settings'].get('checkpoint_step')}")
        wanted.append(f"{generation['run_id']}:")
    if "run" in query:
        wanted += [f"{query['run']}:{query.get('step', '')}", f"{query['run']}:"]
    for prefix in wanted:
        for value in values:
            if value == prefix or (prefix.endswith(":") and value.startswith(prefix)):
                return value
    return values[0] if values else None


def _suggest(services: Services, corpus_id: str | None) -> str:
    if corpus_id is None:
        return ""
    try:
        return services.corpora.suggest_prompt(corpus_id)
    except (RetroError, NotFoundError):
        return ""


def render_output(services: Services, query: Query) -> str:
    """Return the generation in the address, as it stands."""
    generation_id = query.get("gen")
    if generation_id is None:
        if "run" in query:
            try:
                services.runs.get(query["run"])
            except NotFoundError as error:
                return missing(error)
        if services.runs.newest_with_checkpoint() is None:
            return empty(
                "There is no model to write with yet. A checkpoint appears here as soon as "
                'training has written one. <a href="/">Start</a>'
            )
        return empty("Press <b>Generate</b>. The text appears here chunk by chunk.")
    try:
        generation = services.generations.get(generation_id)
    except NotFoundError as error:
        return missing(error)
    return render_result(
        generation,
        services.generations.partial(generation_id),
        services.generations.waiting_for(generation_id),
    )


def render_history(services: Services, query: Query) -> str:
    """Return links to the newest generations."""
    items = services.generations.list_generations(MOST_HISTORY)
    if not items:
        return ""
    rows = "".join(
        f'<li><a href="/generate?gen={escape(item["id"])}"'
        f"{' aria-current=true' if item['id'] == query.get('gen') else ''}>"
        f"{escape(item['prompt'][:HISTORY_CHARACTERS]) or 'no prompt'}</a> "
        f'<span class="dim">{escape(item["run_name"])} \N{MIDDLE DOT} '
        f"{escape(item['settings'].get('retrieval', 'on'))} \N{MIDDLE DOT} "
        f"{escape(item['state'])}</span></li>"
        for item in items
    )
    return (
        '<section class="panel" style="margin-top:18px"><h2>History</h2>'
        f'<ul class="history">{rows}</ul></section>'
    )
