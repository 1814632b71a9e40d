"""What an open page is sent: what it does not show yet, and nothing of an address it left."""

import json
import re
from typing import Any

import gradio as gr
import pytest

from app.html import Html
from app.live_page import Look, Part, View, answer, read_look, read_query
from app.ui import Query

SKIPPED: dict[str, Any] = gr.skip()


def parts_of(texts: dict[str, str]) -> list[Part]:
    """Parts that show what stands in a dictionary at that moment."""

    def part(name: str) -> Part:
        return Part(gr.HTML(elem_id=name, render=False), lambda _query: Html(texts[name]))

    return [part(name) for name in texts]


def stamps_of(parts: list[Part], shown: list[Any]) -> dict[str, str]:
    """What a page that shows this would tell."""
    found = {
        part.name: re.search(r'data-seen="(\w+)"', html) if isinstance(html, str) else None
        for part, html in zip(parts, shown, strict=True)
    }
    return {name: match[1] for name, match in found.items() if match}


def test_only_what_a_page_does_not_show_is_sent() -> None:
    texts = {"head": "<h1>Runs</h1>", "list": "<p>none</p>", "note": ""}
    parts, view = parts_of(texts), View()
    first = answer(parts, Look(), view)
    assert "<h1>Runs</h1>" in first[0]
    assert first[2] == SKIPPED
    stamps = stamps_of(parts, first)
    assert set(stamps) == {"head", "list"}

    assert answer(parts, Look(stamps=stamps), view) == [SKIPPED] * 3
    texts["list"], texts["note"] = "<p>one</p>", "new"
    second = answer(parts, Look(stamps=stamps), view)

    assert second[0] == SKIPPED
    assert second[1].endswith("<p>one</p>")
    assert second[2].endswith("new")
    texts["note"] = ""
    assert answer(parts, Look(stamps=stamps_of(parts, ["", *second[1:]])), view)[2] == ""


def test_what_a_late_answer_undid_is_sent_again() -> None:
    texts = {"stop": "<button disabled>Stop</button>"}
    parts, view = parts_of(texts), View()
    early = answer(parts, Look(), view)
    texts["stop"] = "<button>Stop</button>"
    late = answer(parts, Look(), view)
    # The answers came the other way round: the page shows the early one.
    shown = stamps_of(parts, early)

    again = answer(parts, Look(stamps=shown), view)

    assert again == late


def test_an_address_that_was_left_is_not_answered() -> None:
    asked: list[Query] = []
    view = View()

    def render(query: Query) -> Html:
        asked.append(query)
        if query == {"gen": "a"} and len(asked) > 1:
            # While this is rendered, the page goes on to another address.
            view.turn = 5
        return Html(str(dict(query)))

    parts = [Part(gr.HTML(elem_id="output", render=False), render)]
    assert answer(parts, Look(turn=1, query={"gen": "a"}), view) != [SKIPPED]

    assert answer(parts, Look(turn=1, query={"gen": "a"}), view) == [SKIPPED]
    assert answer(parts, Look(turn=4, query={"gen": "b"}), view) == [SKIPPED]
    assert len(asked) == 2
    assert "'gen': 'c'" in answer(parts, Look(turn=5, query={"gen": "c"}), view)[0]
    assert "'gen': 'd'" in answer(parts, Look(turn=6, query={"gen": "d"}), view)[0]


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "null", "7", "{", '{"turn": 0}', '{"turn": 0, "query": [], "stamps": {}}',
        '{"turn": "x", "query": {}, "stamps": {}}', '{"turn": Infinity, "query": {}, "stamps": {}}',
        '{"turn": null, "query": {}, "stamps": {}}', "[" * 100_000,
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_read_changes_nothing(text: str) -> None:
    assert read_look(text) is None
    assert answer(parts_of({"head": "x"}), read_look(text), View()) == [SKIPPED]


def test_a_question_is_read() -> None:
    text = json.dumps({"turn": 3, "query": {"run": "r"}, "stamps": {"head": "0f"}})

    assert read_look(text) == Look(turn=3, query={"run": "r"}, stamps={"head": "0f"})


def test_an_address_is_read() -> None:
    assert read_query('{"run": "r", "step": 3}') == {"run": "r", "step": "3"}
    for text in ("", "[]", "7", "[" * 100_000):
        assert read_query(text) == {}
