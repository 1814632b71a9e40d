"""The page at ``/api/v1/docs``: the routes, without files from other hosts."""

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse

from app.format import escape
from app.ui import STATIC_DIR

FRAME = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>API - RETRO</title>
<script src="/assets-retro/theme.js"></script><style>{css}
body{{margin:0;color:var(--r-ink);font:15px/1.55 var(--r-sans)}}#page{{max-width:900px}}
pre{{overflow:auto;font:12.5px/1.5 var(--r-mono)}}</style></head>
<body><header class="topbar"><a class="brand" href="/">RETRO</a><span class="dim">REST API</span>
</header><main id="page"><h1>REST API</h1>
<p class="dim">JSON in and out. Errors are <code>{{"detail": "..."}}</code>. With an access token
set, send <code>Authorization: Bearer &lt;token&gt;</code>. The same as a machine reads it:
<a href="/api/v1/openapi.json">openapi.json</a>.</p>{routes}</main></body></html>"""


def make_router(app: FastAPI) -> APIRouter:
    """Return the route of the page."""
    router = APIRouter()

    @router.get("/api/v1/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        css = (STATIC_DIR / "styles.css").read_text(encoding="utf-8")
        return HTMLResponse(FRAME.format(css=css, routes=render_routes(app.openapi())))

    return router


def render_routes(schema: dict[str, Any]) -> str:
    """Return all routes with their parameters and bodies."""
    groups: dict[str, list[str]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            tag = operation.get("tags", ["other"])[0]
            groups.setdefault(tag, []).append(_route(schema, path, method, operation))
    return "".join(
        f'<section class="panel"><h2>{escape(tag)}</h2>{"".join(items)}</section>'
        for tag, items in groups.items()
    )


def _route(schema: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    lines = [
        f"{item['name']} ({item['in']}): {_type(schema, item['schema'])}"
        for item in operation.get("parameters", [])
    ]
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content:
        lines += _fields(schema, content["schema"])
    details = f"<pre>{escape(chr(10).join(lines))}</pre>" if lines else ""
    return (
        f'<div style="margin-bottom:14px"><code><b>{method.upper()}</b> {escape(path)}</code>'
        f'<div class="dim small">{escape(operation.get("description", ""))}</div>{details}</div>'
    )


def _fields(schema: dict[str, Any], body: dict[str, Any]) -> list[str]:
    resolved = _resolve(schema, body)
    needed = resolved.get("required", [])
    return [
        f"{name}: {_type(schema, field)}{'' if name in needed else ' (optional)'}"
        for name, field in resolved.get("properties", {}).items()
    ]


def _resolve(schema: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    for option in (value, *value.get("anyOf", [])):
        if "$ref" in option:
            name = option["$ref"].rsplit("/", 1)[-1]
            found: dict[str, Any] = schema["components"]["schemas"][name]
            return found
    return value


def _type(schema: dict[str, Any], value: dict[str, Any]) -> str:
    options = value.get("anyOf", [value])
    names = [str(_resolve(schema, item).get("type", "any")) for item in options]
    if "enum" in value:
        names = [" | ".join(map(str, value["enum"]))]
    return " or ".join(name for name in names if name != "null")
