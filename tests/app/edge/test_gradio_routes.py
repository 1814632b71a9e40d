"""Gradio opens no file for a caller, and serves nothing that the pages do not use."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from gradio import utils

from app.edge.gradio_routes import OPEN_ROUTES
from app.services.services import Services
from app.web import make_app, make_ungated_app
from tests.app.edge.conftest import DATABASE_PASSWORD, PATIENCE_S, Server
from tests.app.real_app import BASE, TOKEN

CLOSED = {
    "/login/", "/login", "/logout", "/svelte/{path:path}", "/openapi.json", "/config/",
    "/pwa_icon", "/pwa_icon/{size}", "/manifest.json", "/monitoring", "/monitoring/summary",
    "/monitoring/{key}", "/gradio_api/deep_link", "/gradio_api/user", "/gradio_api/user/",
    "/gradio_api/login_check", "/gradio_api/login_check/", "/gradio_api/token",
    "/gradio_api/token/", "/gradio_api/app_id", "/gradio_api/app_id/", "/gradio_api/dev/reload",
    "/gradio_api/runs", "/gradio_api/runs/", "/gradio_api/queue/status",
    "/gradio_api/vibe-code", "/gradio_api/vibe-code/", "/gradio_api/vibe-edit",
    "/gradio_api/vibe-edit/", "/gradio_api/undo-vibe-edit", "/gradio_api/undo-vibe-edit/",
    "/gradio_api/vibe-starter-queries", "/gradio_api/vibe-starter-queries/",
    "/gradio_api/info/", "/gradio_api/openapi.json",
    "/gradio_api/custom_component/{id}/{environment}/{type}/{file_name}",
    "/gradio_api/proxy={url_path:path}", "/gradio_api/file={path_or_url:path}",
    "/gradio_api/file/{path:path}", "/gradio_api/stream/{event_id}",
    "/gradio_api/stream/{event_id}/close",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist.m3u8",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/{segment_id}.{ext}",
    "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist-file",
    "/gradio_api/reset/", "/gradio_api/reset", "/gradio_api/run/{api_name}/",
    "/gradio_api/api/{api_name}", "/gradio_api/api/{api_name}/",
    "/gradio_api/call/v2/{api_name}", "/gradio_api/call/v2/{api_name}/",
    "/gradio_api/call/v2/{api_name}/{event_id}",
    "/gradio_api/call/{api_name}/", "/gradio_api/component_server",
    "/gradio_api/component_server/", "/gradio_api/upload_progress", "/gradio_api/upload",
    "/gradio_api/startup-events", "/gradio_api/theme.css",
    "/gradio_api/process_recording", "/corpora/", "/runs/", "/generate/", "/jobs/", "/settings/",
}  # fmt: skip
"""What this version of Gradio serves and this app does not."""


def routes_of(app: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield method and path of every route of Gradio."""
    for route in app.routes:
        if inner := getattr(route, "original_router", None):
            yield from routes_of(inner, prefix)
        elif hasattr(route, "methods"):
            yield from ((method, prefix + route.path) for method in route.methods)


def gradio_app(app: FastAPI) -> Any:
    [mount] = [route for route in app.routes if getattr(route, "path", None) == ""]
    return mount.app  # type: ignore[attr-defined]  # a mount has one


def test_every_route_of_gradio_is_known_to_be_open_or_closed(services: Services) -> None:
    served = {path for _, path in routes_of(gradio_app(make_ungated_app(services)))}

    assert served - set(OPEN_ROUTES) == CLOSED
    assert set(OPEN_ROUTES) <= served


def test_closed_routes_and_methods_are_not_there(services: Services) -> None:
    app = make_app(services, token=None)
    tried = 0

    with TestClient(app, base_url=BASE) as client:
        for method, path in routes_of(gradio_app(make_ungated_app(services))):
            if path in CLOSED and path not in ("/login", "/logout", "/monitoring/summary"):
                address = path.replace("{", "").replace("}", "").replace(":path", "")
                assert client.request(method, address).status_code == 404, (method, path)
                tried += 1
        assert client.post("/config").status_code == 404
        assert client.get("//gradio_api/file=/etc/passwd").status_code == 404
        assert client.get("/gradio_api/FILE=/etc/passwd").status_code == 404
        assert client.get("/").status_code == client.head("/").status_code == 200

    assert tried >= 50


@pytest.mark.parametrize(
    "file",
    [
        {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
        {"path": "/dev/zero", "meta": {"_type": "gradio.FileData"}},
        {"path": "/proc/self/environ"},
        {"url": "http://127.0.0.1:1/", "meta": {"_type": "gradio.FileData"}},
        [[{"deep": [{"orig_name": "a", "path": "https://example.com/a"}]}]],
    ],
    ids=["file", "device", "without mark", "address", "nested"],
)
def test_no_function_takes_a_file(server: Server, file: Any) -> None:
    body = {"fn_index": 0, "session_hash": "x", "data": [file]}

    with server.client() as client, server.probed() as probe:
        answers = [
            client.post("/gradio_api/run/predict", json=body),
            client.post("/gradio_api/queue/join", json=body),
            client.post("/gradio_api/queue/join", content=client.build_request(
                "POST", "/", json=body).content, headers={"content-type": "text/plain"}),
            client.post("/gradio_api/call/search", json={"data": [file]}),
        ]  # fmt: skip
        while len(probe.seconds) < 3:
            pass

    assert [answer.status_code for answer in answers] == [422] * 4
    assert "Files and addresses are not taken here" in answers[0].json()["detail"]
    assert probe.slowest < PATIENCE_S


def test_gradio_itself_refuses_files_of_the_host(services: Services, tmp_path: Path) -> None:
    secret = tmp_path / f"{uuid.uuid4()}.txt"
    secret.write_text("nobody may read this")
    file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    app = make_ungated_app(services)
    config = gradio_app(app).get_blocks().config
    [search] = [item for item in config["dependencies"] if item["api_name"] == "search"]

    with TestClient(app, base_url=BASE) as client:
        answer = client.post(
            "/gradio_api/run/predict",
            json={"fn_index": search["id"], "session_hash": "x", "data": [file, "a", 1]},
        )

    assert answer.status_code == 500
    copies = list(Path(utils.get_upload_folder()).rglob(secret.name))
    assert copies == []


def test_the_environment_of_the_server_holds_no_secret(server: Server) -> None:
    environ = Path(f"/proc/{server.process.pid}/environ").read_bytes()

    assert b"RETRO_HOME=" in environ
    assert TOKEN.encode() not in environ
    assert DATABASE_PASSWORD.encode() not in environ
