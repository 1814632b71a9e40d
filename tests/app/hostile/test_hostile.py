"""No input makes the app fail, tells what it must not tell, or reaches beyond its folder."""

import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.services.services import Services
from app.web import guard, make_rest_app
from jobs.home import Home
from jobs.store.store import Store
from tests.app.hostile.inputs import Hostile, hostile_files, hostile_requests
from tests.app.real_app import LIMITS, TOKEN, Trained

pytestmark = pytest.mark.slow

LEAKS = re.compile(
    r"Traceback|File \"|/site-packages/|sqlalchemy|sqlite3|pydantic|root:x:0|line \d+, in "
)
ENDS = (".", "...")
MOST_CHARACTERS = 1_100
"""A refusal is a sentence: it does not repeat all that was sent."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def services(folder: Path, trained: Trained) -> Iterator[Services]:
    (folder / "beside.txt").write_text("nobody may touch this")
    home = Home(folder / "home")
    shutil.copytree(trained.services.home.path, home.path)
    made = Services(home, Store(home.database_url()), limits=LIMITS)
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def client(services: Services) -> Iterator[TestClient]:
    app = guard(make_rest_app(services), TOKEN)
    with TestClient(app, base_url="http://retro.example", raise_server_exceptions=False) as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        yield client


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Return everything beside the home folder, with its size and the time of its last change."""
    found = (path for path in folder.rglob("*") if (folder / "home") not in (path, *path.parents))
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def ids_of(client: TestClient, trained: Trained) -> dict[str, str]:
    run = client.get(f"/api/v1/runs/{trained.run_id}").json()
    return {
        "corpus_id": trained.corpus_id,
        "run_id": trained.run_id,
        "job_id": str(run["job_id"]),
        "generation_id": "0",
    }


def send(client: TestClient, wanted: Hostile) -> Any:
    """Send bytes that a client of good manners would refuse to send."""
    url = client.base_url.copy_with(raw_path=f"/api/v1{wanted.path}".encode())
    headers = {name: value.encode() for name, value in wanted.headers.items()}
    request = client.build_request(wanted.method, url, headers=headers, content=wanted.body)
    return client.send(request)


def problems(answer: Any, what: object, folder: Path) -> list[str]:
    """Return what is wrong with an answer."""
    refused = answer.status_code >= 400
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    wrong = {
        "failed": answer.status_code >= 500,
        "tells where its files are": str(folder) in answer.text,
        "tells the token": TOKEN in answer.text,
        "tells of the program": refused and LEAKS.search(answer.text) is not None,
        "repeats all of it": refused and len(answer.text) > MOST_CHARACTERS,
        "has no sentence": refused and not (is_json and answer.json()["detail"].endswith(ENDS)),
        "is a page": "text/html" in answer.headers.get("content-type", "")
        and "attachment" not in answer.headers.get("content-disposition", ""),
    }
    shown = f"{what!r:.200} -> {answer.status_code} {answer.text[:200]}"
    return [f"{name}: {shown}" for name, is_wrong in wrong.items() if is_wrong]


@pytest.mark.timeout(180)
def test_no_request_makes_the_app_fail(
    client: TestClient, trained: Trained, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    schema = client.get("/api/v1/openapi.json").json()
    before = tree(folder)
    wanted = list(hostile_requests(schema, ids_of(client, trained)))
    assert len(wanted) >= 500
    found: list[str] = []

    with caplog.at_level(logging.ERROR):
        for request in wanted:
            found += problems(send(client, request), request, folder)

    assert found == []
    assert [record.message for record in caplog.records] == []
    assert tree(folder) == before
    assert client.get("/healthz").json() == {"status": "ok"}


@pytest.mark.timeout(120)
def test_no_file_makes_the_app_fail_or_leaves_its_corpus(
    client: TestClient, services: Services, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = tree(folder)
    files = list(hostile_files())
    found: list[str] = []

    with caplog.at_level(logging.ERROR):
        for number, (name, path, content) in enumerate(files):
            if number % 20 == 0:
                body = {"name": f"hostile {number}"}
                corpus_id = client.post("/api/v1/corpora", json=body).json()["id"]
            answer = client.post(
                f"/api/v1/corpora/{corpus_id}/files",
                files=[(name, ("name.txt", content))],
                data={"paths": path},
            )
            found += problems(answer, (name, path, content[:40]), folder)

    assert found == []
    assert len(files) >= 100
    assert [record.message for record in caplog.records] == []
    assert tree(folder) == before
    documents = services.home.corpus_dir(corpus_id).parent
    stored = [path for path in documents.rglob("*") if not path.is_dir()]
    assert stored
    assert not any(path.is_symlink() for path in stored)
    assert not any(path.name == "out.txt" for path in stored)
    assert client.get("/healthz").json() == {"status": "ok"}
