"""A Hugging Face Hub for tests: the endpoints that publishing and loading a model use."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

COMMIT = "c0ffee" + 34 * "0"
TOKEN = "hf_" + 34 * "x"


class HubServer(ThreadingHTTPServer):
    """Holds repositories in memory; writing needs ``TOKEN``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.visibility: dict[str, str | None] = {}
        self.blobs: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def running_hub() -> Iterator[HubServer]:
    with HubServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def do_POST(self) -> None:
        body = self._body()
        parts = urlsplit(self.path).path.strip("/").split("/")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer({"error": "Invalid username or password."}, 401)
        if parts[1:] == ["repos", "create"]:
            values = json.loads(body)
            name = f"{values.get('organization') or 'user'}/{values['name']}"
            self.server.repositories.setdefault(name, {})
            self.server.visibility[name] = values.get("visibility")
            return self._answer({"url": f"{self.server.address}/{name}", "id": name, "name": name})
        if parts[1:] == ["validate-yaml"]:
            return self._answer({"errors": [], "warnings": []})
        if "preupload" in parts:
            modes = {True: "lfs", False: "regular"}
            return self._answer(
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": modes[file["path"].endswith(".safetensors")],
                            "shouldIgnore": False,
                        }
                        for file in json.loads(body)["files"]
                    ]
                }
            )
        if parts[-2:] == ["objects", "batch"]:
            return self._answer(
                {
                    "transfer": "basic",
                    "objects": [
                        {
                            **one,
                            "actions": {
                                "upload": {"href": f"{self.server.address}/blobs/{one['oid']}"}
                            },
                        }
                        for one in json.loads(body)["objects"]
                    ],
                }
            )
        if "commit" in parts:
            name = "/".join(parts[2:4])
            self._commit(self.server.repositories[name], body)
            url = f"{self.server.address}/{name}/commit/{COMMIT}"
            return self._answer({"commitUrl": url, "commitOid": COMMIT, "success": True})
        return self._answer({"error": f"no such endpoint: {self.path}"}, 404)

    def _commit(self, files: dict[str, bytes], body: bytes) -> None:
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]

    def do_PUT(self) -> None:
        content = self._body()
        assert hashlib.sha256(content).hexdigest() == self.path.rsplit("/", 1)[-1]
        self.server.blobs[self.path.rsplit("/", 1)[-1]] = content
        self._answer({})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path).path.strip("/").split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        files = self.server.repositories.get(name)
        if files is None:
            return self._answer({"error": "Repository not found"}, 404, code="RepoNotFound")
        if parts[0] == "api" and "tree" in parts:
            return self._answer(
                [
                    {"type": "file", "path": path, "size": len(content), "oid": _id(content)}
                    for path, content in files.items()
                ]
            )
        if parts[0] == "api":
            siblings = [{"rfilename": path} for path in files]
            return self._answer({"id": name, "sha": COMMIT, "siblings": siblings, "tags": []})
        path = "/".join(parts[4:])
        if parts[2] != "resolve" or path not in files:
            return self._answer({"error": "Entry not found"}, 404, code="EntryNotFound")
        return self._send(files[path], "application/octet-stream", etag=_id(files[path]))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, value: object, status: int = 200, code: str | None = None) -> None:
        self._send(json.dumps(value).encode(), "application/json", status=status, code=code)

    def _send(
        self,
        content: bytes,
        kind: str,
        *,
        status: int = 200,
        etag: str | None = None,
        code: str | None = None,
    ) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(content))}
        if etag is not None:
            headers |= {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        if code is not None:
            headers["X-Error-Code"] = code
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _id(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
