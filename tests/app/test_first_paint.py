"""What a page holds before any script of Gradio has run."""

import re

import pytest
from fastapi.testclient import TestClient

from app.services.services import Services
from app.web import SCRIPTS, STYLES, make_app
from tests.app.real_app import BASE, TOKEN

LINK = re.compile(r'(?:href|src)="/assets-retro/([\w.]+)\?v=\w+"')


@pytest.fixture
def pages(services: Services) -> TestClient:
    return TestClient(make_app(services, token=TOKEN), base_url=BASE)


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_styles_and_scripts_are_in_the_head(pages: TestClient, encoding: str) -> None:
    headers = {
        "authorization": f"Bearer {TOKEN}",
        "accept": "text/html",
        "accept-encoding": encoding,
    }

    answer = pages.get("/jobs", headers=headers)

    head, _, body = answer.text.partition("</head>")
    assert LINK.findall(head) == ["theme.js", *STYLES, *SCRIPTS]
    assert LINK.findall(body) == []
    assert re.search(r"theme\.js\?v=\w+\"></script>", head), "it must run before the first paint"
    for address in re.findall(r'"(/assets-retro/[^"]+)"', head):
        assert pages.get(address, headers=headers).status_code == 200


def test_the_login_page_has_the_theme_and_nothing_else_is_free(pages: TestClient) -> None:
    answer = pages.get("/login")

    sources = re.findall(r'src="([^"]+)"', answer.text)
    assert sources == ["/assets-retro/theme.js"]
    assert pages.get(sources[0]).status_code == 200
    assert pages.get("/assets-retro/app.js").status_code == 401


def test_other_answers_are_passed_on_as_they_are(pages: TestClient) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}

    docs = pages.get("/api/v1/docs", headers=headers)

    assert LINK.findall(docs.text) == []
    assert pages.get("/healthz").json() == {"status": "ok"}
    assert pages.get("/api/v1/jobs", headers=headers).json() == {"jobs": []}
    assert pages.head("/", headers={**headers, "accept": "text/html"}).status_code == 200
