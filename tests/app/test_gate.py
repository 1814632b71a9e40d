"""Nothing but the health check and the login page answers without the token."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from starlette.types import ASGIApp
from starlette.websockets import WebSocketDisconnect

from app.gate import COOKIE, FailedLogins, Gate
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
    ("GET", "/healthz/../api/v1/system"),
    ("GET", "/login/../api/v1/system"),
    ("GET", "/no/such/route"),
]


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
    for headers in ({}, {"authorization": "Bearer wrong"}, {"cookie": f"{COOKIE}=wrong"}):
        answer = locked.request(method, path, headers=headers)

        assert answer.status_code == 401
        assert "access token" in answer.json()["detail"]


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
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "\r\nx"],
)
def test_the_login_never_leads_to_another_host(locked: TestClient, target: str) -> None:
    answer = locked.post("/login", data={"token": TOKEN, "next": target})

    assert answer.headers["location"] == "/"


def test_the_login_page_escapes_its_target(locked: TestClient) -> None:
    page = locked.get("/login", params={"next": '/"><script>alert(1)</script>'})

    assert "<script>" not in page.text


def test_wrong_tokens_are_throttled(locked: TestClient) -> None:
    statuses = [locked.post("/login", data={"token": f"no {i}"}).status_code for i in range(12)]

    assert statuses == [401] * 10 + [429] * 2
    right = locked.post("/login", data={"token": TOKEN})
    assert right.status_code == 429
    assert int(right.headers["retry-after"]) >= 1


def test_the_throttle_forgets_and_keeps_addresses_apart() -> None:
    now = [0.0]
    failed = FailedLogins(lambda: now[0], limit=2, window_s=60)
    for _ in range(2):
        failed.note("one")

    assert failed.wait_s("one") > 0
    assert failed.wait_s("two") == 0
    now[0] = 61.0
    assert failed.wait_s("one") == 0


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


def test_without_a_token_only_loopback_names_are_served(client: TestClient) -> None:
    rebound = client.get("/api/v1/system", headers={"host": "evil.example"})

    assert rebound.status_code == 403
    assert "RETRO_TOKEN" in rebound.json()["detail"]
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
