"""Requests made from the OpenAPI description: what is answered is what it says."""

import logging
import shutil
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.types import ASGIApp, Receive, Scope, Send

from app.services.services import Services
from app.web import guard, make_rest_app
from jobs.home import Home
from jobs.store.store import Store
from tests.app.real_app import LIMITS, TOKEN, Trained

pytestmark = [
    pytest.mark.slow,
    # Of the library itself, while it is imported and when it makes examples.
    pytest.mark.filterwarnings("ignore"),
]

EXAMPLES = 8
"""For each operation."""
SEED = 20_211_204
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, trained: Trained) -> Iterator[ASGIApp]:
    home = Home(tmp_path_factory.mktemp("schemathesis") / "home")
    shutil.copytree(trained.services.home.path, home.path)
    services = Services(home, Store(home.database_url()), limits=LIMITS)
    gated = guard(make_rest_app(services), TOKEN)

    async def without_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        # A client is made for each request, and the first to end would close the services.
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await gated(scope, receive, send)

    yield without_lifespan
    services.generations.close()
    services.store.close()


@pytest.fixture(scope="module")
def description(app: ASGIApp) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return schemathesis.openapi.from_asgi("/api/v1/openapi.json", app, headers=HEADERS)


@pytest.mark.timeout(300)
def test_answers_are_as_described(
    description: Any, trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    ids = {"corpus_id": trained.corpus_id, "run_id": trained.run_id}
    operations = [result.ok() for result in description.get_all_operations()]
    failures: list[str] = []

    with caplog.at_level(logging.ERROR):
        for operation in operations:
            for known in ({}, ids):
                if known and not any(f"{{{name}}}" in operation.path for name in known):
                    continue
                try:
                    _run(operation, known)
                except (Exception, BaseExceptionGroup) as error:
                    logging.getLogger(__name__).info("it failed", exc_info=error)
                    failures.append(f"{operation.label}: {error!r:.1500}")

    assert len(operations) > 40
    assert failures == []
    assert [record.message for record in caplog.records] == []


def _run(operation: Any, known: dict[str, str]) -> None:
    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def run(case: Any) -> None:
        for name, value in known.items():
            # A real id leads beyond the first check.
            if name in (case.path_parameters or {}) and operation.method != "delete":
                case.path_parameters[name] = value
        case.call_and_validate(headers=HEADERS, checks=CHECKS)

    run()
