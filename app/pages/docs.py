"""The page at ``/api/v1/docs``: the routes, without files from other hosts."""

import json
import shlex
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse

from app.html import NOTHING, Html, html, join
from app.ui import STATIC_DIR

Json = dict[str, Any]
Rows = list[tuple[str, str, str]]

JSON_TYPE = "application/json"
LIMITS = {"minimum": "at least", "maximum": "at most"}
FRAME = html("""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>API - RETRO</title>
<script src="/assets-retro/theme.js"></script><style>{css}
body{{margin:0;color:var(--r-ink);font:15px/1.55 var(--r-sans)}}
#page{{max-width:900px;box-sizing:border-box}}
pre{{overflow:auto;font:12.5px/1.5 var(--r-mono);white-space:pre-wrap;overflow-wrap:anywhere}}
.route{{border-top:1px solid var(--r-line);padding:7px 0}}.route summary code{{color:var(--r-ink);
overflow-wrap:anywhere}}.route p{{margin:6px 0}}h4{{margin:12px 0 4px;font-size:13px}}
.route table{{display:block;overflow-x:auto;border-collapse:collapse;font-size:13.5px}}
.route th{{white-space:nowrap}}
.route th,.route td{{text-align:left;vertical-align:top;padding:2px 12px 2px 0;font-weight:400}}
</style></head>
<body><header class="topbar"><a class="brand" href="/">RETRO</a><span class="dim">REST API</span>
</header><main id="page"><h1>REST API</h1>
<p class="dim">JSON in and out. Errors are <code>{{"detail": "..."}}</code>. With an access token
set, send <code>Authorization: Bearer &lt;token&gt;</code>; in a browser, <a href="/logout">log
out</a> ends the session. The same as a machine reads it:
<a href="/api/v1/openapi.json">openapi.json</a>.</p>{routes}</main></body></html>""")


def make_router(app: FastAPI) -> APIRouter:
    """Return the route of the page."""
    router = APIRouter()

    @router.get("/api/v1/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        css = (STATIC_DIR / "styles.css").read_text(encoding="utf-8")
        return HTMLResponse(FRAME.format(css=Html(css), routes=render_routes(app.openapi())))

    return router


def render_routes(schema: Json) -> Html:
    """Return all routes, grouped, with their parameters, bodies, answers and errors."""
    groups: dict[str, list[str]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            tag = operation.get("tags", ["other"])[0]
            groups.setdefault(tag, []).append(_route(schema, path, method, operation))
    about = {tag["name"]: tag["description"] for tag in schema.get("tags", [])}
    return join(
        html(
            '<section class="panel" id="{}"><h2>{}</h2><p class="dim">{}</p>{}</section>',
            tag,
            tag,
            about.get(tag, ""),
            join(items),
        )
        for tag, items in groups.items()
    )


def _route(schema: Json, path: str, method: str, operation: Json) -> Html:
    first, *more = operation["description"].split("\n\n")
    words = join(html("<p>{}</p>", text) for text in more)
    good, errors = _answers(operation)
    return html(
        '<details class="route" id="{}"><summary><code><b>{}</b> {}</code> <span>{}</span>'
        "</summary>{}{}{}<h4>Try with curl</h4><pre>{}</pre>{}{}</details>",
        operation["operationId"],
        method.upper(),
        path,
        first,
        words,
        _table("Parameters", _parameters(schema, operation)),
        _body(schema, operation),
        curl_line(path, method, operation),
        good,
        _table("Errors", errors),
    )


def curl_line(path: str, method: str, operation: Json) -> str:
    """Return a command that calls the route."""
    words = ["curl"] if method == "get" else ["curl", "-X", method.upper()]
    words += ['-H "Authorization: Bearer $RETRO_TOKEN"']
    content = operation.get("requestBody", {}).get("content", {})
    if JSON_TYPE in content:
        body = json.dumps(content[JSON_TYPE].get("example", {}), ensure_ascii=False)
        words += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(body)}"]
    elif content:
        words += ["-F files=@notes/a.txt", "-F paths=notes/a.txt"]
    address = f"127.0.0.1:7860{path}".replace("{", "").replace("}", "")
    return " ".join([*words, shlex.quote(address)])


def _parameters(schema: Json, operation: Json) -> Rows:
    return [
        (
            item["name"],
            _type(schema, item["schema"]),
            f"{item.get('description', '')} {_limits(item['schema'])}".strip(),
        )
        for item in operation.get("parameters", [])
    ]


def _body(schema: Json, operation: Json) -> str:
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        body = _resolve(schema, content["schema"])
        needed = body.get("required", [])
        rows = [
            (
                name,
                _type(schema, field),
                ("" if name in needed else "Optional. ") + field.get("description", ""),
            )
            for name, field in body.get("properties", {}).items()
        ]
        about = " ".join(body.get("description", "").split())
        note = html('<p class="dim">{}</p>', about) if about else NOTHING
        return note + _table(f"Body: {kind}", rows)
    return NOTHING


def _answers(operation: Json) -> tuple[str, Rows]:
    shown, errors = NOTHING, []
    for status, answer in operation["responses"].items():
        if not status.startswith("2"):
            errors.append((status, "", answer["description"]))
            continue
        shown += html("<h4>Answer {}</h4><p>{}</p>", status, answer["description"])
        example = answer.get("content", {}).get(JSON_TYPE, {}).get("example")
        if example is not None:
            text = json.dumps(example, indent=2, ensure_ascii=False)
            shown += html("<pre>{}</pre>", text)
    return shown, errors


def _table(title: str, rows: Rows) -> Html:
    if not rows:
        return NOTHING
    cells = join(
        html(
            "<tr><th scope=row><code>{}</code></th>{}<td>{}</td></tr>",
            name,
            html("<td>{}</td>", kind) if kind else "",
            text,
        )
        for name, kind, text in rows
    )
    return html("<h4>{}</h4><table>{}</table>", title, cells)


def _limits(value: Json) -> str:
    parts = [f"{word} {value[name]}" for name, word in LIMITS.items() if name in value]
    if value.get("default") is not None:
        parts.append(f"{value['default']} if left out")
    return f"({', '.join(parts)})" if parts else ""


def _resolve(schema: Json, value: Json) -> Json:
    for option in (value, *value.get("anyOf", [])):
        if "$ref" in option:
            name = option["$ref"].rsplit("/", 1)[-1]
            found: Json = schema["components"]["schemas"][name]
            return found
    return value


def _type(schema: Json, value: Json) -> str:
    options = value.get("anyOf", [value])
    names = [str(_resolve(schema, item).get("type", "any")) for item in options]
    if "enum" in value:
        names = [" | ".join(map(str, value["enum"]))]
    return " or ".join(name for name in names if name != "null")
