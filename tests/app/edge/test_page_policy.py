"""What a page may run: its own scripts, and nothing that is put into it later."""

import base64
import hashlib

from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route

from app.edge.gate import Gate
from tests.app.real_app import BASE, Trained

PAGE = "<script>\r\nlet a = 1;</script><p>text</p><script type='module' src='/x.js'></script>"
BROWSER = {"accept": "text/html,*/*", "accept-encoding": "gzip, br"}


def client_of(page: str) -> TestClient:
    routes = [
        Route("/page", lambda _request: HTMLResponse(page)),
        Route("/text", lambda _request: PlainTextResponse(page)),
    ]
    return TestClient(Gate(Starlette(routes=routes), None), base_url=BASE)


def scripts_of(policy: str) -> list[str]:
    [directive] = [item for item in policy.split("; ") if item.startswith("script-src")]
    return directive.split()[1:]


def test_the_inline_scripts_of_a_page_are_named_by_their_hashes() -> None:
    answer = client_of(PAGE).get("/page", headers=BROWSER)

    expected = base64.b64encode(hashlib.sha256(b"\nlet a = 1;").digest()).decode()
    allowed = scripts_of(answer.headers["content-security-policy"])
    assert allowed == ["'self'", "'unsafe-eval'", f"'sha256-{expected}'"]
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.text == PAGE


def test_without_inline_scripts_only_files_of_this_host_run() -> None:
    for path in ("/page", "/text"):
        answer = client_of("<p onclick='x'>text</p>").get(path, headers=BROWSER)

        assert scripts_of(answer.headers["content-security-policy"]) == ["'self'"]


def test_a_client_that_reads_no_compressed_pages_gets_a_plain_one() -> None:
    answer = client_of(PAGE).get("/page", headers={"accept-encoding": "identity"})

    assert "content-encoding" not in answer.headers
    assert answer.headers["content-length"] == str(len(PAGE))
    assert answer.text == PAGE


def test_head_of_a_page_has_no_body() -> None:
    answer = client_of(PAGE).head("/page", headers=BROWSER)

    assert answer.status_code == 200
    assert answer.content == b""


def test_no_page_allows_scripts_that_are_put_into_it(trained: Trained) -> None:
    for path in ("/", "/corpora", "/runs", "/generate", "/jobs", "/api/v1/docs"):
        answer = trained.client.get(path, headers=BROWSER)

        policy = answer.headers["content-security-policy"]
        assert answer.status_code == 200
        assert "'unsafe-inline'" not in scripts_of(policy)
        assert "object-src 'none'" in policy
        assert "frame-ancestors 'self'" in policy
        assert ("<script" not in answer.text) or "'self'" in scripts_of(policy)
