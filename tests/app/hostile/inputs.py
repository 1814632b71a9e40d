"""What people and programs send that was never meant to be sent, and every place it can go."""

import io
import json
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

VALUES: list[Any] = [
    "../../x",
    "/etc/passwd",
    "%2e%2e/",
    "..%2f..%2fetc%2fpasswd",
    "a\x00b",
    "x" * 4096,
    "\u202egnp.exe",
    "CON",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "<svg onload=alert(1)>",
    "${7*7}",
    "{{7*7}}",
    "'; DROP TABLE runs; --",
    "\ud800",
    "\ufeff",
    "\r\nset-cookie: a=b",
    "",
    " ",
]
JSON_VALUES: list[Any] = [
    *VALUES,
    float("nan"),
    float("inf"),
    2**63,
    -1,
    1e308,
    10**400,
    True,
    None,
    [],
    {},
    [[[[]]]],
    {"__class__": "x", "$ref": "#"},
]
NUMBERS = ["-1", "9223372036854775808", "1e5", "nan", "0x10", "1;2", "", "\u0663", " 1", "9" * 400]


@dataclass(frozen=True, kw_only=True)
class Hostile:
    """One request."""

    method: str
    path: str
    """As it goes over the line, after ``/api/v1``."""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def as_json(value: Any) -> bytes:
    """Return JSON as Python writes it: with NaN, and halves of characters as escapes."""
    return json.dumps(value).encode()


def escaped(value: Any) -> str:
    """Return a value for a path or a query."""
    return quote(str(value), safe="", errors="surrogatepass")


def hostile_requests(schema: Any, ids: dict[str, str]) -> Iterator[Hostile]:
    """Put every value into every place of every route that the description names.

    Args:
        schema: The OpenAPI description.
        ids: Names of parameters in paths, and ids that exist.
    """
    turn = 0
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            turn += 1
            yield from _in_path(path, method, operation, turn)
            yield from _in_query(_filled(path, ids), method, operation)
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                body = content["application/json"]
                known = {**body.get("example", {}), **ids, "stream": False, "max_new_tokens": 4}
                body = {**body, "example": known}
                yield from _in_body(_filled(path, ids), method, schema, body, turn)
    yield from _in_headers()


def _filled(path: str, ids: dict[str, str]) -> str:
    for name, value in {**ids, "chunk_id": "0", "step": "2", "action": "pause"}.items():
        path = path.replace(f"{{{name}}}", value)
    return path.removeprefix("/api/v1")


def _in_path(path: str, method: str, operation: Any, turn: int) -> Iterator[Hostile]:
    names = [item["name"] for item in operation.get("parameters", []) if item["in"] == "path"]
    for name in names:
        # A different third of them for each route: all meet every family.
        for value in [*VALUES, *NUMBERS][turn % 3 :: 3]:
            others = dict.fromkeys(names, "0") | {name: escaped(value)}
            if others[name]:
                yield Hostile(
                    method=method.upper(),
                    path=_filled(path, others),
                    body=b"{}",
                    headers={"content-type": "application/json"},
                )


def _in_query(path: str, method: str, operation: Any) -> Iterator[Hostile]:
    for item in operation.get("parameters", []):
        if item["in"] == "query":
            for value in [*VALUES, *NUMBERS]:
                yield Hostile(method=method.upper(), path=f"{path}?{item['name']}={escaped(value)}")


def _in_body(path: str, method: str, schema: Any, body: Any, turn: int) -> Iterator[Hostile]:
    described = body["schema"]
    for option in (described, *described.get("anyOf", [])):
        if "$ref" in option:
            described = schema["components"]["schemas"][option["$ref"].rsplit("/", 1)[-1]]
    headers = {"content-type": "application/json"}
    known = body["example"]
    good = {name: known[name] for name in known if name in described.get("properties", {})}
    for place, name in enumerate(described.get("properties", {})):
        for value in JSON_VALUES[(turn + place) % 4 :: 4]:
            content = as_json({**good, name: value})
            yield Hostile(method=method.upper(), path=path, headers=headers, body=content)
    for raw in (b"", b"{", b"\xff\xfe{\x00", b"[" * 50_000, b"1" * 5_000, as_json("x"), b"null"):
        yield Hostile(method=method.upper(), path=path, headers=headers, body=raw)
    xml = b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'
    yield Hostile(method=method.upper(), path=path, headers={"content-type": "text/xml"}, body=xml)


def _in_headers() -> Iterator[Hostile]:
    names = [
        "accept", "content-type", "content-length", "content-encoding", "cookie", "origin",
        "range", "x-forwarded-host", "x-forwarded-prefix", "x-http-method-override",
        "if-none-match", "accept-language", "authorization", "x-gradio-user",
    ]  # fmt: skip
    for name in names:
        for value in (
            "../../x",
            "<script>alert(1)</script>",
            "'; DROP TABLE runs",
            "-1",
            "9" * 400,
        ):
            for method, path in (("GET", "/system"), ("POST", "/corpora")):
                yield Hostile(method=method, path=path, headers={name: value}, body=b"{}")


def hostile_files() -> Iterator[tuple[str, str, bytes]]:
    """Yield the name of a multipart part, the path it claims, and its content."""
    paths = [*(value for value in VALUES if "\ud800" not in value), "a/" * 2000, "C:\\x", "~/x"]
    for path in paths:
        yield "files", path, b"some words to read"
    contents = [
        b"\xff\xfe\x00\xd8", b"\x80\x81\xfe", b"", b"\x00" * 100, b"\x7fELF\x02\x01\x01",
        b"\x80\x04\x95\x0f\x00\x00\x00cposix\nsystem\n\x93.", b"\xff" * 8 + b"{}",
        (2**63).to_bytes(8, "little") + b"{}", b"a" * 150_000, b"<script>alert(1)</script>",
        b"\n" * 5_000, b"\x1f\x8b\x08\x00broken", b"PK\x03\x04broken", b"${7*7} {{7*7}}",
    ]  # fmt: skip
    for number, content in enumerate(contents):
        for ending in ("txt", "safetensors", "zip", "jsonl", "html"):
            yield "files", f"content/{number}.{ending}", content
    for number, content in enumerate(_archives()):
        yield "files", f"archive-{number}.zip", content
    for name in ("path", "file", "files[]", "__proto__", "../files"):
        yield name, "a.txt", b"x"


def _archives() -> Iterator[bytes]:
    members = {
        "../../out.txt": b"x",
        "/tmp/out.txt": b"x",
        "C:\\out.txt": b"x",
        "a/../../out.txt": b"x",
        "inner.zip": b"PK\x05\x06" + b"\x00" * 18,
        "zeros.txt": b"\x00" * 5_000_000,
        "CON": b"x",
    }
    for name, content in members.items():
        yield _archive(zipfile.ZipInfo(name), content)
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    yield _archive(link, b"/etc/passwd")


def _archive(info: zipfile.ZipInfo, content: bytes) -> bytes:
    info.compress_type = zipfile.ZIP_DEFLATED
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(info, content)
    return made.getvalue()
