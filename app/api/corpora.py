"""The REST routes under ``/api/v1/corpora``."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from app.api.body import Body
from app.multipart import read_files
from app.services.services import Services

Json = dict[str, Any]


class NewCorpus(Body):
    """Makes a corpus, empty or filled with a built-in sample."""

    name: str
    sample: str | None = None
    settings: dict[str, Any] | None = None


class BuildRequest(Body):
    """Builds a corpus; settings replace those of the corpus by name.

    Two settings are for this build alone: ``tokenizer_run_id``, the run whose tokenizer and
    chunk size the corpus takes, and ``new_tokenizer``, true to train another one.
    """

    settings: dict[str, Any] | None = None


class CopyRequest(Body):
    """Copies a corpus; with a run, for its model."""

    name: str | None = None
    run_id: str | None = None


class SearchRequest(Body):
    """Looks for the chunks nearest to a text."""

    text: str
    k: int = 5


def make_router(services: Services) -> APIRouter:
    """Return the routes of corpora."""
    router = APIRouter(tags=["corpora"], prefix="/corpora")

    @router.get("")
    def list_corpora() -> Json:
        """All corpora."""
        return {"corpora": services.corpora.list_corpora()}

    @router.post("", status_code=201)
    def create(body: NewCorpus) -> Json:
        """Make a corpus, empty or filled with a sample."""
        return services.corpora.create(body.name, sample=body.sample, settings=body.settings)

    @router.get("/{corpus_id}")
    def get(corpus_id: str) -> Json:
        """State, counts, settings."""
        return services.corpora.get(corpus_id)

    @router.delete("/{corpus_id}", status_code=204)
    def delete(corpus_id: str) -> Response:
        """Delete a corpus and free its disk."""
        services.corpora.delete(corpus_id)
        return Response(status_code=204)

    @router.post("/{corpus_id}/files")
    async def add_files(corpus_id: str, request: Request) -> Json:
        """Take files: parts ``files``, and a part ``paths`` per file with its relative path."""
        await run_in_threadpool(services.uploads.check_open, corpus_id)
        async with read_files(request, services.uploads.limits) as files:
            return await run_in_threadpool(services.uploads.add, corpus_id, files)

    @router.post("/{corpus_id}/build", status_code=202)
    def build(corpus_id: str, body: BuildRequest | None = None) -> Json:
        """Submit a build."""
        return services.corpora.build(corpus_id, body.settings if body else None)

    @router.post("/{corpus_id}/copy", status_code=202)
    def copy(corpus_id: str, body: CopyRequest | None = None) -> Json:
        """Copy the documents into a new corpus and submit its build.

        With ``run_id``, the copy takes tokenizer and chunk size of that run's model, so that
        the model can write from it.
        """
        wanted = body or CopyRequest()
        return services.corpora.copy(corpus_id, name=wanted.name, run_id=wanted.run_id)

    @router.post("/{corpus_id}/train", status_code=202)
    def build_and_train(corpus_id: str) -> Json:
        """Submit a build, if one is needed, and a run with defaults that waits for it."""
        return services.doors.build_and_train(corpus_id)

    @router.get("/{corpus_id}/documents")
    def documents(
        corpus_id: str,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
    ) -> Json:
        """What is in a corpus."""
        return services.corpora.documents(corpus_id, limit, offset)

    @router.get("/{corpus_id}/chunks/{chunk_id}")
    def chunk(corpus_id: str, chunk_id: int) -> Json:
        """One chunk with its place and its neighbors."""
        return services.corpora.chunk(corpus_id, chunk_id)

    @router.post("/{corpus_id}/search")
    def search(corpus_id: str, body: SearchRequest) -> Json:
        """Find the nearest chunks."""
        return {"neighbors": services.corpora.search(corpus_id, body.text, body.k)}

    return router
