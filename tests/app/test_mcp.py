"""The MCP server: off unless it is switched on, and never more than its mode allows."""

import json
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest
from fastapi.testclient import TestClient
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from starlette.types import ASGIApp

from app.programs.tools import TOOLS, choose_tools
from app.web import guard, make_rest_app, make_ungated_app
from tests.app.real_app import BASE, TOKEN, Trained, make_services

ADDRESS = "/gradio_api/mcp"
READING = {
    "list_corpora", "get_corpus", "search", "get_chunk", "list_runs", "get_run", "get_metrics",
    "list_jobs", "get_job", "list_generations", "get_generation",
}  # fmt: skip
WRITING = {"generate", "branch", "create_sample_corpus", "build_corpus", "start_run"}
HEADERS = {"accept": "application/json, text/event-stream"}
PROMPT = "the cat sat on a mat and saw dogs run far over green hills by old rivers"


@pytest.fixture(params=["read", "write"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def app(trained: Trained, mode: str) -> ASGIApp:
    return make_rest_app(trained.services, mode)


@pytest.fixture
def client(app: ASGIApp) -> Iterator[TestClient]:
    # Its lifespan is not entered: the services belong to all tests.
    with TestClient(guard(_running(app), TOKEN), base_url="http://retro.example") as client:
        client.headers.update({"authorization": f"Bearer {TOKEN}", **HEADERS})
        yield client


def _running(app: Any) -> ASGIApp:
    """Return an app that starts the MCP server and nothing else."""
    [server] = {route.app for route in app.router.routes if getattr(route, "path", "") == ADDRESS}

    async def run(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        await receive()
        async with server.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    return run


def ask(client: TestClient, method: str, **parameters: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    headers = {"content-type": "application/json"}
    answer = client.post(ADDRESS, content=json.dumps(body), headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def call(client: TestClient, tool: str, /, **arguments: Any) -> tuple[bool, str]:
    result = ask(client, "tools/call", name=tool, arguments=arguments)
    [content] = result["content"]
    return bool(result["isError"]), content["text"]


@pytest.mark.parametrize("path", [ADDRESS, f"{ADDRESS}/", f"{ADDRESS}/sse", f"{ADDRESS}/schema"])
def test_there_is_no_route_unless_it_is_switched_on(trained: Trained, path: str) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}

    assert trained.client.post(path, json=body, headers=HEADERS).status_code in (404, 405)
    assert "tools" not in trained.client.get(path).text


def test_a_mode_has_its_tools_and_no_others(client: TestClient, mode: str) -> None:
    tools = {tool["name"]: tool for tool in ask(client, "tools/list")["tools"]}

    assert set(tools) == (READING if mode == "read" else READING | WRITING)
    for name, tool in tools.items():
        assert len(tool["description"]) > 30
        assert tool["annotations"]["readOnlyHint"] is (name in READING)
        assert tool["annotations"]["destructiveHint"] is False
        assert tool["inputSchema"]["additionalProperties"] is False
        for field in tool["inputSchema"]["properties"].values():
            assert field["description"]


def test_no_tool_destroys_anything() -> None:
    words = ("delete", "remove", "stop", "cancel", "clean", "upload", "file")

    assert not [tool.name for tool in TOOLS if any(word in tool.name for word in words)]
    assert set(choose_tools("read")) < set(choose_tools("write"))


@pytest.mark.parametrize("path", [ADDRESS, f"{ADDRESS}/"])
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "OPTIONS"])
def test_without_the_token_every_mcp_route_is_closed(
    client: TestClient, path: str, method: str
) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    for token in ("", "Bearer wrong", TOKEN):
        answer = client.request(method, path, json=body, headers={"authorization": token})

        assert answer.status_code == 401
        assert "tools" not in answer.text


def test_other_methods_are_told_what_to_send(client: TestClient) -> None:
    answer = client.get(ADDRESS)

    assert answer.status_code == 405
    assert "MCP requests must be POST, got 'GET'" in answer.json()["detail"]


def test_a_corpus_can_be_searched(client: TestClient, trained: Trained) -> None:
    failed, text = call(client, "list_corpora")
    [corpus] = [one for one in json.loads(text)["corpora"] if one["id"] == trained.corpus_id]
    assert not failed

    result = ask(
        client, "tools/call", name="search", arguments={"corpus_id": corpus["id"], "text": "cat"}
    )

    assert len(result["structuredContent"]["neighbors"]) == 5
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]


def test_what_a_mode_lacks_cannot_be_called(client: TestClient, mode: str) -> None:
    arguments = {"run_id": "nothing", "prompt": "x"}
    failed, text = call(client, "generate", **arguments)

    assert failed
    start = "The tool must be one of" if mode == "read" else "There is no run nothing"
    assert text.startswith(start)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("search", {"corpus_id": "nothing", "text": "x"}, "There is no corpus nothing."),
        ("search", {"corpus_id": "x", "text": "x", "k": 0}, "k must be greater than or equal to 1"),
        ("search", {"corpus_id": "x", "text": "x", "k": "5"}, "k must be a whole number"),
        ("search", {"text": "x"}, "corpus_id is needed, and it is not there."),
        ("search", {"corpus_id": "x", "text": "\ud800"}, "free of halves of surrogate pairs"),
        ("get_run", {"run_id": "x", "path": "/etc/passwd"}, "path is not a known field."),
        ("get_generation", {"generation_id": "../../x"}, "There is no generation ../../x."),
        ("delete_run", {"run_id": "x"}, "The tool must be one of"),
    ],
)
def test_errors_are_one_sentence(
    client: TestClient, name: str, arguments: dict[str, Any], words: str
) -> None:
    failed, text = call(client, name, **arguments)

    assert failed
    assert words in text
    assert "Traceback" not in text
    assert "\n" not in text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"jsonrpc": "2.0"}', b"\xff"])
def test_what_is_no_request_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post(ADDRESS, content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 400
    assert "must be a JSON-RPC 2.0 message" in answer.json()["error"]["message"]


@pytest.mark.parametrize("mode", ["write"])
def test_a_client_of_the_protocol_reads_writes_and_branches(trained: Trained, mode: str) -> None:
    app = make_ungated_app(trained.services, mode)

    async def use(session: ClientSession) -> None:
        started = await session.initialize()
        assert started.serverInfo.name == "RETRO"
        assert "list_corpora" in (started.instructions or "")
        arguments = {"run_id": trained.run_id, "prompt": PROMPT, "max_new_tokens": 40, "seed": 3}
        written = await session.call_tool("generate", arguments)
        assert not written.isError
        text = written.structuredContent
        assert text is not None
        assert text["state"] == "succeeded"
        assert "token_ids" not in text["chunks"][0]
        branched = await session.call_tool(
            "branch", {"generation_id": text["id"], "chunk_index": len(text["chunks"]) - 1}
        )
        assert branched.structuredContent is not None
        assert branched.structuredContent["id"] != text["id"]
        wrong = await session.call_tool("generate", {**arguments, "prompt": " "})
        assert wrong.isError

    async def main() -> None:
        gated = guard(app, TOKEN)
        transport = httpx.ASGITransport(app=gated)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        [server] = {item.app for item in app.routes if getattr(item, "path", "") == ADDRESS}
        async with (
            server.running(),
            httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers) as client,
            streamable_http_client(f"{BASE}{ADDRESS}", http_client=client) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await use(session)

    anyio.run(main)


def test_writing_tools_start_work(tmp_path: Any) -> None:
    services = make_services(tmp_path / "home")
    app = make_rest_app(services, "write")
    with TestClient(guard(app, None), base_url=BASE, headers=HEADERS) as client:
        made = json.loads(call(client, "create_sample_corpus", name="docs")[1])
        job = json.loads(call(client, "build_corpus", corpus_id=made["id"])[1])
        run = json.loads(call(client, "start_run", corpus_id=made["id"], name="r", max_steps=3)[1])

        assert json.loads(call(client, "get_job", job_id=job["id"])[1])["state"] == "queued"
        assert json.loads(call(client, "get_run", run_id=run["id"])[1])["total_steps"] == 3
        assert json.loads(call(client, "get_metrics", run_id=run["id"])[1]) == {"points": []}
    services.store.close()
