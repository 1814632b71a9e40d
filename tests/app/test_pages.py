"""What the pages show, and that nothing in it is ever more than text."""

import re
from typing import Any

import pytest

from app.format import ago, duration, parameters, size
from app.html import escape
from app.pages import corpora, corpus_documents, generate, jobs, output, runs, start
from app.pages.neighbors import render_neighbor, render_segments
from app.services.services import Services
from app.services.views.documents import Document
from retro.generation.events import ShownNeighbor
from tests.app.real_app import Trained

HOSTILE = "<img src=x onerror=alert(1)>\"'`${7*7}{{x}}\u202e</script>"


def test_escape_leaves_nothing_of_markup() -> None:
    shown = escape(HOSTILE)

    assert not re.search("[<>\"'\u202e]", shown)
    assert "\N{REPLACEMENT CHARACTER}" in shown


def test_an_empty_home_shows_the_doors_and_says_what_to_do(services: Services) -> None:
    assert "reads while it writes" in start.render_steps(services, {})
    assert "No corpus yet" in corpora.render_top(services, {})
    assert "No run yet" in runs.render_runs(services, {})
    assert "Nothing has been started yet" in jobs.render_jobs(services, {})
    assert "There is no model to write with yet" in output.render_output(services, {})


@pytest.mark.parametrize(
    ("render", "query"),
    [
        (corpora.render_top, {"corpus": HOSTILE}),
        (runs.render_runs, {"run": HOSTILE}),
        (output.render_output, {"gen": HOSTILE}),
    ],
)
def test_an_id_that_leads_nowhere_is_said_and_escaped(
    services: Services, render: Any, query: dict[str, str]
) -> None:
    shown = render(services, query)

    assert "There is no" in shown
    assert "<img" not in shown


def test_hostile_names_are_text_on_every_page(services: Services) -> None:
    name = HOSTILE.replace("\u202e", "")
    corpus = services.corpora.create(name)
    entry = {
        "path": HOSTILE,
        "bytes": 1,
        "encoding": "utf-8",
        "note": HOSTILE,
        "num_chunks": None,
        "is_held_out": False,
        "is_changed": False,
    }

    shown = (
        corpora.render_top(services, {})
        + corpora.render_top(services, {"corpus": corpus.id})
        + start.render_steps(services, {})
        + corpus_documents._row(services.corpora.get(corpus.id), Document.model_validate(entry))
    )

    assert shown.count("&lt;img") >= 4
    assert "<img" not in shown
    assert 'onerror=alert(1)>"' not in shown


def test_segments_are_colored_by_run_and_joined() -> None:
    shown = render_segments([["a", 0], [" <b>", 1], ["c", 1], [" d", 9], ["\n", 7], ["e", 5]])

    assert shown == (
        'a <span class="run lcp1">&lt;b&gt;c</span> <span class="run lcp5">d\ne</span>'
    )


def test_a_neighbor_says_where_it_comes_from() -> None:
    neighbor = {
        "rank": 1, "chunk_id": 17, "document": "a/<b>.txt", "start": 512, "end": 803,
        "distance": 0.4123, "text": "near", "continuation": "after", "chunk_index": 2,
        "num_chunks": 38,
    }  # fmt: skip

    shown = render_neighbor(ShownNeighbor.from_dict(neighbor), "abc")

    assert "a/&lt;b&gt;.txt" in shown
    assert "chunk 3 of 38" in shown
    assert "characters 512-803" in shown
    assert "distance 0.412, lower is nearer" in shown
    assert "document=a%2F%3Cb%3E.txt&amp;start=512&amp;end=803" in shown


@pytest.mark.slow
def test_every_page_renders_with_real_rows(trained: Trained) -> None:
    services = trained.services
    pages = [
        start.render_steps(services, {}),
        corpora.render_top(services, {}),
        corpora.render_top(services, {"corpus": trained.corpus_id}),
        corpora.render_documents(services, {"corpus": trained.corpus_id}),
        corpora.render_top(
            services,
            {"corpus": trained.corpus_id, "document": "folder/1.txt", "start": "3", "end": "9"},
        ),
        runs.render_runs(services, {}),
        runs.render_charts(services, {"run": trained.run_id}),
        jobs.render_jobs(services, {}),
        generate.render_history(services, {}),
    ]

    assert all(pages[:8])
    assert "never from the same document" in pages[2]
    assert "validation, retrieval off" in pages[6]
    assert "Trained 4 steps" in pages[7]
    form = generate.fill_form(services, {"run": trained.run_id, "step": "2"})
    assert form[0]["value"] == f"{trained.run_id}:2"
    assert form[1]["value"] == trained.corpus_id
    assert form[2]


@pytest.mark.parametrize("place", ["x", "-1", "9" * 30, "\u0663"])
def test_a_wrong_place_in_a_document_is_refused(services: Services, place: str) -> None:
    corpus = services.corpora.create("notes")

    shown = corpora.render_top(
        services, {"corpus": corpus.id, "document": "../../x", "start": place}
    )

    assert "empty" in shown


def test_numbers_as_people_read_them() -> None:
    assert size(999) == "999 bytes"
    assert size(74_000_000_000) == "74 GB"
    assert parameters(3_020_000) == "3.02 M"
    assert duration(200) == "3 min 20 s"
    assert ago(100.0, 400.0) == "5 min ago"
