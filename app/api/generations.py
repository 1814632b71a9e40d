"""The REST routes under ``/api/v1/generations``."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from app.api.body import Body, Items
from app.api.event_stream import EventStream, too_many_as_429
from app.api.idempotency import idempotent_route
from app.exports import export_generation
from app.leaving import unless_gone
from app.services.services import Services

Json = dict[str, Any]
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: start, then for each chunk chunk_start, neighbors, "
        "token and chunk_end, and at last done, after error if it failed.",
        "content": {"text/event-stream": {}},
    }
}


class Sampling(Body):
    """How tokens are drawn; fields left out have the defaults of the sampling settings."""

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    stop: Items[str] | None = None
    seed: int | None = None
    num_samples: int | None = None
    num_neighbors: int | None = None

    def sampling(self) -> dict[str, Any]:
        """Return the sampling settings that were given."""
        values = {name: getattr(self, name) for name in Sampling.model_fields}
        return {name: value for name, value in values.items() if value is not None}


class NewGeneration(Sampling):
    """Writes a text; ``stream`` answers with server-sent events.

    ``steering`` has ``exclude_chunks``, ``exclude_documents`` and ``given``, which maps positions
    of chunks to exactly the neighbors they read.
    """

    run_id: str
    prompt: str
    checkpoint_step: int | None = None
    corpus_id: str | None = None
    retrieval: str = "on"
    steering: dict[str, Any] | None = None
    stream: bool = False


class NewBranch(Sampling):
    """Writes a text that takes over the chunks of another one before ``chunk_index``.

    Fields left out are as they were. Exclusions add to those of before. ``neighbors`` are exactly
    those that the chunk at ``chunk_index`` reads, each with ``chunk_id`` or ``text`` and
    ``continuation``.
    """

    chunk_index: int
    variant: str | None = None
    retrieval: str | None = None
    exclude_chunks: Items[int] = Field(default_factory=list)
    exclude_documents: Items[str] = Field(default_factory=list)
    neighbors: Items[dict[str, Any]] | None = None
    stream: bool = False


class Continuation(Body):
    """Goes on after the last token of a text."""

    max_new_tokens: int | None = None
    variant: str | None = None
    stream: bool = False


def make_router(services: Services) -> APIRouter:
    """Return the routes of generations."""
    router = APIRouter(
        tags=["generations"], prefix="/generations", route_class=idempotent_route(services.store)
    )
    _add_writing(router, services)
    _add_reading(router, services)
    return router


def _add_writing(router: APIRouter, services: Services) -> None:
    generations = services.generations

    @router.post("", response_model=None)
    async def create(body: NewGeneration, request: Request) -> Json | Response:
        """Write a text; answers when it is finished, or streams events."""

        def start() -> Json:
            return generations.start(
                run_id=body.run_id,
                prompt=body.prompt,
                checkpoint_step=body.checkpoint_step,
                corpus_id=body.corpus_id,
                retrieval=body.retrieval,
                sampling=body.sampling(),
                steering=body.steering,
            )

        if body.stream:
            return EventStream(generations, lambda: str(start()["id"]))
        with too_many_as_429():
            written = await unless_gone(request.receive, generations.write(start))
        if written is None:
            return Response()
        return await run_in_threadpool(generations.result, written)

    @router.post("/{generation_id}/branch", status_code=202, response_model=None)
    async def branch(generation_id: str, body: NewBranch) -> Json | Response:
        """Begin a text that takes another way from a chunk on; answers at once, or streams."""

        def start() -> Json:
            return generations.branch(
                generation_id,
                chunk_index=body.chunk_index,
                variant=body.variant,
                retrieval=body.retrieval,
                exclude_chunks=body.exclude_chunks,
                exclude_documents=body.exclude_documents,
                neighbors=body.neighbors,
                **body.sampling(),
            )

        if body.stream:
            return EventStream(generations, lambda: str(start()["id"]))
        return await run_in_threadpool(start)

    @router.post("/{generation_id}/continue", status_code=202, response_model=None)
    async def go_on(generation_id: str, body: Continuation | None = None) -> Json | Response:
        """Begin a text that goes on after the last token; answers at once, or streams."""
        wanted = body or Continuation()

        def start() -> Json:
            return generations.continue_text(
                generation_id, max_new_tokens=wanted.max_new_tokens, variant=wanted.variant
            )

        if wanted.stream:
            return EventStream(generations, lambda: str(start()["id"]))
        return await run_in_threadpool(start)

    @router.post("/{generation_id}/stop")
    def stop(generation_id: str) -> Json:
        """Stop writing; what is written stays."""
        return generations.stop(generation_id)


def _add_reading(router: APIRouter, services: Services) -> None:
    generations = services.generations

    @router.get("")
    def list_generations(
        run_id: str | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 50
    ) -> Json:
        """The newest texts, without their chunks."""
        return {"generations": generations.list_generations(limit, run_id)}

    @router.get("/{generation_id}")
    def get(generation_id: str) -> Json:
        """A text as it stands."""
        return generations.get(generation_id)

    @router.get("/{generation_id}/events", response_class=StreamingResponse, responses=EVENTS)
    async def events(generation_id: str) -> Response:
        """What happens in a text, from its beginning; many clients may read it at once."""
        return EventStream(generations, lambda: generation_id)

    @router.get("/{generation_id}/export", response_class=Response)
    def export(generation_id: str, format: str = "json") -> Response:
        """A text as a file: ``json``, ``markdown`` or ``html``."""
        made = export_generation(generations.get(generation_id), format)
        return Response(
            made.content,
            media_type=made.media_type,
            headers={
                "content-disposition": f'attachment; filename="{made.file_name}"',
                "cache-control": "no-store",
            },
        )

    @router.delete("/{generation_id}", status_code=204)
    def delete(generation_id: str) -> Response:
        """Delete a text; those that branched from it stay whole."""
        generations.delete(generation_id)
        return Response(status_code=204)
