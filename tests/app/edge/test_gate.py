"""Nothing but the health check and the login page answers without the token."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
from fastapi.testclient import TestClient
from starlette.types import ASGIApp
from starlette.websockets import WebSocketDisconnect

from app.edge.gate import COOKIE, Gate
from app.edge.sessions import SESSION_AGE_S
from app.web import make_ungated_app
from tests.app.real_app import BASE, TOKEN, make_services

FAMILIES = [
    ("GET", "/"),
    ("GET", "/corpora"),
    ("GET", "/runs"),
    ("GET", "/generate"),
    ("GET", "/jobs"),
    ("GET", "/config"),
    ("GET", "/theme.css"),
    ("GET", "/gradio_api/info"),
    ("GET", "/gradio_api/queue/data"),
    ("GET", "/gradio_api/file=/etc/passwd"),
    ("GET", "/gradio_api/mcp/"),
    ("POST", "/gradio_api/run/load"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/queue/join"),
    ("GET", "/assets-retro/app.js"),
    ("GET", "/api/v1/system"),
    ("GET", "/api/v1/docs"),
    ("GET", "/api/v1/openapi.json"),
    ("GET", "/api/v1/corpora"),
    ("POST", "/api/v1/corpora/x/files"),
    ("DELETE", "/api/v1/corpora/x"),
    ("GET", "/api/v1/jobs"),
    ("POST", "/api/v1/runs"),
    ("GET", "/api/v1/runs/x/metrics"),
    ("POST", "/api/v1/generations"),
    ("GET", "/api/v1/settings"),
    ("GET", "/api/v1/storage"),
    ("GET", "/api/v1/generations/x/events"),
    ("PATCH", "/api/v1/jobs/x"),
    ("POST", "/gradio_api/mcp"),
    ("DELETE", "/gradio_api/mcp/"),
    ("GET", "/gradio_api/mcp/sse"),
    ("GET", "/gradio_api/mcp/schema"),
    ("GET", "/gradio_api/heartbeat/x"),
    ("GET", "/gradio_api/proxy=https://example.com/"),
    ("GET", "/gradio_api/startup-events"),
    ("GET", "/assets/index.js"),
    ("GET", "/static/img/logo.svg"),
    ("GET", "/manifest.json"),
    ("GET", "/robots.txt"),
    ("GET", "/monitoring"),
    ("GET", "/login_check"),
    ("GET", "/token"),
    ("HEAD", "/"),
    ("HEAD", "/api/v1/system"),
    ("OPTIONS", "/api/v1/corpora"),
    ("TRACE", "/api/v1/system"),
    ("CONNECT", "/api/v1/system"),
    ("PROPFIND", "/"),
    ("get", "/api/v1/system"),
    ("GET", "//api/v1/system"),
    ("GET", "/./api/v1/system"),
    ("GET", "/%2e%2e/api/v1/system"),
    ("GET", "/api/../login"),
    ("GET", "/login%2f"),
    ("GET", "/login/"),
    ("GET", "/LOGIN"),
    ("GET", "/healthz/"),
    ("GET", "/healthz%00"),
    ("GET", "/healthz;/api/v1/system"),
    ("GET", "/healthz/../api/v1/system"),
    ("GET", "/healthz/%2e%2e/api/v1/system"),
    ("GET", "/login/../api/v1/system"),
    ("GET", "/login/%2e%2e/config"),
    ("GET", "/no/such/route"),
]
WRONG: list[dict[str, str]] = [
    {},
    {"authorization": "Bearer wrong"},
    {"authorization": TOKEN},
    {"authorization": f"Basic {TOKEN}"},
    {"x-forwarded-for": "127.0.0.1", "x-real-ip": "127.0.0.1"},
    {"cookie": f"{COOKIE}=wrong"},
    {"cookie": f"{COOKIE}={TOKEN}"},
    {"cookie": f"{COOKIE}=9999999999.x.{'0' * 64}"},
    {"cookie": f"{COOKIE}=; access-token={TOKEN}"},
]


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str


@pytest.fixture(scope="module")
def open_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ASGIApp]:
    services = make_services(tmp_path_factory.mktemp("locked") / "home")
    yield make_ungated_app(services)
    services.store.close()


@pytest.fixture
def locked(open_app: ASGIApp) -> TestClient:
    client = TestClient(Gate(open_app, TOKEN), base_url="http://retro.example")
    client.follow_redirects = False
    return client


@pytest.mark.parametrize(("method", "path"), FAMILIES)
def test_every_family_of_routes_needs_the_token(locked: TestClient, method: str, path: str) -> None:
    for headers in WRONG:
        answer = ask(locked, method, path, headers)

        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in answer.text
        assert "access token" in json.loads(answer.text)["detail"]
    assert ask(locked, method, f"{path}?token={TOKEN}&__theme=dark", {}).status == 401


def ask(client: TestClient, method: str, path: str, headers: dict[str, str]) -> Answer:
    """Send a path exactly as it is written, as a server gets it; a client would tidy it up."""
    target, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": unquote(target),
        "raw_path": target.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "headers": [(b"host", b"retro.example")]
        + [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("192.0.2.1", 1),
        "server": ("192.0.2.2", 80),
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(client.app(scope, receive, send))
    names = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(sent[0]["status"], names, body.decode())


def test_health_is_free_and_says_nothing_else(locked: TestClient) -> None:
    answer = locked.get("/healthz")

    assert answer.status_code == 200
    assert answer.json() == {"status": "ok"}


def test_a_page_leads_to_the_login_and_back(locked: TestClient) -> None:
    turned_away = locked.get("/runs?run=abc", headers={"accept": "text/html"})
    assert turned_away.status_code == 303
    assert turned_away.headers["location"] == "/login?next=/runs%3Frun%3Dabc"

    page = locked.get(turned_away.headers["location"])
    assert 'name="token"' in page.text
    logged_in = locked.post("/login", data={"token": TOKEN, "next": "/runs?run=abc"})

    assert logged_in.headers["location"] == "/runs?run=abc"
    cookie = logged_in.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert TOKEN not in cookie
    assert locked.get("/api/v1/system").status_code == 200


def test_the_bearer_token_opens_pages_and_routes(locked: TestClient) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}

    assert locked.get("/api/v1/system", headers=headers).status_code == 200
    assert locked.get("/config", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "/a\\b",
        "javascript:alert(1)",
        "\r\nx",
        "/\r\nset-cookie: a=b",
        "/\x00",
        "http://[",
        "",
    ],
)
def test_the_login_never_leads_to_another_host(locked: TestClient, target: str) -> None:
    answer = locked.post("/login", data={"token": TOKEN, "next": target})

    assert answer.headers["location"] == "/"


@pytest.mark.parametrize(
    ("target", "location"),
    [("/runs?run=\u20ac", "/runs?run=%E2%82%AC"), ("/a b", "/a%20b"), ("/x?a=1&b=%20", None)],
)
def test_the_login_leads_to_any_page_of_this_host(
    locked: TestClient, target: str, location: str | None
) -> None:
    answer = locked.post("/login", data={"token": TOKEN, "next": target})

    assert answer.headers["location"] == (location or target)


def test_the_login_page_escapes_its_target(locked: TestClient) -> None:
    page = locked.get("/login", params={"next": '/"><script>alert(1)</script>'})

    assert "<script>" not in page.text


def test_wrong_tokens_are_throttled(locked: TestClient) -> None:
    statuses = [locked.post("/login", data={"token": f"no {i}"}).status_code for i in range(12)]

    assert statuses == [401] * 10 + [429] * 2
    right = locked.post("/login", data={"token": TOKEN})
    assert right.status_code == 429
    assert int(right.headers["retry-after"]) >= 1


@pytest.mark.parametrize("name", ["x-forwarded-for", "x-real-ip", "forwarded", "cf-connecting-ip"])
def test_what_a_request_says_of_its_address_changes_nothing(locked: TestClient, name: str) -> None:
    def guess(number: int) -> int:
        headers = {name: f"203.0.113.{number}", "authorization": f"Bearer no {number}"}
        return locked.get("/api/v1/system", headers=headers).status_code

    assert [guess(number) for number in range(12)] == [401] * 10 + [429] * 2


def test_a_session_goes_on_while_its_address_is_throttled(locked: TestClient) -> None:
    locked.post("/login", data={"token": TOKEN})
    for number in range(11):
        locked.post("/login", data={"token": f"no {number}"})

    assert locked.post("/login", data={"token": TOKEN}).status_code == 429
    assert locked.get("/api/v1/system").status_code == 200


def test_after_the_logout_the_cookie_opens_nothing(locked: TestClient) -> None:
    locked.post("/login", data={"token": TOKEN})
    kept = locked.cookies[COOKIE]
    asked = locked.get("/logout")
    assert asked.status_code == 200
    assert locked.get("/api/v1/system").status_code == 200

    answer = locked.post("/logout")

    assert answer.headers["location"] == "/login"
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert locked.get("/api/v1/system").status_code == 401
    stolen = {"cookie": f"{COOKIE}={kept}"}
    assert locked.get("/api/v1/system", headers=stolen).status_code == 401


def test_a_session_ends_after_its_time_and_with_another_token(open_app: ASGIApp) -> None:
    now = [1_000.0]
    first = TestClient(Gate(open_app, TOKEN, now=lambda: now[0]), base_url="http://retro.example")
    first.post("/login", data={"token": TOKEN}, follow_redirects=False)
    cookie = {"cookie": f"{COOKIE}={first.cookies[COOKIE]}"}
    other = TestClient(Gate(open_app, TOKEN + "2", now=lambda: now[0]), base_url="http://r.example")

    assert first.get("/api/v1/jobs").status_code == 200
    assert other.get("/api/v1/jobs", headers=cookie).status_code == 401
    now[0] += SESSION_AGE_S + 1
    first.cookies.clear()
    assert first.get("/api/v1/jobs", headers=cookie).status_code == 401


def test_the_cookie_is_found_among_any_others(locked: TestClient) -> None:
    locked.post("/login", data={"token": TOKEN})
    value = locked.cookies[COOKIE]
    locked.cookies.clear()

    headers = {"cookie": f'a="b; c"; {{"x": 1}}; {COOKIE}={value}; z=[]'}

    assert locked.get("/api/v1/system", headers=headers).status_code == 200


@pytest.mark.parametrize(("scheme", "is_secure"), [("https", True), ("http", False)])
def test_the_cookie_is_for_https_alone_behind_a_proxy_that_speaks_it(
    locked: TestClient, scheme: str, is_secure: bool
) -> None:
    headers = {"x-forwarded-proto": scheme}

    answer = locked.post("/login", data={"token": TOKEN}, headers=headers)

    assert ("Secure" in answer.headers["set-cookie"]) is is_secure


def test_without_a_token_there_is_nothing_to_log_in_to(client: TestClient) -> None:
    for path in ("/login", "/logout"):
        answer = client.get(path, follow_redirects=False)

        assert answer.status_code == 303
        assert answer.headers["location"] == "/"


@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_other_methods_of_the_login_are_refused(locked: TestClient, path: str) -> None:
    answer = locked.put(path)

    assert answer.status_code == 405
    assert "GET and POST" in answer.json()["detail"]


def test_a_websocket_needs_the_token(locked: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), locked.websocket_connect("/gradio_api/queue/join"):
        pass


def test_pages_of_other_sites_can_change_nothing(client: TestClient) -> None:
    body = {"name": "planted"}
    foreign = client.post("/api/v1/corpora", json=body, headers={"origin": "https://evil.example"})
    own = client.post("/api/v1/corpora", json=body, headers={"origin": BASE})

    assert foreign.status_code == 403
    assert "evil.example" in foreign.json()["detail"]
    assert own.status_code == 201


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://[",
        "http://127.0.0.1:1",
        "http://127.0.0.1.evil.example",
        "http://evil.example/127.0.0.1",
        "127.0.0.1",
        "file://",
        "http://localhost",
        "\u00e9",
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS", "PATCH", "PURGE"])
def test_an_origin_must_be_this_host_exactly(client: TestClient, origin: str, method: str) -> None:
    answer = client.request(method, "/api/v1/corpora", headers={"origin": origin.encode()})

    assert answer.status_code == 403


def test_a_websocket_of_another_site_is_refused(client: TestClient) -> None:
    headers = {"origin": "https://evil.example"}
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/x", headers=headers):
        pass


def test_a_login_from_another_site_is_refused(locked: TestClient) -> None:
    headers = {"origin": "https://evil.example"}
    answer = locked.post("/login", data={"token": TOKEN}, headers=headers)

    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["", "[", "evil.example:7860", "127.0.0.1.evil.example", "0"])
def test_no_other_name_is_taken_for_loopback(client: TestClient, host: str) -> None:
    assert client.get("/api/v1/system", headers={"host": host}).status_code == 403


def test_every_loopback_name_is_served(client: TestClient) -> None:
    for host in ("127.0.0.1:7860", "127.3.2.1", "LOCALHOST:80", "localhost.:7860", "[::1]"):
        assert client.get("/api/v1/system", headers={"host": host}).status_code == 200


def test_without_a_token_only_loopback_names_are_served(client: TestClient) -> None:
    rebound = client.get("/api/v1/system", headers={"host": "evil.example"})

    assert rebound.status_code == 403
    assert "RETRO_TOKEN" in rebound.json()["detail"]
    for host in ("localhost..", "localhost.evil.com", "127.0.0.1.evil.com", "127.0.0.1."):
        assert client.get("/api/v1/system", headers={"host": host}).status_code == 403
    assert client.get("/api/v1/system", headers={"host": "localhost:7860"}).status_code == 200
    assert client.get("/api/v1/system", headers={"host": "[::1]:7860"}).status_code == 200


def test_answers_carry_security_headers(client: TestClient) -> None:
    for path in ("/api/v1/system", "/healthz", "/assets-retro/app.js"):
        headers = client.get(path).headers

        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_no_origin_is_allowed_to_read_across_sites(client: TestClient) -> None:
    answer = client.get("/api/v1/corpora", headers={"origin": "https://evil.example"})

    assert "access-control-allow-origin" not in answer.headers
