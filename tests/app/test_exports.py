"""A text as a file: complete, readable, and harmless whatever it holds."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from app.exports import code, export_generation, fence
from retro.errors import ConfigError
from tests.app import written

HOSTILE = "<img src=x onerror=alert(1)> ```\n# not a heading\n[a](http://evil.example) ````` `x`"


def hostile() -> dict[str, Any]:
    neighbor = written.neighbor(1, HOSTILE, HOSTILE, document=HOSTILE)
    steering = {"exclude_chunks": [1], "exclude_documents": [HOSTILE], "given": {}}
    return written.generation(
        id=f"../{HOSTILE}", chunks=[written.chunk(1, HOSTILE, [neighbor])], prompt=HOSTILE,
        run_name=HOSTILE, message=HOSTILE, parent_id=HOSTILE, branch_index=1,
        settings={"steering": steering, "stop": [HOSTILE]},
    )  # fmt: skip


def outside_of_fences(markdown: str) -> str:
    """Return what a reader of Markdown would not take literally."""
    kept, closing = [], None
    for line in markdown.split("\n"):
        marks = re.match(r"`{3,}", line)
        if closing is None and marks:
            closing = marks[0]
        elif closing is not None and line.startswith(closing) and not line.strip("`"):
            closing = None
        elif closing is None:
            kept.append(line)
    assert closing is None, "a fence was not closed"
    return "\n".join(kept)


class Page(HTMLParser):
    """Collects elements, addresses and text of an HTML file."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_json_is_the_generation() -> None:
    generation = hostile()

    export = export_generation(written.view(generation), "json")

    assert json.loads(export.content) == generation
    assert export.media_type == "application/json"


@pytest.mark.parametrize("format", ["json", "markdown", "html"])
def test_the_file_name_is_harmless(format: str) -> None:
    name = export_generation(written.view(hostile()), format).file_name

    assert re.fullmatch(r"text-[A-Za-z0-9_-]+\.(json|md|html)", name)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"format must be one of .*, got 'pdf'"):
        export_generation(written.view(written.generation()), "pdf")


@pytest.mark.parametrize(
    "generation", [written.generation(), written.both(), written.old(), hostile()]
)
@pytest.mark.parametrize("format", ["markdown", "html"])
def test_reports_hold_all_text_and_where_it_comes_from(
    generation: dict[str, Any], format: str
) -> None:
    content = export_generation(written.view(generation), format).content.decode()
    shown = Page(content).text if format == "html" else content

    for side in [generation.get(name, generation) for name in ("on", "off")]:
        for chunk in side["chunks"]:
            assert chunk["text"] in shown
            for neighbor in chunk["neighbors"]:
                assert neighbor["text"] in shown
                assert neighbor["continuation"] in shown
                assert " ".join(neighbor["document"].split()) in " ".join(shown.split())
                assert "characters 512-803" in shown
    assert "seed 3" in shown
    assert "None" not in shown


def test_markdown_shows_text_that_looks_like_markdown_as_it_is() -> None:
    outside = outside_of_fences(
        export_generation(written.view(hostile()), "markdown").content.decode()
    )

    assert "# not a heading" not in re.findall(r"^#.*", outside, re.MULTILINE)
    without_code = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", outside)
    assert "<img" not in without_code
    assert "](" not in without_code
    assert "#### Neighbor 1" in outside


@pytest.mark.parametrize("text", ["", "a", "`", "```", "a ```` b", "`` ` ``", "\n```\n"])
def test_fences_are_longer_than_any_run_of_backticks(text: str) -> None:
    shown = fence(text)

    longest = max(map(len, re.findall("`+", text)), default=0)
    marks = shown.split("text\n", 1)[0]
    assert set(marks) == {"`"}
    assert len(marks) > max(2, longest)
    assert shown == f"{marks}text\n{text}\n{marks}"


@pytest.mark.parametrize("text", ["a", "`", "``` x", "a `` b ` c", "a\n  b", ""])
def test_code_in_a_line_is_not_ended_by_its_text(text: str) -> None:
    shown = code(text)

    marks = re.match("`+", shown)
    assert marks is not None
    inside = shown[len(marks[0]) : len(shown) - len(marks[0])]
    assert shown == f"{marks[0]}{inside}{marks[0]}"
    assert inside.strip() == " ".join(text.split())
    assert len(marks[0]) not in map(len, re.findall("`+", inside))


def test_html_runs_nothing_and_asks_nobody() -> None:
    content = export_generation(written.view(hostile()), "html").content.decode()
    page = Page(content)

    assert not {"script", "img", "link", "iframe", "object", "a", "form"} & set(page.tags)
    assert not [
        name for name in page.attributes if name.startswith("on") or name in ("src", "href")
    ]
    assert "default-src &#x27;none&#x27;" in content
    assert "url(" not in content.split("</style>")[0]
    assert "@import" not in content
    assert "prefers-color-scheme: dark" in content


def test_html_is_colored() -> None:
    content = export_generation(written.view(written.generation()), "html").content.decode()

    assert re.search(r'class="run lcp5">[^<]*landlocked', content)
    assert content.count('class="run') > 8


def test_every_sample_is_in_the_report() -> None:
    generation = written.generation(settings={"num_samples": 2})
    other = written.chunk(1, "quite another text", [])
    generation["samples"] = [
        {"text": "", "seed": 3, "chunks": generation["chunks"]},
        {"text": "", "seed": 4, "chunks": [other]},
    ]

    for format in ("markdown", "html"):
        content = export_generation(written.view(generation), format).content.decode()
        assert "Text 2, retrieval on, seed 4" in content
        assert "quite another text" in content
