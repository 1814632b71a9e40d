"""Text becomes HTML in one place, and is escaped there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.html import NOTHING, Html, escape, html, join

APP = Path(__file__).parents[2] / "app"
MARKUP = re.compile(r"<(?!token>)[a-zA-Z/!]|&(amp|lt|gt|quot|times);|=\"$")
MAKERS = {"html", "Html"}
MAY_TRUST = {"html.py", "docs.py"}
"""Files that declare text to be HTML: the one place, and the page that holds our own styles."""


def test_text_is_escaped_and_html_stays() -> None:
    bold = html("<b>{}</b>", "<i>\"'\0\u202e")

    assert bold == "<b>&lt;i&gt;&quot;&#x27;\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}</b>"
    assert html('<p class="{}">{}{:,.1f}</p>', "a b", bold, 1234.56) == (
        f'<p class="a b">{bold}1,234.6</p>'
    )
    assert html("<p>{}</p>{{}}", None) == "<p>None</p>{}"


def test_what_is_added_is_escaped_too() -> None:
    line = html("<br>")

    assert line + "<" == "<br>&lt;"
    assert "<" + line == "&lt;<br>"
    assert join(["<", line, 3], between="&") == "&lt;&amp;<br>&amp;3"
    assert NOTHING + "<" == "&lt;"
    assert escape(escape("<")) == "&lt;"
    assert html("<i>{x}</i>").format(x="<") == "<i>&lt;</i>"
    assert isinstance(line + "<", Html)


def test_a_template_without_its_values_is_refused() -> None:
    with pytest.raises(StopIteration):
        html("<p>{}{}</p>", "one")


@pytest.mark.parametrize("path", sorted(APP.rglob("*.py")), ids=lambda path: path.stem)
def test_markup_stands_only_in_templates(path: Path) -> None:
    """No other string of the app holds markup, and templates are written in the source."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    templates = {
        id(node.args[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in MAKERS and node.args
    }
    for node in strings(tree):
        if id(node) in templates or path.name == "html.py":
            continue
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        text = "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
        assert not MARKUP.search(text), f"line {node.lineno}: use html() for {text[:60]!r}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in MAKERS and node.args:
            literal = isinstance(node.args[0], ast.Constant)
            assert literal or path.name in MAY_TRUST, f"line {node.lineno}: no literal template"


def strings(tree: ast.AST) -> Iterator[ast.Constant | ast.JoinedStr]:
    """Yield the strings of a file but for docstrings and parts of f-strings."""
    inner = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node and isinstance(part, ast.Constant)
    }
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from [node] if id(node) not in inner | docs else []
