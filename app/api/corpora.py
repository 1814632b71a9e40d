"""The REST routes under ``/api/v1/corpora``."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import ConfigDict
from starlette.concurrency import run_in_threadpool

from app.api.body import Body
from app.api.idempotency import idempotent_route
from app.multipart import read_files
from app.services.services import Services
from retro.errors import InputError

UNPACKED_AT_ONCE = 4
"""Uploads; others wait, so that threads are left for all that takes a moment."""
Json = dict[str, Any]
ChunkId = Annotated[int, Path(description="Row of the retrieval database.")]
Page = Annotated[int | None, Query(ge=1, le=2**31, description="Counted from 1.")]
DocumentPath = Annotated[str, Path(description="Relative path of the document, with its slashes.")]


def _example(value: Json) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


class NewCorpus(Body):
    """Makes a corpus, empty or filled with a built-in sample."""

    model_config = _example({"name": "my notes", "settings": {"chunk_size": 32}})

    name: str
    sample: str | None = None
    settings: dict[str, Any] | None = None


class CorpusChange(Body):
    """Renames a corpus, or changes the settings of its next build by name."""

    model_config = _example({"name": "letters", "settings": {"num_neighbors": 4}})

    name: str | None = None
    settings: dict[str, Any] | None = None


class BuildRequest(Body):
    """Builds a corpus; settings replace those of the corpus by name.

    Two settings are for this build alone: ``tokenizer_run_id``, the run whose tokenizer and
    chunk size the corpus takes, and ``new_tokenizer``, true to train another one.
    """

    model_config = _example({"settings": {"num_neighbors": 4}})

    settings: dict[str, Any] | None = None


class CopyRequest(Body):
    """Copies a corpus; with a run, for its model."""

    model_config = _example({"name": "letters, for the second model", "run_id": "k3v9x2m1q8zt"})

    name: str | None = None
    run_id: str | None = None


class SearchRequest(Body):
    """Looks for the chunks nearest to a text, or to a chunk of the corpus."""

    model_config = _example({"text": "how to read a file line by line", "k": 4})

    text: str | None = None
    chunk_id: int | None = None
    k: int = 5


def make_router(services: Services) -> APIRouter:
    """Return the routes of corpora."""
    router = APIRouter(
        tags=["corpora"], prefix="/corpora", route_class=idempotent_route(services.store)
    )
    unpacking = asyncio.Semaphore(UNPACKED_AT_ONCE)

    @router.get("", summary="List the corpora")
    def list_corpora() -> Json:
        """All corpora with state, counts and settings, the newest first."""
        return {"corpora": services.corpora.list_corpora()}

    @router.post("", status_code=201, summary="Make a corpus")
    def create(body: NewCorpus) -> Json:
        """Make a corpus, empty or, with `sample`, filled with a built-in sample.

        `settings` are those of its builds; what is left out has its default.
        """
        return services.corpora.create(body.name, sample=body.sample, settings=body.settings)

    @router.get("/{corpus_id}", summary="Show a corpus")
    def get(corpus_id: str) -> Json:
        """State, counts, settings, facts of the last build, and what has changed since then."""
        return services.corpora.get(corpus_id)

    @router.patch("/{corpus_id}", summary="Rename a corpus or change its settings")
    def change(corpus_id: str, body: CorpusChange) -> Json:
        """Change the name, or settings for the next build; what is left out stays as it is."""
        return services.corpora.change(corpus_id, name=body.name, settings=body.settings)

    @router.delete("/{corpus_id}", status_code=204, summary="Delete a corpus")
    def delete(corpus_id: str) -> Response:
        """Delete a corpus and free its disk; refused while a run needs it."""
        services.corpora.delete(corpus_id)
        return Response(status_code=204)

    @router.get("/{corpus_id}/versions", summary="List the versions of a corpus")
    def versions(corpus_id: str) -> Json:
        """What the corpus was after each build that made something new, the newest first.

        A version is `current`, or `kept` because runs were trained on it, or `replaced`.
        """
        return {"versions": services.corpora.versions(corpus_id)}

    @router.get("/{corpus_id}/sizes", summary="Show what a corpus takes on the disk")
    def sizes(corpus_id: str) -> Json:
        """Bytes by part: documents, tokenizer, database, keys, index, kept versions."""
        return {"bytes": services.corpora.sizes(corpus_id)}

    @router.post("/{corpus_id}/files", summary="Upload files")
    async def add_files(corpus_id: str, request: Request) -> Json:
        """Take files: parts `files`, and a part `paths` for each with its relative path.

        Zip and gzip files are unpacked. A line of a `.jsonl` file is a document; `text_field`
        names the field that holds its text. A text that the corpus has under another path is
        skipped, unless `keep_duplicates` is true. The answer tells of each file what became of
        it: `accepted` (added, replaced or unchanged) or `skipped` with a reason.
        """
        await run_in_threadpool(services.uploads.check_open, corpus_id)
        async with read_files(request, services.uploads.limits) as wanted, unpacking:
            return await run_in_threadpool(
                services.uploads.add,
                corpus_id,
                wanted.files,
                text_field=wanted.text_field,
                keep_duplicates=wanted.keep_duplicates,
            )

    @router.post("/{corpus_id}/build", status_code=202, summary="Build a corpus")
    def build(corpus_id: str, body: BuildRequest | None = None) -> Json:
        """Submit a build; what is unchanged since the last one is not computed again."""
        return services.corpora.build(corpus_id, body.settings if body else None)

    @router.post("/{corpus_id}/copy", status_code=202, summary="Copy a corpus")
    def copy(corpus_id: str, body: CopyRequest | None = None) -> Json:
        """Copy the documents into a new corpus and submit its build.

        With `run_id`, the copy takes tokenizer and chunk size of that run's model, so that
        the model can write from it.
        """
        wanted = body or CopyRequest()
        return services.corpora.copy(corpus_id, name=wanted.name, run_id=wanted.run_id)

    @router.post("/{corpus_id}/train", status_code=202, summary="Build a corpus and train a model")
    def build_and_train(corpus_id: str) -> Json:
        """Submit a build, if one is needed, and a run with defaults that waits for it."""
        return services.doors.build_and_train(corpus_id)

    @router.get("/{corpus_id}/documents", summary="List the documents")
    def documents(
        corpus_id: str,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
        contains: Annotated[str, Query(max_length=200, description="Part of the path.")] = "",
    ) -> Json:
        """Documents by path, with their chunks and whether they are held out."""
        return services.corpora.documents(corpus_id, limit, offset, contains)

    @router.get("/{corpus_id}/documents/{path:path}", summary="Read a document")
    def document(
        corpus_id: str,
        path: DocumentPath,
        page: Page = None,
        chunk_id: Annotated[int | None, Query(ge=0, le=2**53)] = None,
        start: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    ) -> Json:
        """A page of the text with its chunks: page `page`, or that of a chunk or a character."""
        return services.corpora.document(corpus_id, path, page=page, chunk_id=chunk_id, start=start)

    @router.delete(
        "/{corpus_id}/documents/{path:path}", status_code=204, summary="Remove a document"
    )
    def remove_document(corpus_id: str, path: DocumentPath) -> Response:
        """Remove a document; it leaves the index with the next build."""
        services.corpora.remove_document(corpus_id, path)
        return Response(status_code=204)

    @router.get("/{corpus_id}/chunks/{chunk_id}", summary="Show a chunk")
    def chunk(corpus_id: str, chunk_id: ChunkId) -> Json:
        """One chunk with its place and its stored neighbors."""
        return services.corpora.chunk(corpus_id, chunk_id)

    @router.post("/{corpus_id}/search", summary="Find the nearest chunks")
    def search(corpus_id: str, body: SearchRequest) -> Json:
        """Find the chunks nearest to `text`, or to the chunk `chunk_id`, with continuations."""
        if (body.text is None) == (body.chunk_id is None):
            raise InputError("A search needs either text or chunk_id, and not both. Send one.")
        began = time.perf_counter()
        if body.chunk_id is not None:
            found = services.corpora.search_like(corpus_id, body.chunk_id, body.k)
        else:
            found = services.corpora.search(corpus_id, body.text or "", body.k)
        return {"neighbors": found, "seconds": round(time.perf_counter() - began, 4)}

    return router
